//! Whatever goes wrong has one form: in the plugin's own words, and in those of the host, to which `refusals.json`
//! declares the form.

use keepgate_sdk::{Content, Failure, Plugin};

use super::*;

#[test]
fn the_form_that_is_declared_is_the_plugins_own() {
    let _host = Host::new();
    let declared: Value = serde_json::from_str(include_str!("../../refusals.json")).unwrap();
    assert_eq!(declared["body"], json!({"message": "{reason}", "error": "{message}"}));
    let why = || "because".to_owned();
    for (failure, error) in [
        (Failure::NotFound, None),
        (Failure::Denied(why()), Some("because")),
        (Failure::PreconditionFailed, None),
        (Failure::TooLarge(7), Some("a backup needs no body; send none")),
        (Failure::OutOfRange(7), None),
        (Failure::method_not_allowed("GET"), None),
        (Failure::Unavailable(why()), Some("because")),
        (Failure::Busy(why()), Some("because")),
        (Failure::Internal(why()), None),
        (Failure::NoSpace, Some("no space left in the store")),
    ] {
        let reply = Etcd::refuse(&failure).unwrap();
        let content_type = reply.headers.iter().find(|(name, _)| name == "content-type");
        assert_eq!(declared["content_type"], content_type.unwrap().1, "{failure:?}");
        let Content::Bytes(body) = reply.content else { panic!("{failure:?}") };
        let own: Value = serde_json::from_slice(&body).unwrap();
        let message = &declared["reasons"][reply.status.to_string()];
        let mut expected = json!({ "message": message });
        if let Some(error) = error {
            expected["error"] = error.into();
        }
        assert_eq!(own, expected, "{failure:?}");
    }
    // Only the host knows whose fault a time-out is.
    assert!(Etcd::refuse(&Failure::TimedOut).is_none());
}

#[test]
fn a_store_that_is_away_is_the_gateways_trouble_and_not_a_bug() {
    let reply = Etcd::refuse(&Failure::Unavailable("store \"main\" is away".to_owned())).unwrap();
    assert_eq!(reply.status, 503);
}

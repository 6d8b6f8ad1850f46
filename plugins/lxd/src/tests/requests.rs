//! What is refused at once, envelopes, and lists.

use keepgate_sdk::{Content, Failure, Plugin};

use super::*;

#[test]
fn a_request_that_makes_no_sense_is_refused_with_400() {
    let host = host(&json!({}));
    for target in [
        "/1.0/instances/2u/backups",
        "/1.0/instances/u_2/backups",
        "/1.0/instances/%2e/backups",
        "/1.0/instances/a%2fb/backups",
        "/1.0/instances/u2-/backups",
        "/1.0/instances/u2/backups?optimize=maybe",
        "/1.0/instances/u2/backups?partSize=1",
        "/1.0/instances/u2/backups?partSize=x",
        "/1.0/instances/u2/backups?tags=%3D",
        "/1.0/instances/u2/backups?compression=lz4",
        "/1.0/instances/u2/backups?project=a/b",
        "/1.0/instances/u2/backups?notifyEndpoint=http://h/",
        "/1.0/instances/u2/backups?notifyEndpoint=ftp://h/",
    ] {
        let reply = send(&host, "POST", target);
        let error = json_of(&reply);
        assert_eq!(reply.status, 400, "{target}: {error}");
        assert_eq!((&error["type"], &error["error_code"]), (&json!("error"), &json!(400)));
        assert_eq!((&error["code"], &error["status_code"]), (&json!(400), &json!(0)));
        assert!(error["error"].as_str().is_some_and(|why| !why.is_empty()));
    }
    assert!(host.sent("lxd").is_empty() && host.keys().is_empty());
    for target in ["/1.0/instances/u2/backups/%2e%2e", "/1.0/instances/u2/backups/a%2Fb"] {
        assert_eq!(send(&host, "DELETE", target).status, 400, "{target}");
    }
    assert_eq!(send(&host, "GET", "/1.0/instances").status, 404);
    assert_eq!(send(&host, "GET", "/1.0/operations/job-9").status, 404);
    let reply = send(&host, "PUT", "/1.0/instances/u2/backups");
    assert_eq!((reply.status, json_of(&reply)["code"].clone()), (405, json!(405)));
    assert!(reply.header("allow").unwrap().contains("POST"));
}

#[test]
fn lxd_that_is_away_is_503_and_an_unknown_instance_404() {
    let host = host(&json!({}));
    host.upstream(
        "lxd",
        &[
            TestExchange::new("GET", "/1.0/instances/u2").silent(),
            refuses("GET", "/1.0/instances/u2", 404, "Instance not found"),
            refuses("GET", "/1.0/instances/u2", 403, "not authorized"),
        ],
    );
    let reply = send(&host, "POST", "/1.0/instances/u2/backups");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("10")));
    assert_eq!(send(&host, "POST", "/1.0/instances/u2/backups").status, 404);
    let reply = send(&host, "POST", "/1.0/instances/u2/backups");
    assert_eq!(reply.status, 503);
    assert!(json_of(&reply)["error"].as_str().unwrap().contains("does not trust"));
    assert!(host.keys().is_empty() && host.jobs().is_empty(), "no name is claimed");
}

#[test]
fn users_have_their_instances() {
    let host = host(&json!({"instances": {"bob": ["u*", "x"]}}));
    host.put("u2/b1_instance.tar.gz", b"12");
    host.put("v2/b1_instance.tar.gz", b"123");
    let get = |user: &str, target: &str| host.get(target).user(user).send::<Lxd>();
    assert_eq!(get("bob", "/1.0/instances/v2/backups").status, 403);
    assert_eq!(json_of(&get("bob", "/1.0/instances/v2/backups"))["error"], "not authorized");
    assert_eq!(get("bob", "/1.0/instances/u2/backups").status, 200);
    let of = |user: &str| {
        json_of(&get(user, "/1.0/instances/*/backups"))["metadata"].as_array().unwrap().len()
    };
    assert_eq!((of("bob"), of("ann")), (1, 2));
}

/// A bucket that lxmin has written.
#[test]
fn what_lxmin_has_stored_is_listed_shown_and_removed_exactly() {
    let host = host(&json!({}));
    for key in [
        "u2/backup_2022-02-16-04-1040_instance.tar.gz",
        "u2/backup_2022-02-16-04-1040_profile_000_default.yaml",
        "u2/backup_2022-02-16-04-1040-2_instance.tar.gz",
        "u2/backup_2022-02-16-04-1040-2_profile_000_default.yaml",
        "u20/backup_2022-02-16-04-1040_instance.tar.gz",
        "web_u2/backup_2022-02-16-04-1040_instance.tar.gz",
        "u2/other.txt",
    ] {
        host.put(key, b"bytes");
    }
    let names = |target: &str| {
        let reply = json_of(&send(&host, "GET", target));
        assert_eq!((&reply["type"], &reply["status_code"]), (&json!("sync"), &json!(200)));
        let infos = reply["metadata"].as_array().unwrap().clone();
        infos
            .iter()
            .map(|info| format!("{} {}", info["instance"], info["name"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(names("/1.0/instances/u2/backups").len(), 2);
    assert_eq!(names("/1.0/instances/*/backups").len(), 3);
    assert_eq!(names("/1.0/instances/%2A/backups?project=web"), [format!("\"u2\" \"{NAME}\"")]);
    assert_eq!(names("/1.0/instances/nobody/backups"), [""; 0]);
    for name in [BASE, NAME] {
        let info = json_of(&send(&host, "GET", &format!("/1.0/instances/u2/backups/{name}")));
        assert_eq!(info["metadata"]["size"], 5);
        assert_eq!(
            (&info["metadata"]["optimized"], &info["metadata"]["tags"]),
            (&json!(false), &json!({}))
        );
        assert_eq!(info["metadata"].get("state"), None);
    }
    for prefix in ["backup_2022", "b", "backup_2022-02-16-04-104"] {
        let target = format!("/1.0/instances/u2/backups/{prefix}");
        assert_eq!(send(&host, "DELETE", &target).status, 404);
        assert_eq!(send(&host, "GET", &target).status, 404);
    }
    assert_eq!(host.keys().len(), 7);
    let target = format!("/1.0/instances/u2/backups/{NAME}");
    let reply = send(&host, "DELETE", &target);
    assert_eq!(json_of(&reply), json!({"type": "sync", "status": "Success", "status_code": 200}));
    assert_eq!(host.keys().len(), 5);
    assert!(host.blob("u2/backup_2022-02-16-04-1040-2_profile_000_default.yaml").is_some());
    assert_eq!(send(&host, "DELETE", &target).status, 404);
}

#[test]
fn the_form_that_is_declared_is_the_plugins_own() {
    let _host = Host::new();
    let declared: Value = serde_json::from_str(include_str!("../../refusals.json")).unwrap();
    let why = || "because".to_owned();
    for failure in [
        Failure::Denied(why()),
        Failure::Invalid(why()),
        Failure::Unavailable(why()),
        Failure::refused(409, "", why()),
    ] {
        let reply = Lxd::refuse(&failure).unwrap();
        let Content::Bytes(body) = reply.content else { panic!("{failure:?}") };
        let own: Value = serde_json::from_slice(&body).unwrap();
        let status = failure.status();
        let form = declared["body"].to_string();
        let form =
            form.replace("\"{status}\"", &status.to_string()).replace("{message}", "because");
        assert_eq!(own, serde_json::from_str::<Value>(&form).unwrap(), "{failure:?}");
    }
}

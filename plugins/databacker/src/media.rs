//! Media types: `application/vnd.databack.RESOURCE.vN+json`, of which version and format may be left out.

use keepgate_sdk::{Filled, Reply, Request};
use serde::Serialize;

use crate::problem::{Answer, Problem};

const JSON: &str = "application/json";

/// What a representation is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Config,
    LogStatus,
    TraceStatus,
    Log,
    Instance,
    InstanceList,
    Key,
    KeyList,
    ConfigRevision,
    ConfigRevisionList,
    Run,
    RunList,
    LogList,
    Webhook,
    WebhookList,
    Delivery,
    DeliveryList,
    AuditList,
}

impl Resource {
    /// Its names in media types; the first one is sent.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Config => &["config", "device-config"],
            Self::LogStatus => &["log-status"],
            Self::TraceStatus => &["trace-status"],
            Self::Log => &["log"],
            Self::Instance => &["instance"],
            Self::InstanceList => &["instance-list"],
            Self::Key => &["key"],
            Self::KeyList => &["key-list"],
            Self::ConfigRevision => &["config-revision"],
            Self::ConfigRevisionList => &["config-revision-list"],
            Self::Run => &["run"],
            Self::RunList => &["run-list"],
            Self::LogList => &["log-list"],
            Self::Webhook => &["webhook"],
            Self::WebhookList => &["webhook-list"],
            Self::Delivery => &["delivery"],
            Self::DeliveryList => &["delivery-list"],
            Self::AuditList => &["audit-list"],
        }
    }

    /// The type that is sent unless the client asks for plain JSON.
    pub(crate) fn media_type(self) -> String {
        let name = self.names().first().copied().unwrap_or_default();
        format!("application/vnd.databack.{name}.v1+json")
    }

    /// All types that stand for it, with that which is sent for each.
    fn types(self) -> Vec<(String, String)> {
        let own = self.media_type();
        let of_name = |name: &&str| {
            [".v1+json", ".v1", "+json", ""]
                .map(|rest| (format!("application/vnd.databack.{name}{rest}"), own.clone()))
        };
        let mut types: Vec<_> = self.names().iter().flat_map(of_name).collect();
        types.push((JSON.to_owned(), JSON.to_owned()));
        types
    }
}

/// The media type of a reply with this resource. Ask before anything is changed: 406 if the client takes none.
pub(crate) fn accepted(request: &Request, resource: Resource) -> Result<String, Problem> {
    let types = resource.types();
    let offered: Vec<&str> = types.iter().map(|(known, _)| known.as_str()).collect();
    let best = request.accepts(&offered);
    let sent = types.iter().find(|(known, _)| Some(known.as_str()) == best);
    sent.map(|(_, sent)| sent.clone()).ok_or_else(|| {
        let available = vec![resource.media_type(), JSON.to_owned()];
        Problem::with(406, "none of the media types in Accept can be sent", "available", available)
            .header("vary", "accept")
    })
}

/// A reply with a resource.
pub(crate) fn reply(status: u16, media_type: &str, value: &impl Serialize) -> Answer {
    let bytes = keepgate_sdk::json::to_vec(value)?;
    Ok(Reply::new(status).header("content-type", media_type).header("vary", "accept").bytes(bytes))
}

/// A reply with a page of a list; `lines` are its items as they are shown.
pub(crate) fn list<T>(
    request: &Request,
    media_type: &str,
    page: &Filled<T>,
    lines: &impl Serialize,
) -> Answer {
    let mut reply = page.reply(request, lines)?;
    reply.headers.retain(|(name, _)| name != "content-type");
    Ok(reply.header("content-type", media_type).header("vary", "accept"))
}

/// Refuses a body of another media type: 415. None at all is the resource's.
pub(crate) fn require(request: &Request, resource: Resource) -> Result<(), Problem> {
    require_or(request, resource, &[])
}

/// As [`require`], with further types that are taken.
pub(crate) fn require_or(
    request: &Request,
    resource: Resource,
    further: &[&str],
) -> Result<(), Problem> {
    let Some(sent) = request.media_type() else { return Ok(()) };
    let types = resource.types();
    if types.iter().any(|(known, _)| *known == sent) || further.contains(&sent.as_str()) {
        return Ok(());
    }
    let own = resource.media_type();
    let taken: Vec<&str> =
        [own.as_str(), JSON].into_iter().chain(further.iter().copied()).collect();
    let taken = taken.join(", ");
    let message = format!("the body is {sent:?}; send {taken}");
    Err(Problem::new(415, message).header("accept", &taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent for this `Accept`, if anything.
    fn sent(accept: &str) -> Option<String> {
        let request = Request {
            method: keepgate_sdk::Method::Get,
            base: String::new(),
            target: "/".to_owned(),
            address: None,
            id: String::new(),
            segments: Vec::new(),
            trailing_slash: false,
            query: Vec::new(),
            headers: vec![("accept".to_owned(), accept.to_owned())],
            principal: None,
            body: keepgate_sdk::Body::from_bytes(&[]),
        };
        accepted(&request, Resource::Config).ok()
    }

    #[test]
    fn version_and_format_may_be_left_out() {
        let _host = keepgate_sdk::testing::Host::new();
        let own = "application/vnd.databack.config.v1+json";
        for (accept, expected) in [
            ("", Some(own)),
            ("*/*", Some(own)),
            ("application/*", Some(own)),
            (own, Some(own)),
            ("application/vnd.databack.config.v1", Some(own)),
            ("application/vnd.databack.config+json", Some(own)),
            ("application/vnd.databack.config", Some(own)),
            ("APPLICATION/VND.Databack.Device-Config.V1+JSON", Some(own)),
            ("application/json", Some(JSON)),
            ("application/json, application/vnd.databack.config;q=0.5", Some(JSON)),
            ("application/json;q=0.4, application/vnd.databack.config;q=0.5", Some(own)),
            ("text/html, application/xhtml+xml;q=0.9, */*;q=0.8", Some(own)),
            ("application/vnd.databack.config.v1+json;foo=bar", Some(own)),
            ("application/vnd.databack.config.v9+json", None),
            ("application/vnd.databack.config.v1+yaml", None),
            ("application/vnd.databack.log", None),
            ("text/html", None),
            ("application/json;q=0", None),
        ] {
            assert_eq!(sent(accept).as_deref(), expected, "{accept}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_accept_is_answered_or_refused(text in ".{0,80}|(application/(json|vnd\\.databack\\.config)|\\*/\\*)(;q=[01](\\.[0-9]{0,4})?)?(, ?text/.{0,9})?") {
            let _host = keepgate_sdk::testing::Host::new();
            if let Some(sent) = sent(&text) {
                proptest::prop_assert!(sent == JSON || sent == Resource::Config.media_type());
            }
        }
    }
}

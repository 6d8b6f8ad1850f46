//! `GET /engines/config/{instance}`: instances fetch their configuration. Their client takes no notice of the status and
//! reads whatever comes as YAML.

use keepgate_sdk::{Call, Reply, Request};

use super::revision::{self, Revision};
use crate::caller::{self, Scope};
use crate::media::{self, Resource};
use crate::problem::{Answer, Problem};
use crate::settings::Settings;

/// `GET /engines/config/{instance}`, and `/config/{instance}`, which it was until 2026.
pub(crate) fn get(call: Call<Settings>) -> Answer {
    let id: String = call.param("instance")?;
    of_instance(&call, Some(&id))
}

/// `GET /`: for clients whose URL names nothing but the host. People with a browser are shown to the pages.
pub(crate) fn get_own(call: Call<Settings>) -> Answer {
    match call.request.accepts(&["application/json", "text/html"]) {
        Some("text/html") => Ok(Reply::new(302)
            .header("location", call.request.url(&["ui", ""]))
            .header("vary", "accept")),
        _ => of_instance(&call, None),
    }
}

fn of_instance(call: &Call<Settings>, id: Option<&str>) -> Answer {
    let instance = caller::instance(&call.request, &call.settings, id, Scope::ConfigRead)?;
    let media_type = media::accepted(&call.request, Resource::Config)?;
    match revision::current_document(&instance)? {
        Some((revision, document)) => Ok(reply(&call.request, &media_type, &revision, document)),
        None => Err(Problem::not_found("no configuration has been written for this instance yet")),
    }
}

/// A reply with a document, or a 304 if the client has it. It may contain passwords, so nobody keeps it on the way.
pub(super) fn reply(
    request: &Request,
    media_type: &str,
    revision: &Revision,
    document: Vec<u8>,
) -> Reply {
    let is_known = revision.digest.as_ref().is_some_and(|digest| request.has_version(digest));
    let reply = match is_known {
        true => Reply::new(304),
        false => Reply::ok().header("content-type", media_type).bytes(document),
    };
    let reply = reply.header("cache-control", "no-store").header("vary", "accept");
    match &revision.digest {
        Some(digest) => reply.header("etag", format!("\"{digest}\"")),
        None => reply,
    }
}

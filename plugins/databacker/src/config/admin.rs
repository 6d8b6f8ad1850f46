//! `/admin/instances/{id}/config`: administrators write configurations, look at their revisions and restore them.

use keepgate_sdk::{Call, Failure, Page, Request, json};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::check::{self, Fault};
use super::document::{self, Kind};
use super::encrypt::{self, Algorithm};
use super::revision::{self, LONGEST, New, Revision};
use super::{serve, shape};
use crate::caller::{Administrator, Wish, administrator};
use crate::instance::{Found, Instance};
use crate::media::{self, Resource};
use crate::problem::{Answer, Problem};
use crate::schedule::Schedule;
use crate::settings::Settings;

const PAGE: usize = 50;
const MOST: usize = 100;
/// How often a change is tried while others change the instance.
const ATTEMPTS: usize = 8;

/// `GET /admin/instances/{id}/config`
pub(crate) fn get(call: Call<Settings>) -> Answer {
    let (instance, media_type) = looked_at(&call, Resource::Config)?;
    match revision::current_document(&instance)? {
        Some((revision, document)) => {
            Ok(serve::reply(&call.request, &media_type, &revision, document))
        }
        None => Err(Problem::not_found(
            "no configuration has been written for this instance yet; write one with PUT",
        )),
    }
}

/// `PUT /admin/instances/{id}/config`
pub(crate) fn put(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Change)?;
    let media_type = media::accepted(&call.request, Resource::ConfigRevision)?;
    media::require(&call.request, Resource::Config)?;
    let found = admin.instance(&call.param::<String>("id")?)?;
    let algorithm = algorithm(&call.request)?;
    let body = call.request.bytes(LONGEST).map_err(|failure| match failure {
        Failure::TooLarge(_) => revision::too_long(),
        other => other,
    })?;
    let mut document = document::parse(&body).map_err(|error| {
        Problem::new(400, format!("the body: {error}; configurations are written in JSON"))
    })?;
    let kind = checked(&mut document, &found.instance)?;
    let schedule = Schedule::of(&document);
    let (kind, bytes, detail) = match algorithm {
        None => (kind, document::to_vec(&document)?, String::new()),
        Some(algorithm) => {
            let document = encrypted(algorithm, &found.instance, &document)?;
            let detail = format!(", encrypted here from {}", kind.name());
            (Kind::Encrypted, document::to_vec(&document)?, detail)
        }
    };
    let new = New { kind, bytes: &bytes, action: "config.put", detail: &detail, schedule };
    become_current(&call, found, &new, &admin, &media_type)
}

/// `POST /admin/instances/{id}/config/revisions/{n}/restore`
pub(crate) fn restore(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Change)?;
    let media_type = media::accepted(&call.request, Resource::ConfigRevision)?;
    let found = admin.instance(&call.param::<String>("id")?)?;
    let (old, bytes) = revision_of(&call, &found.instance)?;
    let mut document = document::parse(&bytes).map_err(|error| {
        Failure::Internal(format!("revision {} of a configuration: {error}", old.number()))
    })?;
    // What it is encrypted for may not be the instance's key any more.
    checked(&mut document, &found.instance)?;
    let detail = format!(", from revision {}", old.number());
    let schedule = old.schedule().cloned();
    let new = New {
        kind: old.kind(),
        bytes: &bytes,
        action: "config.restore",
        detail: &detail,
        schedule,
    };
    become_current(&call, found, &new, &admin, &media_type)
}

/// `GET /admin/instances/{id}/config/revisions`
pub(crate) fn revisions(call: Call<Settings>) -> Answer {
    let (instance, media_type) = looked_at(&call, Resource::ConfigRevisionList)?;
    let page = Page::of(&call.request, PAGE, MOST)?;
    let after = match page.after() {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            Problem::new(400, format!("after: {text:?} is not the number of a revision"))
        })?),
    };
    let place = |revision: &Revision| revision.number().to_string();
    let filled = page.fill(revision::before(&instance.id, after), place)?;
    let shown: Vec<Value> = filled.items.iter().map(Revision::shown).collect();
    media::list(&call.request, &media_type, &filled, &shown)
}

/// `GET /admin/instances/{id}/config/revisions/{n}`
pub(crate) fn revision(call: Call<Settings>) -> Answer {
    let (instance, media_type) = looked_at(&call, Resource::ConfigRevision)?;
    let (revision, document) = revision_of(&call, &instance)?;
    let shown = json::with_member(&revision.shown(), "config", &document)?;
    Ok(serve::reply(&call.request, &media_type, &revision, shown))
}

/// The instance whose configuration an administrator looks at, and the media type of the reply.
fn looked_at(call: &Call<Settings>, resource: Resource) -> Result<(Instance, String), Problem> {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let media_type = media::accepted(&call.request, resource)?;
    Ok((admin.instance(&call.param::<String>("id")?)?.instance, media_type))
}

/// The revision that the path names, with its document.
fn revision_of(call: &Call<Settings>, instance: &Instance) -> Result<(Revision, Vec<u8>), Problem> {
    let missing = || Problem::not_found("the instance has no such revision of its configuration");
    let number: u64 = call.param::<String>("n")?.parse().map_err(|_| missing())?;
    let revision = Revision::find(&instance.id, number)?.ok_or_else(missing)?;
    let document = revision.document()?.ok_or_else(missing)?;
    Ok((revision, document))
}

/// The cipher that `?encrypt=` asks for.
fn algorithm(request: &Request) -> Result<Option<Algorithm>, Problem> {
    let Some(name) = request.query("encrypt") else { return Ok(None) };
    let names = Algorithm::NAMES.join(" or ");
    Algorithm::named(name).map(Some).ok_or_else(|| {
        Problem::new(
            400,
            format!("encrypt: {name:?} is no cipher that clients know; write {names}"),
        )
    })
}

/// Checks a document, which gets a member `metadata` if it has none. Fails with a 422 that lists what is wrong.
fn checked(document: &mut Value, instance: &Instance) -> Result<Kind, Problem> {
    let faults = check::faults(document, instance.encryption_public_key.as_deref());
    let kind = document.get("kind").and_then(Value::as_str).and_then(Kind::named);
    match (document, kind) {
        (Value::Object(members), Some(kind)) if faults.is_empty() => {
            members.entry("metadata").or_insert_with(|| json!({}));
            Ok(kind)
        }
        _ => Err(refused(&faults)),
    }
}

fn refused(faults: &[Fault]) -> Problem {
    let count = match faults.len() {
        1 => "1 fault".to_owned(),
        check::MOST => format!("{} faults or more", check::MOST),
        count => format!("{count} faults"),
    };
    Problem::with(422, &format!("the configuration has {count}"), "errors", json!(faults))
}

/// An encrypted configuration with this document in it.
fn encrypted(
    algorithm: Algorithm,
    instance: &Instance,
    document: &Value,
) -> Result<Value, Problem> {
    let fault = |message: &str| {
        let path = "encryptionPublicKey".to_owned();
        refused(&[Fault { path, message: message.to_owned() }])
    };
    let key = instance.encryption_public_key.as_deref().ok_or_else(|| {
        fault("the instance has no key to encrypt for; set its encryptionPublicKey first")
    })?;
    let spec = encrypt::spec(algorithm, key, &document::to_vec(document)?)?;
    let spec = spec.ok_or_else(|| {
        fault("everybody could read what is encrypted for the instance's key; set another one")
    })?;
    Ok(json!({
        "version": shape::VERSION,
        "kind": Kind::Encrypted,
        "metadata": {},
        "spec": spec,
    }))
}

/// Makes a document the current one, unless it is that already: 201 for the first one and for restored ones, 200 otherwise.
fn become_current(
    call: &Call<Settings>,
    mut found: Found,
    new: &New<'_>,
    admin: &Administrator,
    media_type: &str,
) -> Answer {
    let digest = hex::encode(Sha256::digest(new.bytes));
    let is_same = |revision: &Revision| revision.digest.as_ref() == Some(&digest);
    for _ in 0..ATTEMPTS {
        let current = revision::current(&found.instance)?;
        conditions(&call.request, current.as_ref())?;
        let is_first = current.is_none() || new.action == "config.restore";
        let (status, made) = match current.filter(is_same) {
            Some(current) => (200, Some(current)),
            None if is_first => (201, revision::write(&found, new, admin, &call.settings)?),
            None => (200, revision::write(&found, new, admin, &call.settings)?),
        };
        let id = &found.instance.id;
        let Some(revision) = made else {
            // Somebody else was faster, perhaps with something that has nothing to do with this.
            let now = admin.instance(id)?;
            if now.instance.encryption_public_key != found.instance.encryption_public_key {
                break;
            }
            found = now;
            continue;
        };
        let number = revision.number().to_string();
        let location = ["admin", "instances", id, "config", "revisions", &number];
        return Ok(media::reply(status, media_type, &revision.shown())?
            .header("location", call.request.url(&location))
            .header("etag", format!("\"{digest}\"")));
    }
    Err(Problem::new(409, "others change the instance at the same time; try again"))
}

/// The conditions of a request that replaces the current revision.
fn conditions(request: &Request, current: Option<&Revision>) -> Result<(), Problem> {
    let digest = current.and_then(|current| current.digest.as_deref());
    if let Some(tags) = request.header("if-match") {
        let own = digest.map(|digest| format!("\"{digest}\""));
        let is_named = |_: &Revision| {
            tags.split(',').map(str::trim).any(|tag| tag == "*" || Some(tag) == own.as_deref())
        };
        if !current.is_some_and(is_named) {
            let what =
                "the current configuration is not the one in If-Match; look at it and try again";
            return Err(Problem::new(412, what));
        }
    }
    if current.is_some() && request.has_version(digest.unwrap_or_default()) {
        return Err(Problem::new(412, "there is such a configuration already (If-None-Match)"));
    }
    Ok(())
}

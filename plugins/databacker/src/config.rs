//! Configurations of instances: administrators write them, instances fetch them.
//!
//! `document` reads and writes them, `shape` and `check` say what may be in them, `encrypt` makes those that only their instance reads. `revision` keeps them; `admin` and `serve` are the handlers.
//!
//! Invariant: what is kept is sealed, whatever its kind, and is served byte for byte as it was sealed.

pub(crate) mod admin;
mod check;
pub(crate) mod document;
pub(crate) mod encrypt;
pub(crate) mod revision;
pub(crate) mod serve;
mod shape;

use keepgate_sdk::Failure;
use serde_json::Value;

use crate::instance::Instance;

/// The current configuration of an instance, if it has one.
pub(crate) fn current(instance: &Instance) -> Result<Option<Value>, Failure> {
    let Some((revision, bytes)) = revision::current_document(instance)? else { return Ok(None) };
    let document = document::parse(&bytes).map_err(|error| {
        Failure::Internal(format!("revision {} of a configuration: {error}", revision.number()))
    })?;
    Ok(Some(document))
}

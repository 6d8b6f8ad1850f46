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

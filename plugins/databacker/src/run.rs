//! Runs of a backup program, as they are kept and shown. They are derived from spans, and can be derived again.

use keepgate_sdk::Timestamp;
use serde::{Deserialize, Serialize};

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Run {
    /// What the client calls it, or else the id of its trace.
    pub(crate) id: String,
    /// The instance's id.
    pub(crate) instance: String,
    pub(crate) kind: Kind,
    pub(crate) status: Status,
    pub(crate) start: Timestamp,
    /// None while it runs.
    pub(crate) end: Option<Timestamp>,
    /// How much was written to its targets.
    pub(crate) bytes: Option<u64>,
    pub(crate) exit_code: Option<i64>,
    /// Why it failed; empty if it did not.
    pub(crate) message: String,
    pub(crate) databases: Vec<String>,
    pub(crate) targets: Vec<Target>,
}

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Dump,
    Prune,
    Restore,
}

/// How a run, a part of it or an upload went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Running,
    Ok,
    Error,
    /// Its root span has not come for so long that it will not.
    Unknown,
}

/// Where a run has written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) url: String,
    pub(crate) status: Status,
}

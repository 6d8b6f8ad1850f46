//! What administrators have done: a record in the same commit as the change itself.

use keepgate_sdk::records::Commit;
use keepgate_sdk::{Failure, Timestamp};
use serde::{Deserialize, Serialize};

use crate::caller::Administrator;
use crate::instance::uuid;
use crate::layout;

/// What somebody has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) time: Timestamp,
    pub(crate) by: String,
    /// As in `instance.add`.
    pub(crate) action: String,
    /// The instance or the webhook.
    pub(crate) of: String,
    /// What more there is to say, never a secret.
    pub(crate) detail: String,
}

/// Adds an entry to a commit.
pub(crate) fn note(
    commit: Commit,
    by: &Administrator,
    action: &str,
    of: &str,
    detail: &str,
) -> Result<Commit, Failure> {
    let time = Timestamp::now();
    let entry = Entry {
        time,
        by: by.name.clone(),
        action: action.to_owned(),
        of: of.to_owned(),
        detail: detail.to_owned(),
    };
    commit.put_json(&layout::audit(time, &uuid()), &entry)
}

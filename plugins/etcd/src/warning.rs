//! What went wrong beside a backup that is stored. A client is told what is left undone; the log also has the cause
//! where only the operator may know it.

use std::fmt::Display;

use keepgate_sdk::Failure;

/// Something that somebody should look at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    /// For whoever asked for the backup.
    pub(crate) said: String,
    /// For the log.
    pub(crate) logged: String,
}

impl Warning {
    /// A warning without a cause that has to be kept from clients.
    pub(crate) fn new(text: String) -> Self {
        Self { logged: text.clone(), said: text }
    }

    /// What is left undone, and the failure that is the reason. The text of `internal` names paths of a disk.
    pub(crate) fn because(what: impl Display, failure: &Failure) -> Self {
        match failure {
            Failure::Internal(cause) => Self {
                said: format!("{what}: the store failed; the gateway's log says why"),
                logged: format!("{what}: {cause}"),
            },
            _ => Self::new(format!("{what}: {}", failure.message())),
        }
    }
}

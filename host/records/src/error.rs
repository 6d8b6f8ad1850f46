//! Errors. Nothing here knows HTTP; the code that serves records chooses the statuses.

/// Why a table refuses a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// A comparison does not hold; with its key.
    #[error("the record {0:?} has changed")]
    Conflict(String),
    /// The arguments make no sense; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// The table would become larger than the operator allows; the text says how large it may be.
    #[error("{0}")]
    QuotaExceeded(String),
    /// Whoever reads did not admit all of them; see [`Table::get_while`](crate::Table::get_while).
    #[error("the records that were asked for are larger than whoever asked has room for")]
    NotAdmitted,
    /// The disk is full.
    #[error("no space left for records")]
    NoSpace,
    /// The records cannot be used at the moment. A commit may have been made. The operator finds the reason in the log.
    #[error("the records cannot be used at the moment")]
    Unavailable,
}

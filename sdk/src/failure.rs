//! What a failure means outside: its words and its status.

use crate::Failure;

/// A refusal with a status that no case of [`Failure`] has: what comes nearest to it. Here is the one
/// place to change once the contract has such a case.
pub(crate) fn refused(status: u16, why: String) -> Failure {
    match status {
        405 => Failure::Unsupported(why),
        _ => Failure::Invalid(why),
    }
}

impl Failure {
    /// In words, for whoever made the request; without what is for the operator only.
    pub fn message(&self) -> &str {
        match self {
            Self::NotFound => "not found",
            Self::AlreadyExists => "another blob is stored under this name",
            Self::PreconditionFailed => "the blob is another one by now",
            Self::ChecksumMismatch => "the bytes do not have the SHA-256 that they must have",
            Self::Truncated => "the body ended before its announced length",
            Self::TooLarge(_) => "too large",
            Self::OutOfRange(_) => "no byte of the asked range is inside",
            Self::NoSpace => "no space left in the store",
            Self::Denied(why)
            | Self::Invalid(why)
            | Self::Unsupported(why)
            | Self::Unavailable(why)
            | Self::Busy(why)
            | Self::QuotaExceeded(why) => why,
            Self::TimedOut => "timed out",
            Self::Internal(_) => "internal error",
        }
    }

    /// The HTTP status that the host answers with when a plugin hands the failure back.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::AlreadyExists => 409,
            Self::PreconditionFailed => 412,
            Self::ChecksumMismatch | Self::Truncated | Self::Invalid(_) => 400,
            Self::TooLarge(_) => 413,
            Self::OutOfRange(_) => 416,
            Self::QuotaExceeded(_) | Self::NoSpace => 507,
            Self::Denied(_) => 403,
            Self::Unsupported(_) => 501,
            Self::Unavailable(_) | Self::Busy(_) => 503,
            Self::TimedOut => 504,
            Self::Internal(_) => 500,
        }
    }
}

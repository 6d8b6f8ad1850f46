//! Which failure each error of a store or body becomes.

use keepgate_store::{BodyError, StoreError};

use crate::Failure;

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::NotFound,
            StoreError::AlreadyExists => Self::AlreadyExists,
            StoreError::PreconditionFailed => Self::PreconditionFailed,
            StoreError::ChecksumMismatch { actual, .. } => Self::ChecksumMismatch(Some(actual)),
            StoreError::OutOfRange { size } => Self::OutOfRange(size),
            StoreError::NoSpace => Self::NoSpace,
            StoreError::QuotaExceeded(which) => Self::QuotaExceeded(which),
            StoreError::Denied(why) => Self::Denied(why),
            StoreError::Invalid(why) => Self::Invalid(why),
            StoreError::Unsupported(what) => Self::Unsupported(what),
            StoreError::Unavailable(what) => Self::Unavailable(what),
            StoreError::Body(error) => error.into(),
            error => Self::Internal(error.to_string()),
        }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Truncated => Self::Truncated,
            BodyError::TimedOut => Self::TimedOut,
            BodyError::TooLarge { limit } => Self::TooLarge(limit),
            BodyError::QuotaExceeded(which) => Self::QuotaExceeded(which),
            BodyError::Invalid(what) => Self::Invalid(what),
            BodyError::Mismatch { actual, .. } => Self::ChecksumMismatch(Some(actual)),
            BodyError::Unavailable(what) => Self::Unavailable(what),
            error => Self::Internal(error.to_string()),
        }
    }
}

//! Why a request failed, and what that means for a store.
//!
//! Clients are told what they can do; what the operator can do is in the log, with the bucket and the endpoint.

use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use keepgate_store::StoreError;

use super::Remote;
use super::observer::not_now;
use crate::error::explain;

/// What clients are told while the server cannot be used.
pub(crate) const BUSY: &str = "the store's server cannot be used at the moment";

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no such object or upload.
    Missing,
    /// The condition does not hold.
    Condition,
    /// Another write of the object is in progress.
    Conflict,
    /// An object is where a folder would have to be, or the other way round; some servers keep files.
    Occupied,
    /// The object does not have these bytes.
    Range,
    /// The server does not know how to do this.
    Unsupported,
    /// The credentials do not allow this or are wrong, or there is no such bucket: only the operator can mend it. The
    /// text is for operators.
    Refused(String),
    /// The server cannot be reached, is overloaded or fails. Whether it carried the request out is unknown. The text is
    /// for operators.
    Unavailable(String),
    /// The server is left alone for a while, or has too much to do. An earlier attempt may have been carried out. The
    /// text is for operators.
    Suspended(String),
    /// What else a store reports.
    Store(StoreError),
}

impl Failure {
    /// Whether the request may have been carried out.
    pub(crate) fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Suspended(_))
    }

    /// What metrics call it.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Missing => "not_found",
            Self::Condition => "condition",
            Self::Conflict | Self::Occupied => "conflict",
            Self::Range => "range",
            Self::Unsupported => "unsupported",
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
            Self::Suspended(_) => "suspended",
            Self::Store(_) => "error",
        }
    }
}

impl Remote {
    /// What a failed request means. `action` is what failed, such as "cannot list".
    pub(super) fn failure<E>(
        &self,
        action: &'static str,
        error: &SdkError<E, HttpResponse>,
    ) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.code().unwrap_or_default();
        let place = &self.place;
        let said = || match (code, error.message()) {
            ("", None) => match status {
                Some(status) => format!("status {status}"),
                None => explain(error),
            },
            (code, message) => format!("{code}: {}", message.unwrap_or("(no message)")),
        };
        let unavailable =
            |advice: &str| Failure::Unavailable(format!("{action}: {place}: {}; {advice}", said()));
        if let Some(not_now) = not_now(error) {
            return Failure::Suspended(format!("{action}: {place}: {not_now}"));
        }
        let refused =
            |advice: &str| Failure::Refused(format!("{action}: {place}: {}; {advice}", said()));
        let Some(status) = status else {
            match keys_are_missing(error) {
                Some(true) => return refused("set the credentials"),
                Some(false) => return unavailable("the credentials cannot be had at the moment"),
                None => {}
            }
            if matches!(error, SdkError::ConstructionFailure(_)) {
                return Failure::Store(StoreError::Io {
                    action,
                    path: self.options.bucket.clone().into(),
                    source: io::Error::other(said()),
                });
            }
            return unavailable("check the endpoint, its certificate and the network");
        };
        match (status, code) {
            (_, "NoSuchBucket") => refused("create the bucket, or correct its name"),
            (_, "InvalidBucketName") => refused("correct the bucket's name"),
            (_, "XAdminUserNotFound" | "InvalidAccessKeyId" | "NotSignedUp") => {
                refused("check the access key")
            }
            (_, "SignatureDoesNotMatch") => refused("check the secret key and the region"),
            (_, "RequestTimeTooSkewed") => {
                unavailable("set the clock of this machine or of the server")
            }
            (_, "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken") => {
                unavailable("renew the session token")
            }
            (301 | 307, _) | (_, "AuthorizationHeaderMalformed") => {
                refused("set the bucket's region and endpoint")
            }
            (404, _) => Failure::Missing,
            (412, _) => Failure::Condition,
            (
                409,
                "ObjectParentIsFile" | "ExistingObjectIsDirectory" | "DirectoryObjectContainsData",
            ) => Failure::Occupied,
            (409, _) => Failure::Conflict,
            (416, _) => Failure::Range,
            (403, _) if action.starts_with(REMOVAL) && locked(error.message()) => kept(),
            (_, "ObjectLocked") => kept(),
            (401 | 403, _) => refused("grant the gateway's key this right"),
            (_, "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch") => {
                unavailable("the bytes were damaged on their way")
            }
            (_, "InvalidObjectState") => unavailable("restore the blob from the archive first"),
            (_, "EntityTooLarge") => Failure::Store(StoreError::Invalid(said())),
            (507, _) | (_, "XMinioStorageFull" | "InsufficientStorage" | "QuotaExceeded") => {
                Failure::Store(StoreError::NoSpace)
            }
            (_, "KeyTooLongError" | "KeyTooLong" | "MetadataTooLarge" | "InvalidTag") => {
                Failure::Store(StoreError::Invalid(said()))
            }
            (501 | 405, _) => Failure::Unsupported,
            (408 | 429, _)
            | (500..=599, _)
            | (
                _,
                "RequestTimeout" | "SlowDown" | "Throttling" | "InternalError"
                | "ServiceUnavailable",
            ) => unavailable("the server is overloaded or failing"),
            (200..=299, _) => unavailable("its answer was cut, or is not one of S3"),
            // The answer to a HEAD has no code.
            (400, "") => refused("check the region, the keys and the session token"),
            _ => Failure::Store(StoreError::Io {
                action,
                path: self.options.bucket.clone().into(),
                source: io::Error::other(format!("{place}: {}", said())),
            }),
        }
    }

    /// What the caller of a store is told. The operator is told in the log.
    pub(crate) fn told(&self, failure: Failure) -> StoreError {
        match failure {
            Failure::Missing => StoreError::NotFound,
            Failure::Condition => StoreError::PreconditionFailed,
            Failure::Conflict => {
                StoreError::Unavailable("another write of this blob is in progress".to_owned())
            }
            Failure::Occupied => {
                StoreError::Invalid("a blob and a folder cannot have the same name".to_owned())
            }
            Failure::Range => StoreError::Unavailable("the blob changed meanwhile".to_owned()),
            Failure::Unsupported => {
                StoreError::Unsupported("the store's server does not support this".to_owned())
            }
            Failure::Refused(reason) | Failure::Unavailable(reason) => {
                tracing::warn!(reason, "store not usable");
                StoreError::Unavailable(BUSY.to_owned())
            }
            // It is in the log once, when it begins.
            Failure::Suspended(reason) => {
                tracing::debug!(reason, "store not usable");
                StoreError::Unavailable(BUSY.to_owned())
            }
            Failure::Store(error) => error,
        }
    }
}

/// Whether the request was not made because there are no credentials, and if so, whether only the operator can mend it.
fn keys_are_missing(error: &(dyn std::error::Error + 'static)) -> Option<bool> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<CredentialsError>() {
            let wrong = matches!(
                error,
                CredentialsError::CredentialsNotLoaded(_)
                    | CredentialsError::InvalidConfiguration(_)
            );
            return Some(wrong);
        }
        cause = error.source();
    }
    None
}

/// How the names of what removes something begin.
const REMOVAL: &str = "cannot remove";

fn kept() -> Failure {
    Failure::Store(StoreError::Denied(
        "the bucket keeps this blob until its retention ends".to_owned(),
    ))
}

/// Whether the refusal of a removal says that an object is under a retention, as MinIO, AWS, Ceph and versitygw put it.
fn locked(message: Option<&str>) -> bool {
    let message = message.unwrap_or_default().to_ascii_lowercase();
    ["worm", "object lock", "object protected", "objectlock", "retention"]
        .iter()
        .any(|word| message.contains(word))
}

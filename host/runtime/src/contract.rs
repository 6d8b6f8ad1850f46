//! The contract of `wit/0.1.0`, bound to Rust, and the translations between its types and the
//! host's own. Generated code stays in here; the rest of the crate uses the re-exports. Those of
//! stores are in `stores`, what may be kept with a blob in `kept`.

pub(crate) mod bindings;
mod kept;
mod stores;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wasmtime::component::ResourceTableError;

use keepgate_store::StoreError;

use crate::call;
use crate::held::OverHeld;
use crate::voice::{push_escaped, shortened};

/// The version of the contract that this host speaks.
pub(crate) const VERSION: &str = "0.1.0";
/// The longest text of a plugin's failure, in bytes.
const MAX_TEXT: usize = 4096;
/// The longest code of a refusal, in bytes.
const MAX_CODE: usize = 128;
/// The package that it is in, without the version.
pub(crate) const PACKAGE: &str = "keepgate:plugin";

pub(crate) use self::stores::must_match;
pub(crate) use bindings::exports::keepgate::plugin::guest as exported;
pub(crate) use bindings::keepgate::plugin::{blobs, environment, etcd, http, jobs, pipes, types};

/// Why an import did not do what the guest asked: a failure that the guest sees, or a trap for
/// what only a broken guest can do.
#[derive(Debug)]
pub(crate) enum Refusal {
    Failure(call::Failure),
    Trap(wasmtime::Error),
}

impl From<call::Failure> for Refusal {
    fn from(failure: call::Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        // The guest sees one word; what happened to the disk is for the operator.
        if let StoreError::Io { .. } = &error {
            tracing::error!(%error, "a store failed");
        }
        Self::Failure(error.into())
    }
}

impl From<OverHeld> for Refusal {
    fn from(error: OverHeld) -> Self {
        Self::Trap(error.into())
    }
}

impl From<ResourceTableError> for Refusal {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<call::Failure> for types::Failure {
    fn from(failure: call::Failure) -> Self {
        use call::Failure as F;
        match failure {
            F::NotFound => Self::NotFound,
            F::AlreadyExists => Self::AlreadyExists,
            F::PreconditionFailed => Self::PreconditionFailed,
            F::ChecksumMismatch(actual) => Self::ChecksumMismatch(actual),
            F::Truncated => Self::Truncated,
            F::TooLarge(limit) => Self::TooLarge(limit),
            F::OutOfRange(size) => Self::OutOfRange(size),
            F::QuotaExceeded(which) => Self::QuotaExceeded(which),
            F::NoSpace => Self::NoSpace,
            F::Denied(why) => Self::Denied(why),
            F::Invalid(why) => Self::Invalid(why),
            F::Unsupported(what) => Self::Unsupported(what),
            F::Unavailable(what) => Self::Unavailable(what),
            F::Busy(what) => Self::Busy(what),
            F::TimedOut => Self::TimedOut,
            F::Internal(what) => Self::Internal(what),
            F::Refused(refused) => Self::Refused(types::Refusal {
                status: refused.status,
                code: refused.code,
                message: refused.message,
                retry_after: refused.retry_after,
            }),
        }
    }
}

impl From<types::Failure> for call::Failure {
    fn from(failure: types::Failure) -> Self {
        use types::Failure as F;
        match failure {
            F::NotFound => Self::NotFound,
            F::AlreadyExists => Self::AlreadyExists,
            F::PreconditionFailed => Self::PreconditionFailed,
            F::ChecksumMismatch(actual) => Self::ChecksumMismatch(actual.map(bounded)),
            F::Truncated => Self::Truncated,
            F::TooLarge(limit) => Self::TooLarge(limit),
            F::OutOfRange(size) => Self::OutOfRange(size),
            F::QuotaExceeded(which) => Self::QuotaExceeded(bounded(which)),
            F::NoSpace => Self::NoSpace,
            F::Denied(why) => Self::Denied(bounded(why)),
            F::Invalid(why) => Self::Invalid(bounded(why)),
            F::Unsupported(what) => Self::Unsupported(bounded(what)),
            F::Unavailable(what) => Self::Unavailable(bounded(what)),
            F::Busy(what) => Self::Busy(bounded(what)),
            F::TimedOut => Self::TimedOut,
            F::Internal(what) => Self::Internal(bounded(what)),
            F::Refused(refusal) => refused(refusal),
        }
    }
}

/// What a plugin refuses in its own words.
fn refused(refusal: types::Refusal) -> call::Failure {
    let types::Refusal { status, code, message, retry_after } = refusal;
    if !(400..=599).contains(&status) {
        let text = format!(
            "the plugin refused with the status {status}, which is none from 400 to 599: {message}"
        );
        return call::Failure::Internal(bounded(text));
    }
    let code = bounded(shortened(code, MAX_CODE));
    let message = bounded(message);
    call::Failure::Refused(call::PluginRefusal { status, code, message, retry_after })
}

/// A plugin's text for a client or the log. Line breaks are kept out of both.
fn bounded(text: String) -> String {
    let text = shortened(text, MAX_TEXT);
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::new();
    push_escaped(&mut line, &text);
    line
}

/// Nanoseconds since the Unix epoch; 0 before it, the largest number after the year 2554.
pub(crate) fn timestamp(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The time so many nanoseconds after the Unix epoch.
pub(crate) fn time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

//! The contract's `failure`, to and from the host's.

use super::types;
use crate::guest_log::{on_one_line, shortened};
use keepgate_core as call;

/// The longest text of a plugin's failure, in bytes.
const MAX_TEXT: usize = 4096;
/// The longest code of a refusal, in bytes.
const MAX_CODE: usize = 128;

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

/// A refusal in the plugin's own words.
fn refused(refusal: types::Refusal) -> call::Failure {
    let types::Refusal { status, code, message, retry_after } = refusal;
    if !(400..=599).contains(&status) {
        let text = format!(
            "the plugin refused with status {status}; expected one from 400 to 599: {message}"
        );
        return call::Failure::Internal(bounded(text));
    }
    let code = bounded(shortened(code, MAX_CODE));
    let message = bounded(message);
    call::Failure::Refused(call::PluginRefusal { status, code, message, retry_after })
}

/// A plugin's text for a client or the log.
fn bounded(text: String) -> String {
    on_one_line(text, MAX_TEXT)
}

//! What a client learns about a [`Failure`]: its status and message. The table [`Failure::CASES`] has both
//! for every case. The SDKs for JavaScript and Python have the same table, and tests compare them. Add
//! nothing here that the contract does not have.

use std::time::Duration;

use crate::{Failure, Level, Refusal, Reply, environment};

/// A case of [`Failure`], as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureCase {
    /// Its name in the contract: `not-found`.
    pub name: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The message for the client. Cases that carry a message of their own use that one instead.
    pub message: &'static str,
}

impl Failure {
    /// Every case, in the order of the contract.
    ///
    /// A [`Refusal`] has its own status and message. The row of `refused` is what the host makes of one whose
    /// status is not from 400 to 599.
    pub const CASES: [FailureCase; 17] = [
        case("not-found", 404, "not found"),
        case("already-exists", 409, "another blob is stored under this name"),
        case("precondition-failed", 412, "the blob has been replaced"),
        case("checksum-mismatch", 400, "the bytes do not have the expected SHA-256"),
        case("truncated", 400, "the body ended before its announced length"),
        case("too-large", 413, "too large"),
        case("out-of-range", 416, "the requested range is outside of the blob"),
        case("quota-exceeded", 507, "a quota would be exceeded"),
        case("no-space", 507, "no space left in the store"),
        case("denied", 403, "denied"),
        case("invalid", 400, "invalid"),
        case("unsupported", 501, "unsupported"),
        case("unavailable", 503, "unavailable"),
        case("busy", 503, "busy"),
        case("timed-out", 504, "timed out"),
        case("internal", 500, "internal error"),
        case("refused", 500, "refused"),
    ];

    /// A refusal that no other case describes: a status from 400 to 599, a code for programs (empty if the
    /// surface has none) and a message for the client.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use keepgate_sdk::Failure;
    /// let conflict = Failure::refused(409, "size_conflict", "it was announced with 7 bytes");
    /// assert_eq!((conflict.status(), conflict.code()), (409, "size_conflict"));
    /// let later = Failure::refused(429, "", "once a minute").retry_after(Duration::from_secs(60));
    /// # assert_eq!(later.message(), "once a minute");
    /// ```
    ///
    /// A job that fails with a status below 500 is not tried again.
    pub fn refused(status: u16, code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self::Refused(Refusal { status, code, message, retry_after: None })
    }

    /// A 405 that lists the methods of the path, such as `GET, HEAD`. The reply gets the header `Allow`, in
    /// whatever form [`Plugin::refuse`](crate::Plugin::refuse) returns it.
    pub fn method_not_allowed(allow: &str) -> Self {
        Self::refused(405, "", format!("{ALLOWED}{allow}"))
    }

    /// Adds the pause after which a client should try again, rounded up to whole seconds: the header
    /// `Retry-After`. Any other failure becomes a refusal with the same status and message.
    pub fn retry_after(self, pause: Duration) -> Self {
        let seconds = pause.as_secs().saturating_add(u64::from(pause.subsec_nanos() > 0));
        let retry_after = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
        let refusal = match self {
            Self::Refused(refusal) => refusal,
            other => Refusal {
                status: other.status(),
                code: String::new(),
                message: other.message().to_owned(),
                retry_after,
            },
        };
        Self::Refused(Refusal { retry_after, ..refusal })
    }

    /// The message for the client, without details that are for the operator only.
    pub fn message(&self) -> &str {
        match self {
            Self::Denied(why)
            | Self::Invalid(why)
            | Self::Unsupported(why)
            | Self::Unavailable(why)
            | Self::Busy(why)
            | Self::QuotaExceeded(why) => why,
            Self::Refused(refusal) => &refusal.message,
            _ => self.case().message,
        }
    }

    /// The code of a [`refused`](Self::refused) failure; empty for all others.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.code,
            _ => "",
        }
    }

    /// The HTTP status with which the host replies if a plugin returns the failure.
    pub fn status(&self) -> u16 {
        match self {
            // Any other status is a bug in the plugin.
            Self::Refused(Refusal { status: status @ 400..=599, .. }) => *status,
            _ => self.case().status,
        }
    }

    /// The row of [`CASES`](Self::CASES) that describes this failure.
    pub fn case(&self) -> &'static FailureCase {
        const CASES: &[FailureCase; 17] = &Failure::CASES;
        let [
            not_found,
            already_exists,
            precondition_failed,
            checksum_mismatch,
            truncated,
            too_large,
            out_of_range,
            quota_exceeded,
            no_space,
            denied,
            invalid,
            unsupported,
            unavailable,
            busy,
            timed_out,
            internal,
            refused,
        ] = CASES;
        match self {
            Self::NotFound => not_found,
            Self::AlreadyExists => already_exists,
            Self::PreconditionFailed => precondition_failed,
            Self::ChecksumMismatch(_) => checksum_mismatch,
            Self::Truncated => truncated,
            Self::TooLarge(_) => too_large,
            Self::OutOfRange(_) => out_of_range,
            Self::QuotaExceeded(_) => quota_exceeded,
            Self::NoSpace => no_space,
            Self::Denied(_) => denied,
            Self::Invalid(_) => invalid,
            Self::Unsupported(_) => unsupported,
            Self::Unavailable(_) => unavailable,
            Self::Busy(_) => busy,
            Self::TimedOut => timed_out,
            Self::Internal(_) => internal,
            Self::Refused(_) => refused,
        }
    }

    /// The reply to this failure in a surface's own form, for [`Plugin::refuse`](crate::Plugin::refuse): a
    /// surface says its form in one line.
    ///
    /// ```
    /// use keepgate_sdk::{Failure, Reply};
    /// use serde_json::json;
    ///
    /// fn refuse(failure: &Failure) -> Option<Reply> {
    ///     failure.reply(|failure| {
    ///         Reply::new(failure.status())
    ///             .json(&json!({"error": failure.code(), "message": failure.message()}))
    ///     })
    /// }
    /// # assert_eq!(refuse(&Failure::NotFound).unwrap().status, 404);
    /// # assert!(refuse(&Failure::TimedOut).is_none());
    /// ```
    ///
    /// The reply gets `Content-Range` with the size of the blob after [`Failure::OutOfRange`], and
    /// `Retry-After` where the failure has one. The text of [`Failure::Internal`] goes to the operator's
    /// log. None for [`Failure::TimedOut`], because only the host knows whether the client was the one
    /// that did not send, which is a 408, and for a form that fails: then the host makes the reply.
    pub fn reply(&self, form: impl FnOnce(&Self) -> Result<Reply, Self>) -> Option<Reply> {
        if matches!(self, Self::TimedOut) {
            return None;
        }
        if let Self::Internal(why) = self {
            environment::log(Level::Error, why);
        }
        let reply = form(self).ok()?;
        Some(match self {
            Self::OutOfRange(size) => reply.header("content-range", format!("bytes */{size}")),
            Self::Refused(Refusal { retry_after: Some(seconds), .. }) => {
                reply.header("retry-after", seconds)
            }
            Self::Unavailable(_) => reply.header("retry-after", UNAVAILABLE_FOR),
            _ => reply,
        })
    }

    /// The methods of the path, if the failure is a [`method_not_allowed`](Self::method_not_allowed).
    pub(crate) fn allowed(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) if refusal.status == 405 => {
                refusal.message.strip_prefix(ALLOWED)
            }
            _ => None,
        }
    }
}

/// Seconds after which the host, too, asks clients to try again what is unavailable: it comes back by itself.
pub(crate) const UNAVAILABLE_FOR: u32 = 5;

/// The start of a 405's message.
const ALLOWED: &str = "this path takes ";

const fn case(name: &'static str, status: u16, message: &'static str) -> FailureCase {
    FailureCase { name, status, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_in_whole_seconds_and_keeps_the_rest() {
        let of = |failure: Failure, pause| match failure.retry_after(pause) {
            Failure::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        };
        let conflict = Failure::refused(409, "taken", "it is taken");
        let expected = Refusal {
            status: 409,
            code: "taken".to_owned(),
            message: "it is taken".to_owned(),
            retry_after: Some(2),
        };
        assert_eq!(of(conflict, Duration::from_millis(1001)), expected);
        let busy = of(Failure::Busy("later".to_owned()), Duration::from_secs(u64::MAX));
        assert_eq!((busy.status, &*busy.message, busy.retry_after), (503, "later", Some(u32::MAX)));
        let internal = of(Failure::Internal("/srv/secret".to_owned()), Duration::ZERO);
        assert_eq!((internal.status, &*internal.message), (500, "internal error"));
    }

    #[test]
    fn a_status_outside_400_to_599_is_a_bug() {
        for (status, told) in [(400, 400), (599, 599), (399, 500), (600, 500), (0, 500)] {
            assert_eq!(Failure::refused(status, "", "").status(), told);
        }
    }

    #[test]
    fn a_failure_has_the_name_of_its_case() {
        let name = |case: &FailureCase| {
            let words = case.name.split('-').map(|word| {
                let (first, rest) = word.split_at(1);
                first.to_uppercase() + rest
            });
            words.collect::<String>()
        };
        let text = String::new;
        let all = [
            Failure::NotFound,
            Failure::AlreadyExists,
            Failure::PreconditionFailed,
            Failure::ChecksumMismatch(None),
            Failure::Truncated,
            Failure::TooLarge(7),
            Failure::OutOfRange(7),
            Failure::QuotaExceeded(text()),
            Failure::NoSpace,
            Failure::Denied(text()),
            Failure::Invalid(text()),
            Failure::Unsupported(text()),
            Failure::Unavailable(text()),
            Failure::Busy(text()),
            Failure::TimedOut,
            Failure::Internal(text()),
            Failure::refused(0, "", ""),
        ];
        for (failure, case) in all.iter().zip(&Failure::CASES) {
            assert_eq!(failure.case(), case);
            assert_eq!(failure.status(), case.status);
            let shown = format!("{failure:?}");
            assert!(shown.contains(&name(case)), "{shown} is not {}", case.name);
        }
    }

    /// Their tables are text here: one line for each case.
    #[test]
    fn javascript_and_python_say_the_same() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/");
        let read = |file: &str| std::fs::read_to_string(format!("{folder}{file}")).unwrap();
        let (js, python) = (read("js/keepgate/failure.js"), read("python/keepgate/_failure.py"));
        for FailureCase { name, status, message } in Failure::CASES {
            let line = format!("\"{name}\": [{status}, \"{message}\"]");
            assert!(js.contains(&line), "failure.js lacks {line}");
            if name != "refused" {
                assert!(python.contains(&format!("\"{message}\"")), "_failure.py: {message}");
            }
        }
    }

    #[test]
    fn a_form_keeps_what_the_protocol_of_http_needs() {
        let form = |failure: &Failure| {
            failure.reply(|failure| Ok(Reply::new(failure.status()).text(failure.message())))
        };
        let reply = form(&Failure::OutOfRange(10)).unwrap();
        assert!(reply.headers.contains(&("content-range".to_owned(), "bytes */10".to_owned())));
        let busy = Failure::Busy("later".to_owned()).retry_after(Duration::from_secs(5));
        let reply = form(&busy).unwrap();
        assert!(reply.headers.contains(&("retry-after".to_owned(), "5".to_owned())));
        let host = crate::testing::Host::new();
        assert_eq!(form(&Failure::Internal("disk on fire".to_owned())).unwrap().status, 500);
        assert!(host.log().iter().any(|(_, line)| line == "disk on fire"));
        assert!(form(&Failure::TimedOut).is_none());
        assert!(Failure::NotFound.reply(|_| Err(Failure::NotFound)).is_none());
    }
}

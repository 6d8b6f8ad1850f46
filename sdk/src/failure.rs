//! What a failure means outside: its words and its status; and failures in a plugin's own words.

use std::time::Duration;

use crate::{Failure, Refusal};

impl Failure {
    /// A refusal that no other case is: a status from 400 to 599, a word for programs (empty where the
    /// surface has none), and a text for whoever made the request.
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
    /// Of a job: it is not tried again after a status below 500.
    pub fn refused(status: u16, code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self::Refused(Refusal { status, code, message, retry_after: None })
    }

    /// With the time after which it is worth trying again, in whole seconds: the header `Retry-After`.
    /// Any other failure becomes a refusal with the same status and message by it.
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

    /// In words, for whoever made the request; without what is for the operator only.
    pub fn message(&self) -> &str {
        match self {
            Self::NotFound => "not found",
            Self::AlreadyExists => "another blob is stored under this name",
            Self::PreconditionFailed => "the blob is another one by now",
            Self::ChecksumMismatch(_) => "the bytes do not have the SHA-256 that they must have",
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
            Self::Refused(refusal) => &refusal.message,
        }
    }

    /// The word for programs of [`refused`](Self::refused); empty for all others.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.code,
            _ => "",
        }
    }

    /// The HTTP status that the host answers with when a plugin hands the failure back.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::AlreadyExists => 409,
            Self::PreconditionFailed => 412,
            Self::ChecksumMismatch(_) | Self::Truncated | Self::Invalid(_) => 400,
            Self::TooLarge(_) => 413,
            Self::OutOfRange(_) => 416,
            Self::QuotaExceeded(_) | Self::NoSpace => 507,
            Self::Denied(_) => 403,
            Self::Unsupported(_) => 501,
            Self::Unavailable(_) | Self::Busy(_) => 503,
            Self::TimedOut => 504,
            Self::Internal(_) => 500,
            // Another than these is a bug of the plugin.
            Self::Refused(Refusal { status: status @ 400..=599, .. }) => *status,
            Self::Refused(_) => 500,
        }
    }
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
    fn a_status_that_is_none_is_a_bug() {
        for (status, told) in [(400, 400), (599, 599), (399, 500), (600, 500), (0, 500)] {
            assert_eq!(Failure::refused(status, "", "").status(), told);
        }
    }
}

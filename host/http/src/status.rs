//! The one place that turns a failure into a status and a short text. What a client reads says
//! nothing of the host's inside; what the operator needs is logged in `service`.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use keepgate_runtime::{CallError, Failure, Limit, PluginRefusal};
use keepgate_store::Fields;

use crate::reply::ReplyBody;

/// Whether the client was the one that did not go on, which is a 408 and not a 504.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    ForClient,
    ForUs,
}

/// A failure as a client sees it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// Follows the reason phrase of the status.
    text: Option<String>,
    headers: HeaderMap,
}

impl Refusal {
    /// A status with nothing to add.
    pub(crate) fn of(status: StatusCode) -> Self {
        Self { status, text: None, headers: HeaderMap::new() }
    }

    /// A status and a text for the client.
    pub(crate) fn saying(status: StatusCode, text: &impl ToString) -> Self {
        Self { text: Some(text.to_string()), ..Self::of(status) }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.insert(name, value.into());
        self
    }

    /// Why a call has no reply.
    pub(crate) fn from_call(error: &CallError, waited: Waited) -> Self {
        match error {
            CallError::Failure(failure) => Self::from_failure(failure, waited),
            CallError::NotServing(_) => {
                let text = "nothing serves this path just now";
                Self::saying(StatusCode::SERVICE_UNAVAILABLE, &text).with(header::RETRY_AFTER, 5)
            }
            CallError::Busy(_) => {
                let text = "too many requests are under way here";
                Self::saying(StatusCode::SERVICE_UNAVAILABLE, &text).with(header::RETRY_AFTER, 1)
            }
            CallError::Aside(pause) => {
                let text = "nothing serves this path just now";
                let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
                Self::saying(StatusCode::SERVICE_UNAVAILABLE, &text)
                    .with(header::RETRY_AFTER, seconds.max(1))
            }
            CallError::OverLimit(Limit::Time(_)) => {
                Self::saying(StatusCode::GATEWAY_TIMEOUT, &"the request took too long")
            }
            CallError::OverLimit(_) => {
                let text = "the request needs more than one is given here";
                Self::saying(StatusCode::SERVICE_UNAVAILABLE, &text)
            }
            _ => Self::of(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn from_failure(failure: &Failure, waited: Waited) -> Self {
        let status = match failure {
            Failure::NotFound => return Self::of(StatusCode::NOT_FOUND),
            Failure::AlreadyExists => StatusCode::CONFLICT,
            Failure::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Failure::ChecksumMismatch(_) | Failure::Truncated | Failure::Invalid(_) => {
                StatusCode::BAD_REQUEST
            }
            Failure::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Failure::OutOfRange(size) => {
                let refusal = Self::saying(StatusCode::RANGE_NOT_SATISFIABLE, failure);
                return match HeaderValue::try_from(format!("bytes */{size}")) {
                    Ok(range) => refusal.with(header::CONTENT_RANGE, range),
                    Err(_) => refusal,
                };
            }
            Failure::QuotaExceeded(_) | Failure::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            Failure::Denied(_) => StatusCode::FORBIDDEN,
            Failure::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            Failure::Unavailable(_) | Failure::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Failure::TimedOut => {
                return match waited {
                    Waited::ForClient => Self::of(StatusCode::REQUEST_TIMEOUT),
                    Waited::ForUs => Self::of(StatusCode::GATEWAY_TIMEOUT),
                };
            }
            Failure::Internal(_) => return Self::of(StatusCode::INTERNAL_SERVER_ERROR),
            Failure::Refused(refused) => return Self::from_refused(refused),
        };
        Self::saying(status, failure)
    }

    /// What the plugin says in its own words; its code comes before the message.
    fn from_refused(refused: &PluginRefusal) -> Self {
        let status = StatusCode::from_u16(refused.status);
        let refusal = Self::saying(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), refused);
        match refused.retry_after {
            Some(seconds) => refusal.with(header::RETRY_AFTER, seconds),
            None => refusal,
        }
    }

    /// `Not Found\n`, or `Forbidden: text\n`.
    fn body(&self) -> String {
        let reason = self.status.canonical_reason().unwrap_or("Error");
        match self.text.as_deref().map(str::trim) {
            None | Some("") => format!("{reason}\n"),
            Some(text) => format!("{reason}: {text}\n"),
        }
    }

    /// Status, headers and text, for whoever has no connection.
    pub(crate) fn into_parts(self) -> (u16, Fields, String) {
        let (status, text) = (self.status.as_u16(), self.body());
        let response = self.into_response();
        let headers = response.headers().iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        (status, headers.collect(), text)
    }

    pub(crate) fn into_response(self) -> Response<ReplyBody> {
        let text = self.body();
        let length = text.len();
        let mut response = Response::new(ReplyBody::bytes(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        *headers = self.headers;
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, plain);
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(error: &CallError, waited: Waited) -> (u16, String) {
        let refusal = Refusal::from_call(error, waited);
        (refusal.status.as_u16(), refusal.text.unwrap_or_default())
    }

    #[test]
    fn each_failure_has_the_status_of_the_contract() {
        let text = || "because".to_owned();
        let cases = [
            (Failure::NotFound, 404),
            (Failure::AlreadyExists, 409),
            (Failure::PreconditionFailed, 412),
            (Failure::ChecksumMismatch(None), 400),
            (Failure::Truncated, 400),
            (Failure::TooLarge(7), 413),
            (Failure::OutOfRange(7), 416),
            (Failure::QuotaExceeded(text()), 507),
            (Failure::NoSpace, 507),
            (Failure::Denied(text()), 403),
            (Failure::Invalid(text()), 400),
            (Failure::Unsupported(text()), 501),
            (Failure::Unavailable(text()), 503),
            (Failure::Busy(text()), 503),
            (Failure::TimedOut, 504),
            (Failure::Internal(text()), 500),
        ];
        for (failure, status) in cases {
            assert_eq!(answer(&failure.clone().into(), Waited::ForUs).0, status, "{failure:?}");
        }
        assert_eq!(answer(&Failure::TimedOut.into(), Waited::ForClient).0, 408);
    }

    #[test]
    fn a_plugins_own_refusal_is_told_as_it_is() {
        let refused = |code: &str, retry_after| {
            let (code, message) = (code.to_owned(), "it has 7 bytes".to_owned());
            let refused = PluginRefusal { status: 422, code, message, retry_after };
            Refusal::from_call(&Failure::Refused(refused).into(), Waited::ForUs).into_parts()
        };
        let (status, headers, text) = refused("size_conflict", Some(30));
        assert_eq!(status, 422);
        assert_eq!(text, "Unprocessable Entity: size_conflict: it has 7 bytes\n");
        assert!(headers.contains(&("retry-after".to_owned(), "30".to_owned())), "{headers:?}");
        let (_, headers, text) = refused("", None);
        assert_eq!(text, "Unprocessable Entity: it has 7 bytes\n");
        assert!(!headers.iter().any(|(name, _)| name == "retry-after"));
    }

    #[test]
    fn what_is_for_operators_reaches_no_client() {
        let secret = || "/srv/secret".to_owned();
        let second = Duration::from_secs(1);
        let cases = [
            (Failure::Internal(secret()).into(), 500),
            (CallError::NotServing(secret()), 503),
            (CallError::Trapped(secret()), 500),
            (CallError::BadReply(secret()), 500),
            (CallError::Busy(3), 503),
            (CallError::OverLimit(Limit::Memory(3)), 503),
            (CallError::OverLimit(Limit::Held(3)), 503),
            (CallError::OverLimit(Limit::Handles(3)), 503),
            (CallError::Aside(3 * second), 503),
            (CallError::OverLimit(Limit::Cpu(second)), 503),
            (CallError::OverLimit(Limit::Time(second)), 504),
        ];
        for (error, status) in cases {
            let shown = format!("{error:?}");
            let (found, text) = answer(&error, Waited::ForUs);
            assert_eq!(found, status, "{shown}");
            assert!(!text.contains("secret") && !text.contains('3'), "{shown}: {text}");
        }
    }

    #[test]
    fn headers_help_the_client() {
        let response = |error: CallError| Refusal::from_call(&error, Waited::ForUs).into_response();
        let range = response(Failure::OutOfRange(7).into());
        assert_eq!(range.headers()[header::CONTENT_RANGE], "bytes */7");
        assert_eq!(response(CallError::Busy(1)).headers()[header::RETRY_AFTER], "1");
        let aside = response(CallError::Aside(Duration::from_millis(2001)));
        assert_eq!(aside.headers()[header::RETRY_AFTER], "3");
        let denied = response(Failure::Denied("no".to_owned()).into());
        assert_eq!(denied.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(denied.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    }
}

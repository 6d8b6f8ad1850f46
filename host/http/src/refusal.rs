//! Refusals as HTTP responses: a status, headers and one line of text. Which failure gets which
//! status and text is decided in `keepgate_core::failure`; details for operators are logged by `gateway`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use keepgate_core::{CallError, Waiting};
use keepgate_store::Fields;

use crate::response_body::ResponseBody;

/// A failure as the client sees it.
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

    /// The answer to a call that has no reply; `keepgate_core::failure` chooses it.
    pub(crate) fn from_call(error: &CallError, waiting: Waiting) -> Self {
        let answer = error.answer(waiting);
        let status =
            StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut refusal = Self { text: answer.message.map(Cow::into_owned), ..Self::of(status) };
        if let Some(seconds) = answer.retry_after {
            refusal = refusal.with(header::RETRY_AFTER, seconds);
        }
        if let Some(size) = answer.size
            && let Ok(range) = HeaderValue::try_from(format!("bytes */{size}"))
        {
            refusal = refusal.with(header::CONTENT_RANGE, range);
        }
        refusal
    }

    /// `Not Found\n`, or `Forbidden: text\n`.
    fn body(&self) -> String {
        let reason = self.status.canonical_reason().unwrap_or("Error");
        match self.text.as_deref().map(str::trim) {
            None | Some("") => format!("{reason}\n"),
            Some(text) => format!("{reason}: {text}\n"),
        }
    }

    /// Status, headers and text, for callers without a connection.
    pub(crate) fn into_parts(self) -> (u16, Fields, String) {
        let (status, text) = (self.status.as_u16(), self.body());
        let response = self.into_response();
        let headers = response.headers().iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        (status, headers.collect(), text)
    }

    pub(crate) fn into_response(self) -> Response<ResponseBody> {
        let text = self.body();
        let length = text.len();
        let mut response = Response::new(ResponseBody::bytes(text));
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

    use keepgate_core::{Failure, Limit, PluginRefusal};

    use super::*;

    fn answer(error: &CallError, waiting: Waiting) -> (u16, String) {
        let refusal = Refusal::from_call(error, waiting);
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
            assert_eq!(
                answer(&failure.clone().into(), Waiting::ForGateway).0,
                status,
                "{failure:?}"
            );
        }
        assert_eq!(answer(&Failure::TimedOut.into(), Waiting::ForClient).0, 408);
    }

    #[test]
    fn a_plugins_own_refusal_keeps_its_status_code_and_text() {
        let refused = |code: &str, retry_after| {
            let (code, message) = (code.to_owned(), "it has 7 bytes".to_owned());
            let refused = PluginRefusal { status: 422, code, message, retry_after };
            Refusal::from_call(&Failure::Refused(refused).into(), Waiting::ForGateway).into_parts()
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
    fn clients_never_see_details_for_operators() {
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
            (CallError::Suspended(3 * second), 503),
            (CallError::OverLimit(Limit::Cpu(second)), 503),
            (CallError::OverLimit(Limit::Time(second)), 504),
        ];
        for (error, status) in cases {
            let shown = format!("{error:?}");
            let (found, text) = answer(&error, Waiting::ForGateway);
            assert_eq!(found, status, "{shown}");
            assert!(!text.contains("secret") && !text.contains('3'), "{shown}: {text}");
        }
    }

    #[test]
    fn headers_carry_range_retry_and_type() {
        let response =
            |error: CallError| Refusal::from_call(&error, Waiting::ForGateway).into_response();
        let range = response(Failure::OutOfRange(7).into());
        assert_eq!(range.headers()[header::CONTENT_RANGE], "bytes */7");
        assert_eq!(response(CallError::Busy(1)).headers()[header::RETRY_AFTER], "1");
        let suspended = response(CallError::Suspended(Duration::from_millis(2001)));
        assert_eq!(suspended.headers()[header::RETRY_AFTER], "3");
        let denied = response(Failure::Denied("no".to_owned()).into());
        assert_eq!(denied.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(denied.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    }
}

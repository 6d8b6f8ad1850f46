//! Refusals as HTTP responses: a status, headers and one line of text, or a body in the form that the mount's plugin
//! declares. Which failure gets which status and text is decided in `keepgate_core::failure`; details for operators
//! are logged by `gateway`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use keepgate_auth::{Challenges, Refused};
use keepgate_core::{CallError, RefusalForm, Waiting};
use keepgate_store::Fields;

use crate::reason_phrase;
use crate::response_body::ResponseBody;

/// A failure as the client sees it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// Follows the reason phrase of the status, as text.
    text: Option<String>,
    /// For programs, in a declared form.
    code: Cow<'static, str>,
    /// For people, in a declared form; `text` or the reason phrase if it is empty.
    told: Cow<'static, str>,
    headers: HeaderMap,
}

impl Refusal {
    /// A status with nothing to add.
    pub(crate) fn of(status: StatusCode, code: &'static str) -> Self {
        let (code, told) = (code.into(), Cow::Borrowed(""));
        Self { status, text: None, code, told, headers: HeaderMap::new() }
    }

    /// A status and a text for the client.
    pub(crate) fn saying(status: StatusCode, code: &'static str, text: &impl ToString) -> Self {
        Self { text: Some(text.to_string()), ..Self::of(status, code) }
    }

    /// The answer to a client without valid credentials.
    pub(crate) fn unauthorized(refused: Refused) -> Self {
        let told = "credentials are missing or wrong".into();
        let unauthorized = Self { told, ..Self::of(StatusCode::UNAUTHORIZED, "unauthorized") };
        match refused {
            Refused::Challenged(challenges) => unauthorized.challenging(challenges),
            Refused::Unauthorized => unauthorized,
            Refused::Forbidden => {
                let text = "a client certificate that the gateway trusts is needed";
                let forbidden = Self::saying(StatusCode::FORBIDDEN, "unauthorized", &text);
                Self { told: "not authorized".into(), ..forbidden }
            }
        }
    }

    /// The answer to a token that is not valid. Whatever is wrong with it, the answer is the same.
    pub(crate) fn invalid_token(challenges: Option<Challenges>) -> Self {
        let refused = challenges.map_or(Refused::Unauthorized, Refused::Challenged);
        Self::unauthorized(refused)
    }

    /// The answer to a valid token whose user gets no access.
    pub(crate) fn denied(challenges: Option<Challenges>) -> Self {
        let text = "the token gives no access";
        let denied = Self::saying(StatusCode::FORBIDDEN, "denied", &text);
        match challenges {
            Some(challenges) => denied.challenging(challenges),
            None => denied,
        }
    }

    /// There is nothing to verify a token with.
    pub(crate) fn no_keys() -> Self {
        let text = "tokens cannot be verified at the moment";
        let refusal = Self::saying(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &text);
        refusal.with(header::RETRY_AFTER, keepgate_auth::bearer::PAUSE.as_secs())
    }

    /// More logins are being checked than the gateway takes at once.
    pub(crate) fn too_many_logins() -> Self {
        let text = "too many concurrent login checks";
        Self::saying(StatusCode::SERVICE_UNAVAILABLE, "busy", &text).with(header::RETRY_AFTER, 2)
    }

    /// The client has sent more requests than a rate limit allows; `text` says which, and when to try again.
    pub(crate) fn rate_limited(text: &impl ToString, seconds: u64) -> Self {
        let refusal = Self::saying(StatusCode::TOO_MANY_REQUESTS, "rate-limited", text);
        refusal.with(header::RETRY_AFTER, seconds)
    }

    fn challenging(mut self, challenges: Challenges) -> Self {
        for challenge in challenges.values() {
            self.headers.append(header::WWW_AUTHENTICATE, challenge);
        }
        self
    }

    fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.insert(name, value.into());
        self
    }

    /// The answer to a call that has no reply; `keepgate_core::failure` chooses it.
    pub(crate) fn from_call(error: &CallError, waiting: Waiting) -> Self {
        let answer = error.answer(waiting);
        let status =
            StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut refusal = Self {
            status,
            text: answer.message.map(Cow::into_owned),
            code: answer.code.to_owned().into(),
            told: answer.told.into_owned().into(),
            headers: HeaderMap::new(),
        };
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

    /// The reason phrase of the status.
    fn reason(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    /// `Not Found\n`, or `Forbidden: text\n`.
    fn as_text(&self) -> String {
        let reason = self.reason();
        match self.text.as_deref().map(str::trim) {
            None | Some("") => format!("{reason}\n"),
            Some(text) => format!("{reason}: {text}\n"),
        }
    }

    /// The body in a declared form.
    fn in_form(&self, form: &RefusalForm, request: &str) -> String {
        let (told, text) = (&*self.told, self.text.as_deref().unwrap_or_default());
        let message = [told, text].into_iter().find(|text| !text.is_empty());
        form.fill(&keepgate_core::Refused {
            status: self.status.as_u16(),
            reason: self.reason(),
            code: &self.code,
            message: message.unwrap_or_else(|| self.reason()),
            request,
        })
    }

    /// Its content type and body. `request` is the id of the request.
    fn body(&self, form: Option<&RefusalForm>, request: &str) -> (HeaderValue, String) {
        let declared = form.and_then(|form| {
            let kind = HeaderValue::from_str(form.content_type()).ok()?;
            Some((kind, self.in_form(form, request)))
        });
        declared.unwrap_or_else(|| {
            (HeaderValue::from_static("text/plain; charset=utf-8"), self.as_text())
        })
    }

    /// Status, headers and body, for callers without a connection.
    pub(crate) fn into_parts(
        self,
        form: Option<&RefusalForm>,
        request: &str,
    ) -> (u16, Fields, String) {
        let (status, (_, body)) = (self.status.as_u16(), self.body(form, request));
        let response = self.into_response(form, request);
        let headers = response.headers().iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        (status, headers.collect(), body)
    }

    /// The response, in the form of the mount, if it has one; otherwise as text. `request` is the id of the request.
    pub(crate) fn into_response(
        self,
        form: Option<&RefusalForm>,
        request: &str,
    ) -> Response<ResponseBody> {
        let (kind, body) = self.body(form, request);
        let (mut head, ()) = Response::new(()).into_parts();
        head.status = self.status;
        head.headers = self.headers;
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        head.headers.insert(header::CONTENT_TYPE, kind);
        let nosniff = HeaderValue::from_static("nosniff");
        head.headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        reason_phrase::add(&mut head, body.as_bytes());
        Response::from_parts(head, ResponseBody::bytes(body))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keepgate_auth::TokenError;
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
            Refusal::from_call(&Failure::Refused(refused).into(), Waiting::ForGateway)
                .into_parts(None, "r-1")
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
            (CallError::Misconfigured(secret()), 503),
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
            let form = form("{code} {message}");
            let refusal = Refusal::from_call(&error, Waiting::ForGateway);
            let (_, _, text) = refusal.into_parts(Some(&form), "r-1");
            assert!(!text.contains("secret") && !text.contains('3'), "{shown}: {text}");
        }
    }

    #[test]
    fn headers_carry_range_retry_and_type() {
        let response = |error: CallError| {
            Refusal::from_call(&error, Waiting::ForGateway).into_response(None, "r-1")
        };
        let range = response(Failure::OutOfRange(7).into());
        assert_eq!(range.headers()[header::CONTENT_RANGE], "bytes */7");
        assert_eq!(response(CallError::Busy(1)).headers()[header::RETRY_AFTER], "1");
        let suspended = response(CallError::Suspended(Duration::from_millis(2001)));
        assert_eq!(suspended.headers()[header::RETRY_AFTER], "3");
        let denied = response(Failure::Denied("no".to_owned()).into());
        assert_eq!(denied.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(denied.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    }

    fn form(body: &str) -> RefusalForm {
        let declaration = serde_json::json!({
            "content_type": "application/json; charset=utf-8",
            "body": {"text": body},
            "reasons": {"401": "who are you?"},
        });
        RefusalForm::parse(declaration.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_declared_form_replaces_the_text_and_nothing_else() {
        let form = form("{status} {reason} {code}: {message} ({request})");
        let parts = |refusal: Refusal| {
            let (status, headers, body) = refusal.into_parts(Some(&form), "r-1");
            let header = |name| headers.iter().find(|(known, _)| known == name).map(|(_, v)| &**v);
            assert_eq!(header("content-type"), Some("application/json; charset=utf-8"));
            assert_eq!(header("content-length"), Some(&*body.len().to_string()));
            assert_eq!(header("x-content-type-options"), Some("nosniff"));
            let challenge = header("www-authenticate").map(str::to_owned);
            let retry = header("retry-after").map(str::to_owned);
            (status, body, challenge, retry)
        };
        let basic = Refused::Challenged(Challenges { basic: true, bearer: None });
        let (status, body, challenge, retry) = parts(Refusal::unauthorized(basic));
        let expected = "401 who are you? unauthorized: credentials are missing or wrong (r-1)";
        assert_eq!((status, body), (401, format!(r#"{{"text":"{expected}"}}"#)));
        assert!(challenge.is_some_and(|challenge| challenge.starts_with("Basic ")));
        assert_eq!((retry, parts(Refusal::unauthorized(Refused::Unauthorized)).2), (None, None));
        let (status, body, challenge, _) = parts(Refusal::unauthorized(Refused::Forbidden));
        let expected = r#"{"text":"403 Forbidden unauthorized: not authorized (r-1)"}"#;
        assert_eq!((status, &*body, challenge), (403, expected, None));

        let bearer = Challenges { basic: false, bearer: Some(TokenError::Insufficient) };
        let (status, body, challenge, _) = parts(Refusal::denied(Some(bearer)));
        let expected = r#"{"text":"403 Forbidden denied: the token gives no access (r-1)"}"#;
        assert_eq!((status, &*body), (403, expected));
        let expected = r#"Bearer realm="keepgate", error="insufficient_scope""#;
        assert_eq!(challenge.as_deref(), Some(expected));
        let (status, _, challenge, retry) = parts(Refusal::no_keys());
        assert_eq!((status, challenge, retry.as_deref()), (503, None, Some("10")));

        let (_, body, _, retry) = parts(Refusal::too_many_logins());
        let expected = "503 Service Unavailable busy: too many concurrent login checks (r-1)";
        assert_eq!((body, retry.as_deref()), (format!(r#"{{"text":"{expected}"}}"#), Some("2")));

        let (status, body, _, retry) = parts(Refusal::rate_limited(&"slower", 7));
        let expected = r#"{"text":"429 Too Many Requests rate-limited: slower (r-1)"}"#;
        assert_eq!((status, &*body, retry.as_deref()), (429, expected, Some("7")));

        let error = CallError::Failure(Failure::Denied("no \"x\"".to_owned()));
        let (_, body, ..) = parts(Refusal::from_call(&error, Waiting::ForGateway));
        assert_eq!(body, r#"{"text":"403 Forbidden denied: no \"x\" (r-1)"}"#);
        // A status alone says itself.
        let (_, body, ..) = parts(Refusal::of(StatusCode::NOT_FOUND, "not-found"));
        assert_eq!(body, r#"{"text":"404 Not Found not-found: Not Found (r-1)"}"#);
    }
}

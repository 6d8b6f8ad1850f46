//! Serves `wasi:http` 0.2 components, which many tools build, at mounts like plugins. Change here what a
//! service sees of a request.
//!
//! A service is granted nothing but its own requests: no outgoing requests, files or sockets. The mount's
//! settings are its environment variables. Paths are relative to the mount; scheme and authority are those
//! that the client used, `x-forwarded-prefix` is the mount's path and `x-forwarded-user` the user. The
//! client's own headers of these names are removed. An instance serves one request.
//!
//! This is the one folder of the runtime that uses HTTP's crates, because wasmtime's does.

pub(crate) mod body;
pub(crate) mod context;

use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::oneshot::{self, error::TryRecvError};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{Error, Result as HttpResult, WasiHttpCtxView, WasiHttpView};

use keepgate_store::{Body, BodyError, Fields};

use crate::guest_state::{GuestState, MountContext};
use crate::instance::{bounded, broken, not_made, outcome, prepare};
use crate::spec::Bounds;
use crate::streamed_reply::{Arriving, Head, ReplyStart, Started};
use body::ServiceBody;
use keepgate_core::{CallError, Failure, Request};

/// What a service exports, without the patch version.
pub(crate) const EXPORT: &str = "wasi:http/incoming-handler@0.2.";
/// What a service for the next version of `wasi:http` exports, without the version.
pub(crate) const NEXT_EXPORT: &str = "wasi:http/handler@";
/// The most handles of a service, each of which may be a set of header fields.
const MAX_HANDLES: usize = 2000;
/// The mount's path, for services that make links to themselves.
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// The name of the authenticated user.
const USER: HeaderName = HeaderName::from_static("x-forwarded-user");

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.wasi_http.hooks,
            table: &mut self.table,
            ctx: &mut self.wasi_http.context,
        }
    }
}

/// Settings as environment variables. The error says which of them cannot be one.
pub(crate) fn environment(
    settings: &serde_json::Map<String, serde_json::Value>,
) -> Result<Vec<(String, String)>, String> {
    use serde_json::Value;
    let variable = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => {
                return Err(format!(
                    "{name}: the settings of a wasi:http service are environment variables, so they \
                     must be strings, numbers or booleans"
                ));
            }
        };
        if name.is_empty() || name.contains(['=', '\0']) || text.contains('\0') {
            return Err(format!("{name:?} cannot be an environment variable"));
        }
        Ok((name.clone(), text))
    };
    settings.iter().map(variable).collect()
}

/// Calls a service. The reply goes through `start`, even if it is complete.
pub(crate) async fn serve(
    pre: &ProxyPre<GuestState>,
    mount: Arc<MountContext>,
    bounds: Bounds,
    request: Request,
    start: ReplyStart,
) -> Result<(), CallError> {
    let (mut store, cpu) = prepare(pre.engine(), mount, &bounds).await?;
    store.data_mut().table.set_max_capacity(MAX_HANDLES);
    let made = {
        let made = pin!(pre.instantiate_async(&mut store));
        cpu.charge(made).await
    };
    let service = made.map_err(|error| not_made(&store, &error))?;
    store.set_epoch_deadline(1);
    let state = store.data_mut();
    state.begin(None);
    let scheme = if request.base.starts_with("https:") { Scheme::Https } else { Scheme::Http };
    let request = incoming(request, &state.mount.path)?;
    let (answer, answered) = oneshot::channel();
    let mut http = state.http();
    let handed = http
        .new_incoming_request(scheme, request)
        .and_then(|request| Ok((request, http.new_response_outparam(answer)?)));
    let (request, out) = handed.map_err(|error| broken(state, &error))?;
    let mut answering = Answering { answered, start: Some(start), problem: None };
    let said = {
        let handler = service.wasi_http_incoming_handler();
        let mut call = pin!(handler.call_handle(&mut store, request, out));
        // The service answers while it is polled, so checking after each poll is enough.
        let call = std::future::poll_fn(|context| {
            let poll = call.as_mut().poll(context);
            answering.look();
            poll
        });
        bounded(&bounds, &cpu, pin!(call)).await
    };
    outcome(&store, &bounds, said)?;
    answering.end()
}

/// Waits for the head of a service's reply.
struct Answering {
    answered: oneshot::Receiver<Result<http::Response<HyperOutgoingBody>, ErrorCode>>,
    /// Until the head has arrived.
    start: Option<ReplyStart>,
    problem: Option<CallError>,
}

impl Answering {
    fn look(&mut self) {
        if self.start.is_none() {
            return;
        }
        let answer = match self.answered.try_recv() {
            Ok(answer) => answer,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        };
        let start = self.start.take();
        let started = match answer {
            Ok(response) => started(response),
            // Whatever the reason is, the service has no answer.
            Err(code) => {
                Err(Failure::Internal(format!("the service returned the error {code:?}")).into())
            }
        };
        match (started, start) {
            // If nobody waits, the client has gone.
            (Ok(started), Some(start)) => drop(start.send(started)),
            (Err(problem), _) => self.problem = Some(problem),
            (Ok(_), None) => {}
        }
    }

    fn end(self) -> Result<(), CallError> {
        match self {
            Self { problem: Some(problem), .. } => Err(problem),
            Self { start: Some(_), .. } => {
                Err(CallError::BadReply("the service ended without an answer".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

fn started(response: http::Response<HyperOutgoingBody>) -> Result<Started, CallError> {
    let (head, body) = response.into_parts();
    let mut headers = Fields::with_capacity(head.headers.len());
    for (name, value) in &head.headers {
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| {
            CallError::BadReply(format!("the value of the header {name} is not UTF-8"))
        })?;
        headers.push((name.as_str().to_owned(), value.to_owned()));
    }
    let head = Head { status: head.status.as_u16(), headers };
    Ok(Started { head, arriving: Arriving::Service(ServiceBody(body)) })
}

type Incoming = StreamBody<Pin<Box<dyn Stream<Item = HttpResult<Frame<Bytes>>> + Send>>>;

/// Converts a request to what a service sees.
fn incoming(request: Request, mount: &str) -> Result<http::Request<Incoming>, CallError> {
    let invalid = |what: String| CallError::Failure(Failure::Invalid(what));
    let mut incoming = http::Request::new(incoming_body(request.body));
    *incoming.method_mut() = http::Method::from_bytes(request.method.as_bytes())
        .map_err(|_| invalid(format!("the method {:?}", request.method)))?;
    let base: Option<Uri> = request.base.parse().ok().filter(|base: &Uri| base.host().is_some());
    let named =
        base.as_ref().and_then(|base| Some((base.scheme_str()?, base.authority()?.as_str())));
    let (scheme, authority) = named.unwrap_or(("http", "localhost"));
    let prefix = base.as_ref().map_or(mount, Uri::path);
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(target(&request.path, request.trailing_slash, &request.query))
        .build();
    *incoming.uri_mut() = uri.map_err(|error| invalid(format!("the target: {error}")))?;
    let headers = incoming.headers_mut();
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok();
        let value = HeaderValue::from_str(value).ok();
        let own = |name: &HeaderName| *name == PREFIX || *name == USER;
        if let (Some(name), Some(value)) = (name.filter(|name| !own(name)), value) {
            headers.append(name, value);
        }
    }
    tell(headers, PREFIX, Some(prefix).filter(|prefix| *prefix != "/"));
    tell(headers, USER, request.principal.as_ref().map(|principal| principal.name.as_str()));
    Ok(incoming)
}

fn tell(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}

fn incoming_body(body: Body) -> Incoming {
    let frames = body.map(|chunk| chunk.map(Frame::data).map_err(|error| incoming_error(&error)));
    StreamBody::new(Box::pin(frames))
}

fn incoming_error(error: &BodyError) -> Error {
    match error {
        BodyError::TimedOut => Error::ConnectionReadTimeout,
        BodyError::Truncated => Error::ConnectionTerminated,
        BodyError::TooLarge { limit } => Error::HttpRequestBodySize(Some(*limit)),
        error => Error::InternalError(Some(error.to_string())),
    }
}

/// The path below the mount and the query, percent-encoded again.
fn target(path: &[String], trailing_slash: bool, query: &Fields) -> String {
    let mut target = String::new();
    for segment in path {
        target.push('/');
        for &byte in segment.as_bytes() {
            // RFC 3986: what needs no encoding in a segment.
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
                target.push(char::from(byte));
            } else {
                target.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    if trailing_slash || path.is_empty() {
        target.push('/');
    }
    if !query.is_empty() {
        target.push('?');
        target.push_str(
            &form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish(),
        );
    }
    target
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn targets_are_encoded_again() {
        let path = |segments: &[&str]| -> Vec<String> {
            segments.iter().map(|segment| (*segment).to_owned()).collect()
        };
        assert_eq!(target(&[], false, &Vec::new()), "/");
        assert_eq!(
            target(&path(&["a", "b/c", "é %"]), true, &Vec::new()),
            "/a/b%2Fc/%C3%A9%20%25/"
        );
        let query = vec![("a".to_owned(), "b c&d".to_owned()), ("e".to_owned(), String::new())];
        assert_eq!(target(&path(&["x"]), false, &query), "/x?a=b+c%26d&e=");
    }

    #[test]
    fn settings_are_environment_variables() {
        let made = |settings: serde_json::Value| environment(settings.as_object().unwrap());
        let variables = made(json!({"A": "x", "B": 7, "C": true})).unwrap();
        let expected = [("A", "x"), ("B", "7"), ("C", "true")];
        assert_eq!(variables, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(made(json!({"A": ["x"]})).unwrap_err().contains("A: "));
        assert!(made(json!({"A=B": "x"})).is_err());
    }

    #[test]
    fn forwarded_headers_do_not_come_from_the_client() {
        let request = |base: &str| Request {
            method: "GET".to_owned(),
            base: base.to_owned(),
            target: "/app/".to_owned(),
            address: None,
            id: "1".to_owned(),
            path: Vec::new(),
            trailing_slash: true,
            query: Vec::new(),
            headers: vec![
                ("host".to_owned(), "backup:8000".to_owned()),
                ("x-forwarded-user".to_owned(), "root".to_owned()),
                ("x-forwarded-prefix".to_owned(), "/evil".to_owned()),
                ("accept".to_owned(), "text/plain".to_owned()),
            ],
            principal: None,
            body: Body::empty(),
            interim: None,
        };
        for (base, uri, prefix) in [
            ("http://backup:8000/app", "http://backup:8000/", "/app"),
            ("https://x.example/a/app", "https://x.example/", "/a/app"),
            ("", "http://localhost/", "/app"),
        ] {
            let incoming = incoming(request(base), "/app").unwrap();
            assert_eq!(incoming.uri(), uri);
            assert_eq!(incoming.headers()["accept"], "text/plain");
            assert_eq!(incoming.headers()[PREFIX], prefix);
            assert!(!incoming.headers().contains_key(USER));
        }
        let top = incoming(request("http://backup:8000"), "/").unwrap();
        assert!(!top.headers().contains_key(PREFIX));
    }
}

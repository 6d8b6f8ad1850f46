//! Request heads for handlers, and response heads for clients. Credentials and headers that concern only
//! one connection are left out.

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode, Version};
use keepgate_auth::Access;
use keepgate_core::{CallError, Reply, SendInterim};
use keepgate_store::{Body, Fields};

use crate::connection::{Connection, Exchange};
use crate::reason_phrase;
use crate::response_body::ResponseBody;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// True for headers that concern only the connection between the client and this server.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ]
    .contains(name)
}

/// The headers that a handler sees. Those that identify the client are left out: the host passes the
/// authenticated principal, and a handler cannot know which headers to trust. Where the operator lets the plugin judge
/// `Authorization`, it is passed.
pub(super) fn fields(head: &http::request::Parts, access: &Access) -> Fields {
    let named = named_by_connection(head);
    let withholds_authorization = !access.passes_authorization(&head.headers);
    let mut fields = Fields::with_capacity(head.headers.len() + 1);
    // HTTP/2 and absolute targets name the host in the target, which takes precedence.
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    if let Some(host) = authority {
        fields.push((header::HOST.as_str().to_owned(), host.to_owned()));
    }
    for (name, value) in &head.headers {
        let withheld = is_hop_by_hop(name)
            || named.contains(name)
            || (name == header::HOST && authority.is_some())
            || (name == header::AUTHORIZATION && withholds_authorization)
            || name == header::PROXY_AUTHORIZATION
            || access.withheld().any(|withheld| withheld == name);
        if withheld {
            continue;
        }
        match std::str::from_utf8(value.as_bytes()) {
            Ok(value) => fields.push((name.as_str().to_owned(), value.to_owned())),
            Err(_) => tracing::debug!(header = %name, "header dropped; its value is not UTF-8"),
        }
    }
    fields
}

/// Headers that the client declares to be for this connection only.
fn named_by_connection(head: &http::request::Parts) -> Vec<HeaderName> {
    let values = head.headers.get_all(header::CONNECTION).into_iter();
    let names = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.filter_map(|name| name.trim().parse().ok()).collect()
}

/// What sends interim responses to a request. A client of HTTP/1.0 would take them for the response.
pub(super) fn interim(
    head: &http::request::Parts,
    connection: &Arc<Connection>,
) -> Option<Arc<dyn SendInterim>> {
    let can = head.version >= Version::HTTP_11 && !connection.is_http2();
    can.then(|| Arc::clone(connection) as Arc<dyn SendInterim>)
}

impl SendInterim for Connection {
    fn send_interim(&self, status: u16, fields: &Fields) {
        let status = StatusCode::from_u16(status).ok().filter(StatusCode::is_informational);
        let (Some(status), Some(interim)) = (status, self.interim()) else { return };
        let header = |(name, value): &(String, String)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            (!is_hop_by_hop(&name) && name != header::CONTENT_LENGTH).then_some((name, value))
        };
        interim.push(status, &fields.iter().filter_map(header).collect::<Vec<_>>());
    }
}

/// A handler's reply as a response. Its length comes from the body or, if that is unknown, from the
/// handler's own header, which the body must then match. In a reply to HEAD the header takes
/// precedence, because the body that it describes is absent.
pub(super) fn response(
    mut reply: Reply,
    request: &http::request::Parts,
    exchange: &Arc<Exchange>,
) -> Result<Response<ResponseBody>, CallError> {
    let status = StatusCode::from_u16(reply.status).ok().filter(|_| reply.status >= 200);
    let status = status.ok_or_else(|| CallError::BadReply(format!("status {}", reply.status)))?;
    let length = reply.body.length();
    let text = reason_phrase::seen(status).and_then(|limit| reply.body.take_at_hand(limit));
    if let Some(text) = &text {
        reply.body = Body::from_bytes(text.clone());
    }
    let mut announced = None;
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in reply.headers {
        let bad = || CallError::BadReply(format!("header {name:?} with the value {value:?}"));
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        if is_hop_by_hop(&header) {
            continue;
        }
        if header == header::CONTENT_LENGTH {
            announced = Some(value.parse().map_err(|_| bad())?);
            continue;
        }
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad())?;
        headers.append(header, value);
    }
    let is_head = request.method == Method::HEAD;
    let shown = if is_head { announced.or(length) } else { length.or(announced) };
    if let Some(shown) = shown {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(shown));
    }
    let body = match length {
        Some(0) => ResponseBody::empty(),
        length => match length.or(announced) {
            None if request.version < Version::HTTP_11 => {
                ResponseBody::stream(reply.body, None).unframed(exchange)
            }
            length => ResponseBody::stream(reply.body, length),
        },
    };
    let (mut head, ()) = response.into_parts();
    if let Some(text) = text {
        reason_phrase::add(&mut head, &text);
    }
    Ok(Response::from_parts(head, body))
}

/// Removes the body of a response that must not have one: to HEAD, or a 204 or 304.
pub(super) fn strip_body(response: &mut Response<ResponseBody>, method: &Method) {
    // HEAD has the length that GET would have, but a 204 has none for any method (RFC 9110, section 8.6).
    if method != Method::HEAD || response.status() == StatusCode::NO_CONTENT {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    *response.body_mut() = ResponseBody::empty();
}

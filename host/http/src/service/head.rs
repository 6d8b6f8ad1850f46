//! Heads: a request's for the plugin, and a plugin's for the client. Headers that concern only
//! one connection, and credentials, do not pass.

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode, Version};
use keepgate_core::{CallError, Reply};
use keepgate_store::Fields;

use crate::access::Access;
use crate::connection::Exchange;
use crate::reply::ReplyBody;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// True for headers that are between the client and this server, whatever is behind it.
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

/// The headers that a plugin sees: none that says who a client is, because a plugin is told that
/// by the host, and cannot know who is believed.
pub(super) fn fields(head: &http::request::Parts, access: &Access) -> Fields {
    let named = named_by_connection(head);
    let mut fields = Fields::with_capacity(head.headers.len() + 1);
    // HTTP/2 and absolute targets name the host elsewhere; that name counts.
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    if let Some(host) = authority {
        fields.push((header::HOST.as_str().to_owned(), host.to_owned()));
    }
    for (name, value) in &head.headers {
        let withheld = is_hop_by_hop(name)
            || named.contains(name)
            || (name == header::HOST && authority.is_some())
            || name == header::AUTHORIZATION
            || name == header::PROXY_AUTHORIZATION
            || access.withheld().any(|withheld| withheld == name);
        if withheld {
            continue;
        }
        match std::str::from_utf8(value.as_bytes()) {
            Ok(value) => fields.push((name.as_str().to_owned(), value.to_owned())),
            Err(_) => tracing::debug!(%name, "header left out: its value is not UTF-8"),
        }
    }
    fields
}

/// Headers that the client says are for this connection only.
fn named_by_connection(head: &http::request::Parts) -> Vec<HeaderName> {
    let values = head.headers.get_all(header::CONNECTION).into_iter();
    let names = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.filter_map(|name| name.trim().parse().ok()).collect()
}

/// A plugin's reply as a response. Its length comes from its body, or, where that does not know,
/// from the plugin's own header, to which the body is then held. In a reply to HEAD the header
/// counts, because the body that it speaks of is not there.
pub(super) fn response(
    reply: Reply,
    request: &http::request::Parts,
    exchange: &Arc<Exchange>,
) -> Result<Response<ReplyBody>, CallError> {
    let status = StatusCode::from_u16(reply.status).ok().filter(|_| reply.status >= 200);
    let status = status.ok_or_else(|| CallError::BadReply(format!("status {}", reply.status)))?;
    let length = reply.body.length();
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
        Some(0) => ReplyBody::empty(),
        length => match length.or(announced) {
            None if request.version < Version::HTTP_11 => {
                ReplyBody::stream(reply.body, None).unframed(exchange)
            }
            length => ReplyBody::stream(reply.body, length),
        },
    };
    Ok(response.map(|()| body))
}

/// Leaves the head of a response that has no body: one to HEAD, or a 204 or 304.
pub(super) fn strip_body(response: &mut Response<ReplyBody>, method: &Method) {
    if method != Method::HEAD {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    *response.body_mut() = ReplyBody::empty();
}

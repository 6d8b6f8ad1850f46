//! The client of a world: requests, and bodies that break off or fall silent; and the reply as a
//! client of the server would see it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_http::offline;
use keepgate_runtime::{CallError, Mount, Principal, Reply, Request};
use keepgate_store::{Body, BodyError};
use tokio::sync::Notify;

/// How long a server waits for a client that sends nothing, as a configuration has it.
const CLIENT_STALL: Duration = Duration::from_secs(60);
/// Nothing that a case waits for takes longer by its clock.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Pieces in which bodies are sent, so that plugins meet more than one.
const PIECE: usize = 64 * 1024;
/// More of a reply is not kept.
const MAX_REPLY: usize = 256 << 20;

/// What a client sends.
#[derive(Clone, Debug, Default)]
pub struct Sending {
    /// In upper case.
    pub method: String,
    /// As it goes over the wire, below the mount.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The mount as the client reaches it; without it what the header `host` says, over plain HTTP, or
    /// `http://localhost`. Empty: nothing says it.
    pub base: Option<String>,
    /// Of the client; none over a Unix socket.
    pub address: Option<IpAddr>,
    /// As the host authenticated them.
    pub principal: Option<Principal>,
    /// The body.
    pub body: Vec<u8>,
    /// Its length is not said beforehand.
    pub unsized_body: bool,
    /// The client breaks off after so many bytes.
    pub cut: Option<u64>,
    /// The client sends nothing any more after so many bytes.
    pub stall: Option<u64>,
    /// The client goes away after it sent so many bytes.
    pub leaves_after_sending: Option<u64>,
    /// The client goes away after it got so many bytes of the reply's body.
    pub leaves_after_receiving: Option<u64>,
    /// The client goes away after so much time.
    pub leaves_after: Option<Duration>,
}

/// What a client got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// HTTP status; 0 where the client went away before there was one.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As far as it came.
    pub body: Vec<u8>,
    /// Why the body did not come to its end.
    pub broken: Option<String>,
    /// Why the plugin gave no reply: the host's word, and the text for operators.
    pub reason: Option<(&'static str, String)>,
    /// The client went away.
    pub left: bool,
}

impl Response {
    /// A header's first value; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text; bytes that spell no characters become U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Sends a request into a mount, as a connection would.
pub(crate) async fn send(mount: &Mount, sending: Sending, id: String) -> Result<Response, String> {
    let is_head = sending.method == "HEAD";
    let (received, after) = (sending.leaves_after_receiving, sending.leaves_after);
    let (gone, stalled) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let request = request(sending, id, gone.clone(), stalled.clone())?;
    let exchange = async {
        match mount.call(request).await {
            Ok(reply) => receive(reply, is_head, received).await,
            Err(error) => refused(&error, stalled.load(Ordering::Relaxed), is_head),
        }
    };
    let left = async {
        match after {
            Some(after) => tokio::time::sleep(after).await,
            None => tokio::time::sleep(PATIENCE).await,
        }
    };
    tokio::select! {
        response = exchange => Ok(response),
        () = gone.notified() => Ok(Response { left: true, ..Response::default() }),
        () = left => match after {
            Some(_) => Ok(Response { left: true, ..Response::default() }),
            None => Ok(Response {
                broken: Some("no end came within a week of the case's clock".to_owned()),
                ..Response::default()
            }),
        },
    }
}

fn request(
    sending: Sending,
    id: String,
    gone: Arc<Notify>,
    stalled: Arc<AtomicBool>,
) -> Result<Request, String> {
    let to = offline::destination(&sending.target)
        .map_err(|why| format!("the path {:?}: {why}", sending.target))?;
    let mut headers = sending.headers;
    let host = headers.iter().find(|(name, _)| name == "host").map(|(_, host)| host.as_str());
    let base = || format!("http://{}", host.unwrap_or("localhost"));
    let base = sending.base.unwrap_or_else(base);
    let has_length = headers.iter().any(|(name, _)| name == "content-length");
    if !sending.body.is_empty() && !sending.unsized_body && !has_length {
        headers.push(("content-length".to_owned(), sending.body.len().to_string()));
    }
    let length = (!sending.unsized_body).then_some(sending.body.len() as u64);
    let end = match (sending.leaves_after_sending, sending.cut, sending.stall) {
        (Some(passes), ..) => Some((passes, End::Gone(gone))),
        (None, Some(passes), _) => Some((passes, End::Cut)),
        (None, None, Some(passes)) => Some((passes, End::Stall(stalled))),
        (None, None, None) => None,
    };
    Ok(Request {
        method: sending.method,
        base,
        target: sending.target,
        address: sending.address,
        id,
        path: to.segments,
        trailing_slash: to.trailing_slash,
        query: to.query,
        headers,
        principal: sending.principal,
        body: body(sending.body, length, end),
    })
}

/// How a body of a request ends otherwise than by its end.
enum End {
    Cut,
    Stall(Arc<AtomicBool>),
    Gone(Arc<Notify>),
}

fn body(bytes: Vec<u8>, length: Option<u64>, end: Option<(u64, End)>) -> Body {
    let mut bytes = Bytes::from(bytes);
    if let Some((passes, _)) = &end {
        bytes.truncate(usize::try_from(*passes).unwrap_or(usize::MAX));
    } else if length.is_some() && bytes.len() <= PIECE {
        return Body::from_bytes(bytes);
    }
    let pieces = stream::iter(std::iter::from_fn(move || {
        let piece = bytes.split_to(bytes.len().min(PIECE));
        (!piece.is_empty()).then_some(Ok(piece))
    }));
    let Some((_, end)) = end else { return Body::from_stream(length, pieces) };
    let end = stream::once(async move {
        match end {
            End::Cut => Err(BodyError::Truncated),
            End::Stall(stalled) => {
                tokio::time::sleep(CLIENT_STALL).await;
                stalled.store(true, Ordering::Relaxed);
                Err(BodyError::TimedOut)
            }
            End::Gone(gone) => {
                gone.notify_one();
                std::future::pending().await
            }
        }
    });
    Body::from_stream(length, pieces.chain(end))
}

/// The reply as the server sends it: with a length where one is known, without a body where there
/// must not be one, broken off where its length is not what was announced.
async fn receive(reply: Reply, is_head: bool, leaves: Option<u64>) -> Response {
    let Reply { status, headers, mut body } = reply;
    let mut response = Response { status, ..Response::default() };
    let mut announced = None;
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        if name == "content-length" {
            announced = value.parse().ok();
        } else {
            response.headers.push((name, value));
        }
    }
    let length = body.length();
    let has_body = !is_head && !matches!(status, 204 | 304);
    let shown = if is_head { announced.or(length) } else { length.or(announced) };
    if let Some(shown) = shown.filter(|_| is_head || has_body) {
        response.headers.push(("content-length".to_owned(), shown.to_string()));
    }
    if !has_body {
        return response;
    }
    while let Some(chunk) = body.chunk().await {
        match chunk {
            Ok(chunk) => response.body.extend_from_slice(&chunk),
            Err(error) => {
                response.broken = Some(error.to_string());
                return response;
            }
        }
        if leaves.is_some_and(|leaves| response.body.len() as u64 >= leaves) {
            response.left = true;
            return response;
        }
        if response.body.len() > MAX_REPLY {
            response.broken = Some(format!("more than {MAX_REPLY} bytes are not kept"));
            return response;
        }
    }
    let (came, should) = (response.body.len() as u64, length.or(announced));
    if let Some(should) = should.filter(|should| *should != came) {
        response.broken = Some(format!("{should} bytes were announced, and {came} came"));
    }
    response
}

fn refused(error: &CallError, for_client: bool, is_head: bool) -> Response {
    let (status, headers, text) = offline::refusal(error, for_client);
    let body = if is_head { Vec::new() } else { text.into_bytes() };
    let reason = Some((error.reason(), error.to_string()));
    Response { status, headers, body, reason, ..Response::default() }
}

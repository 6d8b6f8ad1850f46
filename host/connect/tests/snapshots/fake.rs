//! A fake member that sends what a test wants: plain-text gRPC over HTTP/2, written by hand.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a member does next.
#[derive(Clone)]
pub(crate) enum Step {
    /// Sends a message of a snapshot.
    Message { remaining: u64, blob: Bytes },
    /// Sends nothing for this long, then an empty message.
    Idle { remaining: u64, after: Duration },
    /// Ends the call with this status.
    End { status: u16, message: &'static str },
    /// Ends the call without a status.
    Cut,
    /// Does nothing any more.
    Hang,
}

/// The end of a successful call.
pub(crate) const DONE: Step = Step::End { status: 0, message: "" };

type Steps = Box<dyn Iterator<Item = Step> + Send>;

/// A member that exists as long as this value.
pub(crate) struct Fake {
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl Fake {
    /// Answers requests for a snapshot with these steps.
    pub(crate) async fn start(steps: &[Step]) -> Self {
        let steps = steps.to_vec();
        Self::start_with(7, move || Box::new(steps.clone().into_iter())).await
    }

    /// The same, with new steps for each call, and with this leader.
    pub(crate) async fn start_with(
        leader: u64,
        steps: impl Fn() -> Steps + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let steps = Arc::new(steps);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let steps = Arc::clone(&steps);
                let service = service_fn(move |request: Request<Incoming>| {
                    let body = answer(request.uri().path(), leader, &*steps);
                    async move { Ok::<_, Infallible>(body) }
                });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), service);
                tokio::spawn(connection);
            }
        });
        Self { url, task }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn answer(path: &str, leader: u64, steps: &(impl Fn() -> Steps + ?Sized)) -> Answer {
    let frames = match path {
        "/etcdserverpb.Maintenance/Status" => {
            let mut message = Vec::new();
            length_delimited(&mut message, 1, &header());
            length_delimited(&mut message, 2, b"3.9.1");
            varint_field(&mut message, 3, 4096);
            varint_field(&mut message, 4, leader);
            frames(vec![Frame::data(grpc(&message)), trailers(0, "")])
        }
        "/etcdserverpb.Maintenance/Snapshot" => stream::iter(steps())
            .then(|step| async move {
                match step {
                    Step::Message { remaining, blob } => Some(piece(remaining, &blob)),
                    Step::Idle { remaining, after } => {
                        tokio::time::sleep(after).await;
                        Some(piece(remaining, &[]))
                    }
                    Step::End { status, message } => Some(trailers(status, message)),
                    Step::Cut => None,
                    Step::Hang => std::future::pending().await,
                }
            })
            .take_while(|frame| std::future::ready(frame.is_some()))
            .filter_map(std::future::ready)
            .map(Ok)
            .boxed(),
        "/etcdserverpb.KV/Range" if leader == 0 => {
            frames(vec![trailers(14, "etcdserver: no leader")])
        }
        _ => frames(vec![trailers(7, "etcdserver: permission denied")]),
    };
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    response
}

type Frames = stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

fn frames(frames: Vec<Frame<Bytes>>) -> Frames {
    stream::iter(frames.into_iter().map(Ok)).boxed()
}

fn trailers(status: u16, message: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status));
    trailers.insert("grpc-message", HeaderValue::from_static(message));
    Frame::trailers(trailers)
}

fn header() -> Vec<u8> {
    let mut header = Vec::new();
    varint_field(&mut header, 1, 1111);
    varint_field(&mut header, 2, 7);
    varint_field(&mut header, 3, 42);
    header
}

/// A message of a snapshot.
fn piece(remaining: u64, blob: &[u8]) -> Frame<Bytes> {
    let mut message = Vec::new();
    varint_field(&mut message, 2, remaining);
    length_delimited(&mut message, 3, blob);
    Frame::data(grpc(&message))
}

/// A message in its gRPC frame.
fn grpc(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat().into()
}

fn varint_field(to: &mut Vec<u8>, field: u64, value: u64) {
    varint(to, field << 3);
    varint(to, value);
}

fn length_delimited(to: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(to, field << 3 | 2);
    varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    to.push(value.to_le_bytes()[0]);
}

/// The beginning of a database.
pub(crate) fn first_page() -> Vec<u8> {
    let mut page = vec![0; 4096];
    page[16..20].copy_from_slice(&0xED0C_DAED_u32.to_le_bytes());
    page
}

/// A valid snapshot file with this many pages.
pub(crate) fn file(pages: usize) -> Bytes {
    let mut file = first_page();
    for page in 1..pages {
        file.extend([u8::try_from(page % 251).unwrap(); 4096]);
    }
    let hash = Sha256::digest(&file);
    file.extend(hash);
    file.into()
}

/// The messages that etcd sends for a file: pieces of 32 KiB, then its last 32 bytes, which are not
/// included in the announced size.
pub(crate) fn messages(file: &Bytes) -> Vec<Step> {
    let database = file.slice(..file.len() - 32);
    let mut steps = Vec::new();
    let mut at = 0;
    while at < database.len() {
        let end = (at + 32 * 1024).min(database.len());
        let remaining = (database.len() - end) as u64;
        steps.push(Step::Message { remaining, blob: database.slice(at..end) });
        at = end;
    }
    steps.push(Step::Message { remaining: 0, blob: file.slice(file.len() - 32..) });
    steps
}

/// A short limit, for tests that wait for something that never comes.
pub(crate) const SHORT: Duration = Duration::from_secs(1);

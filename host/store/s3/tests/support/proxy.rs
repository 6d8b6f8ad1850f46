//! A proxy between a store and its server that does to single requests what networks and servers do.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{Method, Request, Response, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server carries it out, and its response is lost.
    Swallow,
    /// The connection is closed before the server hears of it.
    Refuse,
    /// This status, without the server.
    Status(u16),
    /// The server says that it is too busy.
    SlowDown,
    /// The server says that this right is missing.
    Denied,
    /// The response ends after so many bytes of its body, with the connection.
    Cut(usize),
    /// The response stops after so many bytes of its body, and nothing more comes.
    Stall(usize),
    /// It is delayed by so many milliseconds.
    Delay(u64),
    /// The server gets so many bytes of its body, then the connection ends.
    Truncate(usize),
}

/// Which requests: the method, and what their path and query contain.
#[derive(Clone, Debug)]
struct Rule {
    method: Method,
    contains: [String; 2],
    faults: VecDeque<Fault>,
}

/// A proxy, and the requests that went through it.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub url: String,
    rules: Arc<Mutex<Vec<Rule>>>,
    seen: Arc<Mutex<Vec<String>>>,
    /// Requests under way, and the most since somebody asked.
    under_way: Arc<Mutex<(usize, usize)>>,
}

impl Proxy {
    /// Starts one on a free port.
    pub async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let proxy =
            Self { url, rules: Arc::default(), seen: Arc::default(), under_way: Arc::default() };
        let (this, server) = (proxy.clone(), server.to_owned());
        tokio::spawn(async move {
            let client: Client<HttpConnector, BoxBody<Bytes, Failed>> =
                Client::builder(TokioExecutor::new()).build_http();
            while let Ok((stream, _)) = listener.accept().await {
                let (this, server, client) = (this.clone(), server.clone(), client.clone());
                let service = service_fn(move |request| {
                    let (this, server, client) = (this.clone(), server.clone(), client.clone());
                    async move {
                        this.count(true);
                        let passed = this.pass(&server, &client, request).await;
                        this.count(false);
                        passed
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        proxy
    }

    /// Does this to the next requests of a kind, in this order; those after them pass.
    pub fn fault(&self, method: Method, contains: &str, faults: &[Fault]) {
        self.fault_of(method, contains, "", faults);
    }

    /// The same to requests that contain both.
    pub fn fault_of(&self, method: Method, one: &str, other: &str, faults: &[Fault]) {
        let faults = faults.iter().copied().collect();
        let rule = Rule { method, contains: [one.to_owned(), other.to_owned()], faults };
        self.rules.lock().unwrap().push(rule);
    }

    /// Lets everything pass from now on.
    pub fn forget(&self) {
        self.rules.lock().unwrap().clear();
    }

    /// Whether all faults have happened.
    pub fn is_done(&self) -> bool {
        self.rules.lock().unwrap().iter().all(|rule| rule.faults.is_empty())
    }

    /// The requests since the last call: method, path and query.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// The most requests at the same time since the last call, up to the heads of their responses.
    pub fn most_at_once(&self) -> usize {
        let mut under_way = self.under_way.lock().unwrap();
        let most = under_way.1;
        under_way.1 = under_way.0;
        most
    }

    fn count(&self, begins: bool) {
        let mut under_way = self.under_way.lock().unwrap();
        under_way.0 = if begins { under_way.0 + 1 } else { under_way.0 - 1 };
        under_way.1 = under_way.1.max(under_way.0);
    }

    fn next_fault(&self, request: &Request<Incoming>) -> Option<Fault> {
        let target = request.uri().to_string();
        self.seen.lock().unwrap().push(format!("{} {target}", request.method()));
        let mut rules = self.rules.lock().unwrap();
        rules
            .iter_mut()
            .filter(|rule| {
                rule.method == request.method() && {
                    rule.contains.iter().all(|part| target.contains(part))
                }
            })
            .find_map(|rule| rule.faults.pop_front())
    }

    async fn pass(
        &self,
        server: &str,
        client: &Client<HttpConnector, BoxBody<Bytes, Failed>>,
        mut request: Request<Incoming>,
    ) -> Result<Response<BoxBody<Bytes, Failed>>, Failed> {
        let fault = self.next_fault(&request);
        match fault {
            Some(Fault::Refuse) => return Err("refused".into()),
            Some(Fault::Status(status)) => {
                let _ = request.into_body().collect().await;
                let body = Full::new(Bytes::new()).map_err(|never: Infallible| match never {});
                return Ok(Response::builder().status(status).body(body.boxed())?);
            }
            Some(fault @ (Fault::SlowDown | Fault::Denied)) => {
                let _ = request.into_body().collect().await;
                let (status, code) = match fault {
                    Fault::Denied => (403, "AccessDenied"),
                    _ => (503, "SlowDown"),
                };
                let text = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
                let body = Full::from(text).map_err(|never: Infallible| match never {});
                return Ok(Response::builder().status(status).body(body.boxed())?);
            }
            Some(Fault::Delay(time)) => tokio::time::sleep(Duration::from_millis(time)).await,
            _ => {}
        }
        let target = request.uri().path_and_query().unwrap().as_str();
        *request.uri_mut() = format!("{server}{target}").parse::<Uri>()?;
        let request = request.map(|body| match fault {
            Some(Fault::Truncate(limit)) => truncated(body, limit),
            _ => body.map_err(Failed::from).boxed(),
        });
        let response = client.request(request).await?;
        let (head, body) = response.into_parts();
        let limit = match fault {
            Some(Fault::Swallow) => {
                let _ = body.collect().await;
                return Err("swallowed".into());
            }
            Some(Fault::Cut(limit) | Fault::Stall(limit)) => limit,
            _ => return Ok(Response::from_parts(head, body.map_err(Failed::from).boxed())),
        };
        let stalls = matches!(fault, Some(Fault::Stall(_)));
        let end = futures_util::stream::once(async move {
            if stalls {
                std::future::pending::<()>().await;
            }
            Err::<Bytes, Failed>("cut".into())
        });
        let frames = first(body, limit).chain(end).map(|data| data.map(Frame::data));
        Ok(Response::from_parts(head, http_body_util::BodyExt::boxed(StreamBody::new(frames))))
    }
}

/// The first bytes of a body, then an error.
fn truncated(body: Incoming, limit: usize) -> BoxBody<Bytes, Failed> {
    // Without the pause, the server could see the end of the connection before the bytes.
    let end = futures_util::stream::once(async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err::<Bytes, Failed>("truncated".into())
    });
    let frames = first(body, limit).chain(end).map(|data| data.map(Frame::data));
    http_body_util::BodyExt::boxed(StreamBody::new(frames))
}

/// The first bytes of a body.
fn first(body: Incoming, limit: usize) -> impl Stream<Item = Result<Bytes, Failed>> {
    let mut left = limit;
    let sent = BodyStream::new(body).map(move |frame| {
        let mut data = frame?.into_data().map_err(|_| "trailers")?;
        data.truncate(left);
        left -= data.len();
        Ok::<_, Failed>(data)
    });
    sent.take_while(|data| {
        let more = data.as_ref().is_ok_and(|data| !data.is_empty());
        std::future::ready(more)
    })
}

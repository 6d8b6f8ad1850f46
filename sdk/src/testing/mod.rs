//! A host in memory, for testing a plugin's logic with `cargo test`.
//!
//! ```
//! # use keepgate_sdk::{Description, Failure, Plugin, Reply, Request};
//! # struct Echo;
//! # impl Plugin for Echo {
//! #     type Settings = serde_json::Value;
//! #     fn describe() -> Description { Description::new("echo", "1") }
//! #     fn handle(request: Request, _: Self::Settings) -> Result<Reply, Failure> {
//! #         Ok(Reply::ok().body(request.body))
//! #     }
//! # }
//! use keepgate_sdk::testing::Host;
//!
//! let host = Host::new(); // with an empty store "main" and no settings
//! let reply = host.post("/some/path", b"hello").send::<Echo>();
//! assert_eq!((reply.status, reply.body.as_slice()), (200, b"hello".as_slice()));
//! ```
//!
//! The host belongs to the thread: each test has its own, and there is one at a time.

mod kept;
mod store;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::{
    Body, Content, Failure, Level, Method, Plugin, Principal, Refusal, Request, glue, jobs,
};
pub(crate) use store::{MemoryStore, hex};
pub use world::TestSnapshot;
pub(crate) use world::run_job;

thread_local! {
    static HOST: RefCell<State> = RefCell::new(State::default());
}

/// What the in-memory host knows.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) settings: String,
    pub(crate) now: u64,
    pub(crate) log: Vec<(Level, String)>,
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) gauges: BTreeMap<String, f64>,
    pub(crate) streamed: Option<Streamed>,
    pub(crate) jobs: Vec<jobs::Job>,
    /// By a job's id, the kind that its end starts.
    finally: BTreeMap<String, String>,
    /// For whom the call under way is.
    principal: Option<Principal>,
    runner: Option<world::Runner>,
    /// Of job, that the plugin under test runs; empty where none was said to run jobs.
    kinds: Vec<String>,
    /// Requests so far.
    requests: u64,
    clusters: world::Clusters,
    stores: BTreeMap<String, MemoryStore>,
}

/// A streamed reply as far as it came.
#[derive(Debug)]
pub(crate) struct Streamed {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) bytes: Vec<u8>,
}

impl State {
    pub(crate) fn open(&self, name: &str) -> Result<(), Failure> {
        if self.stores.contains_key(name) {
            return Ok(());
        }
        Err(Failure::Denied(format!("the mount grants no store named {name:?}")))
    }

    pub(crate) fn store(&mut self, name: &str) -> &mut MemoryStore {
        let store = self.stores.entry(name.to_owned()).or_default();
        store.now = self.now;
        store
    }
}

pub(crate) fn with_host<T>(work: impl FnOnce(&mut State) -> T) -> T {
    HOST.with_borrow_mut(work)
}

/// The in-memory host of this thread.
#[derive(Debug)]
pub struct Host(());

impl Host {
    /// A new one, with an empty store `main` and no settings; the old one is gone.
    pub fn new() -> Self {
        let mut state = State { settings: "{}".to_owned(), ..State::default() };
        state.store("main");
        HOST.set(state);
        Self(())
    }

    /// With these settings, a JSON object.
    pub fn settings(self, settings: &serde_json::Value) -> Self {
        with_host(|host| host.settings = settings.to_string());
        self
    }

    /// With another empty store.
    pub fn store(self, name: &str) -> Self {
        with_host(|host| {
            host.store(name);
        });
        self
    }

    /// Stores a blob in `main`.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        with_host(|host| host.store("main").set(key, bytes));
    }

    /// A blob of `main`.
    pub fn blob(&self, key: &str) -> Option<Vec<u8>> {
        with_host(|host| host.store("main").bytes(key))
    }

    /// The keys of `main`, in order.
    pub fn keys(&self) -> Vec<String> {
        with_host(|host| host.store("main").keys())
    }

    /// From now on `main` refuses to remove what does not match, as an append-only mount does.
    pub fn append_only(&self, except: fn(&str) -> bool) {
        with_host(|host| host.store("main").append_only(except));
    }

    /// From now on changes of these keys in `main` fail: `put` and `delete`, not what reads.
    pub fn refuse_changes(&self, of: fn(&str) -> bool, with: Failure) {
        with_host(|host| host.store("main").refuses(of, with));
    }

    /// From now on `main` is full.
    pub fn full(&self) {
        with_host(|host| host.store("main").full());
    }

    /// What a counter has, by name and label values joined with blanks.
    pub fn count(&self, series: &str) -> u64 {
        with_host(|host| host.counts.get(series).copied().unwrap_or(0))
    }

    /// What a gauge was set to last, by name and label values joined with blanks.
    pub fn gauge(&self, series: &str) -> Option<f64> {
        with_host(|host| host.gauges.get(series).copied())
    }

    /// The log so far.
    pub fn log(&self) -> Vec<(Level, String)> {
        with_host(|host| host.log.clone())
    }

    /// A request; `target` is the path below the mount with a query, percent-encoded or not.
    pub fn request(&self, method: &str, target: &str) -> RequestBuilder {
        RequestBuilder::new(method, target)
    }

    /// A GET.
    pub fn get(&self, target: &str) -> RequestBuilder {
        self.request("GET", target)
    }

    /// A POST.
    pub fn post(&self, target: &str, body: &[u8]) -> RequestBuilder {
        self.request("POST", target).body(body)
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

/// A request to be sent to a plugin.
#[derive(Debug)]
pub struct RequestBuilder(Request);

impl RequestBuilder {
    fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path.strip_prefix('/').unwrap_or(path);
        let mut segments: Vec<String> = path.split('/').map(decode).collect();
        // `/` alone is no segment and a slash at its end, as in a real request.
        let trailing_slash = segments.last().is_some_and(String::is_empty);
        if trailing_slash {
            segments.pop();
        }
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        };
        let query = query.split('&').filter(|text| !text.is_empty()).map(pair).collect();
        Self(Request {
            method: Method::new(method),
            base: "http://localhost".to_owned(),
            target: target.to_owned(),
            address: None,
            id: with_host(|host| {
                host.requests += 1;
                format!("request-{}", host.requests)
            }),
            segments,
            trailing_slash,
            query,
            headers: Vec::new(),
            principal: None,
            body: Body::from_bytes(&[]),
        })
    }

    /// With a header; its name in lower case.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The mount as the client reaches it, else `http://localhost`. Empty: nothing says it.
    pub fn base(mut self, base: &str) -> Self {
        base.clone_into(&mut self.0.base);
        self
    }

    /// From this IP address; else from none, as over a Unix socket.
    pub fn address(mut self, address: &str) -> Self {
        self.0.address = Some(address.to_owned());
        self
    }

    /// From a user.
    pub fn user(mut self, name: &str) -> Self {
        self.0.principal = Some(Principal {
            name: name.to_owned(),
            method: "test".to_owned(),
            claims: Vec::new(),
        });
        self
    }

    /// With a body.
    pub fn body(mut self, bytes: &[u8]) -> Self {
        self.0.body = Body::from_bytes(bytes);
        self
    }

    /// With a body whose sender stops after these bytes, although it announced more.
    pub fn cut_short(mut self, bytes: &[u8], announced: u64) -> Self {
        self.0.body = Body::cut_short(bytes, announced);
        self
    }

    /// What the plugin answers; a failure that it hands back has become a status, as in the host.
    pub fn send<P: Plugin>(self) -> TestReply {
        let principal = self.0.principal.clone();
        with_host(|host| (host.streamed, host.principal) = (None, principal));
        let reply = match glue::run::<P>(self.0) {
            Ok(reply) => reply,
            Err(failure) => {
                let (status, body) = (failure.status(), failure.message().into());
                let headers = match &failure {
                    Failure::Refused(Refusal { retry_after: Some(seconds), .. }) => {
                        vec![("retry-after".to_owned(), seconds.to_string())]
                    }
                    _ => Vec::new(),
                };
                return TestReply { status, headers, body, failure: Some(failure) };
            }
        };
        let (status, headers, body) = match reply.content {
            Content::Empty => (reply.status, reply.headers, Vec::new()),
            Content::Bytes(bytes) => (reply.status, reply.headers, bytes),
            Content::Body(body) => {
                (reply.status, reply.headers, body.into_bytes().unwrap_or_default())
            }
            Content::Streamed => with_host(|host| host.streamed.take()).map_or_else(
                || (500, Vec::new(), b"streamed, but never started".to_vec()),
                |streamed| (streamed.status, streamed.headers, streamed.bytes),
            ),
        };
        TestReply { status, headers, body, failure: None }
    }
}

/// What a plugin answered.
#[derive(Debug)]
pub struct TestReply {
    /// HTTP status.
    pub status: u16,
    /// Pairs of name and value.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
    /// The failure that the plugin handed back, if it did.
    pub failure: Option<Failure>,
}

impl TestReply {
    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Percent-decodes; what does not decode stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

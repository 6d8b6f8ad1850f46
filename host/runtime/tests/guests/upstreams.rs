//! Upstreams as a plugin uses them, tested with the guest `upstream_guest` and scripted exchanges.

use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use keepgate_jobs::{Filter, Job, Jobs, State};
use keepgate_runtime::JobRunner;
use keepgate_runtime::capability::upstreams::Upstreams;
use keepgate_store::{BodyError, Key, Part};
use keepgate_upstream::{Exchanges, Response, UpstreamError, Wishes};
use tokio::sync::oneshot;

use super::*;

/// More than a message has, so that passing it is a job's progress.
const LONG: usize = (1 << 20) + 5;

/// What an upstream was asked: method, target, headers, body and wishes.
type Asked = (String, String, Vec<(String, String)>, Vec<u8>, Wishes);

/// An upstream that answers by the target.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<Asked>>);

#[async_trait]
impl Exchanges for Told {
    async fn send(&self, request: keepgate_upstream::Request) -> Result<Response, UpstreamError> {
        let keepgate_upstream::Request { method, target, headers, body, wishes } = request;
        let body = match body {
            Some(body) => body.collect(1 << 30).await?.to_vec(),
            None => Vec::new(),
        };
        self.0.lock().unwrap().push((method, target.clone(), headers, body, wishes));
        let body = match target.as_str() {
            "/status" => Body::from_bytes("7"),
            "/export" => {
                let chunks = vec![1; LONG];
                let chunks: Vec<_> =
                    chunks.chunks(4096).map(|chunk| Ok(Bytes::from(chunk.to_vec()))).collect();
                Body::from_stream(Some(LONG as u64), stream::iter(chunks))
            }
            "/cut" => {
                let cut = BodyError::Unavailable("upstream \"lxd\": broke off".to_owned());
                Body::from_stream(Some(9), stream::iter([Ok(Bytes::from("hello")), Err(cut)]))
            }
            "/denied" => return Err(UpstreamError::Denied("no".to_owned())),
            "/invalid" => return Err(UpstreamError::Invalid("no".to_owned())),
            "/busy" => return Err(UpstreamError::Busy("no".to_owned())),
            "/away" => return Err(UpstreamError::Unavailable("no".to_owned())),
            _ => Body::from_bytes("hello"),
        };
        let headers = vec![("content-type".to_owned(), "text/x".to_owned())];
        Ok(Response { status: 203, headers, body })
    }

    fn check(&self, method: &str, target: &str) -> Result<(), UpstreamError> {
        match (method, target) {
            ("GET", "/denied") => Err(UpstreamError::Denied("no".to_owned())),
            ("GET", "/invalid") => Err(UpstreamError::Invalid("no".to_owned())),
            _ => Ok(()),
        }
    }
}

struct Guest {
    _bench: Bench,
    mount: Arc<Mount>,
    told: Arc<Told>,
    store: Arc<dyn BlobStore>,
    jobs: Arc<Jobs>,
    _stop: oneshot::Sender<()>,
}

impl Guest {
    async fn start() -> Self {
        let mut bench = Bench::new();
        bench.put("upstream_guest.wasm", &guest("upstream_guest"));
        let (told, jobs) = (Arc::new(Told::default()), Jobs::in_memory());
        let mut store = None;
        let spec = spec("/", "upstream_guest", |spec| {
            store = Some(with_store(spec));
            let upstream: Arc<dyn Exchanges> = told.clone();
            spec.grants.insert(Upstreams([("lxd".to_owned(), upstream)].into()));
            spec.grants.insert(JobQueue(jobs.clone()));
        });
        let generation = bench.generation(&[spec]).await;
        assert_eq!(generation.refused, []);
        let mount = generation.mounts[0].clone();
        let runner = Arc::new(JobRunner::new(move || generation.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let running = jobs.clone();
        tokio::spawn(async move { running.run(runner, async { drop(stopped.await) }).await });
        Self { _bench: bench, mount, told, store: store.unwrap(), jobs, _stop: stop }
    }

    async fn failure(&self, path: &str) -> Failure {
        match get(&self.mount, path).await {
            Err(CallError::Failure(failure)) => failure,
            other => panic!("{path}: {other:?}"),
        }
    }

    /// Runs a job to its end.
    async fn run(&self, kind: &str) -> Job {
        let started = self.mount.call(request("POST", &format!("/{kind}/lxd"), b"")).await;
        let id = text(started.unwrap()).await;
        loop {
            let jobs = self.jobs.list(Filter::default(), 9).await.unwrap();
            let job = jobs.into_iter().find(|job| job.id == id).unwrap();
            if !matches!(job.state, State::Queued | State::Running) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn an_exchange_passes_through_a_plugin() {
    let guest = Guest::start().await;
    assert_eq!(text(get(&guest.mount, "/names").await.unwrap()).await, "[\"lxd\"]");
    let reply = get(&guest.mount, "/through/lxd/a").await.unwrap();
    assert_eq!(reply.status, 203);
    assert!(reply.headers.iter().any(|(_, value)| value == "text/x"), "{:?}", reply.headers);
    assert_eq!(text(reply).await, "hello");
    let put = guest.mount.call(request("PUT", "/through/lxd/b", b"bytes")).await.unwrap();
    assert_eq!((put.status, text(put).await.as_str()), (203, "hello"));
    let asked = guest.told.0.lock().unwrap();
    let (method, target, _, body, wishes) = &asked[0];
    assert_eq!((method.as_str(), target.as_str(), body.as_slice()), ("GET", "/a", &b""[..]));
    assert_eq!(*wishes, Wishes::default());
    let (method, target, headers, body, wishes) = &asked[1];
    assert_eq!((method.as_str(), target.as_str(), body.as_slice()), ("PUT", "/b", &b"bytes"[..]));
    assert_eq!(*headers, [("x-guest".to_owned(), "1".to_owned())]);
    let fifty = Some(Duration::from_secs(50));
    let expected =
        Wishes { answer_within: fifty, silent_for: fifty, max_body: Some(1000), resume: false };
    assert_eq!(*wishes, expected);
}

#[tokio::test]
async fn each_refusal_has_its_failure() {
    let guest = Guest::start().await;
    let Failure::Denied(why) = guest.failure("/through/other/a").await else { panic!("no") };
    assert_eq!(why, "the mount / grants no upstream \"other\"; granted: lxd");
    let Failure::Denied(why) = guest.failure("/check/other/a").await else { panic!("no") };
    assert!(why.contains("grants no upstream \"other\""), "{why}");
    assert!(matches!(guest.failure("/check/lxd/denied").await, Failure::Denied(_)));
    assert!(matches!(guest.failure("/check/lxd/invalid").await, Failure::Invalid(_)));
    assert!(get(&guest.mount, "/check/lxd/away").await.is_ok());
    assert!(guest.told.0.lock().unwrap().is_empty());
    assert!(matches!(guest.failure("/through/lxd/denied").await, Failure::Denied(_)));
    assert!(matches!(guest.failure("/through/lxd/invalid").await, Failure::Invalid(_)));
    assert!(matches!(guest.failure("/through/lxd/busy").await, Failure::Busy(_)));
    assert!(matches!(guest.failure("/through/lxd/away").await, Failure::Unavailable(_)));
    let cut = get(&guest.mount, "/through/lxd/cut").await.unwrap();
    let error = cut.body.collect(9).await.unwrap_err();
    assert!(matches!(error, BodyError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn in_a_job_long_bodies_are_its_progress_in_both_directions() {
    let guest = Guest::start().await;
    let fetched = guest.run("fetch").await;
    assert_eq!(fetched.state, State::Succeeded, "{fetched:?}");
    assert_eq!(fetched.output, b"7");
    assert_eq!((fetched.progress.done, fetched.progress.total), (LONG as u64, Some(LONG as u64)));
    let stored = guest.store.get(&Key::new("export").unwrap(), Part::Whole).await.unwrap();
    assert_eq!(stored.length, LONG as u64);
    assert!(guest.told.0.lock().unwrap().last().unwrap().4.resume);
    let pushed = guest.run("push").await;
    assert_eq!((pushed.state, pushed.output.as_slice()), (State::Succeeded, &b"203"[..]));
    assert_eq!((pushed.progress.done, pushed.progress.total), (LONG as u64, Some(LONG as u64)));
    assert_eq!(guest.told.0.lock().unwrap().last().unwrap().3.len(), LONG);
}

#[tokio::test]
async fn a_mount_without_upstreams_is_told_what_to_add() {
    let mut bench = Bench::new();
    bench.put("upstream_guest.wasm", &guest("upstream_guest"));
    let spec = spec("/", "upstream_guest", |spec| drop(with_store(spec)));
    let generation = bench.generation(std::slice::from_ref(&spec)).await;
    assert_eq!(generation.refused, [], "it is granted nothing, and may not need it");
    let plugin = generation.mounts[0].serving().unwrap().clone();
    let hints = plugin.hints(&spec);
    assert!(hints.iter().any(|hint| hint.contains("upstreams = { main")), "{hints:?}");
}

//! Clusters, pipes and jobs, tested with the etcd plugin and a scripted cluster.

use std::collections::VecDeque;
use std::io::Read as _;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use keepgate_connect::{Checked, ConnectError, EndpointStatus, Facts, Snapshot, Snapshots};
use keepgate_jobs::{Filter, Job, Jobs, NewJob, State, WhenBusy};
use keepgate_runtime::JobRunner;
use keepgate_runtime::capability::etcd::Clusters;
use keepgate_store::{BodyError, Folder};
use tokio::sync::oneshot;

use super::*;

/// What a member sends.
enum Sends {
    All(Vec<u8>),
    /// These bytes, and then an error.
    Some(Vec<u8>),
    /// These bytes, and then nothing.
    Hangs(Vec<u8>),
}

/// A cluster with scripted snapshots.
struct Told(Mutex<VecDeque<(&'static str, Sends)>>);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

#[async_trait]
impl Snapshots for Told {
    async fn take(&self, except: &[String]) -> Result<Snapshot, ConnectError> {
        let mut told = self.0.lock().unwrap();
        let next = told.iter().position(|(url, _)| !except.iter().any(|known| known == url));
        let Some((endpoint, sends)) = next.and_then(|next| told.remove(next)) else {
            return Err(ConnectError::Unavailable("http://none: refused".to_owned()));
        };
        let sha256 = Checked::default();
        let (size, body) = match sends {
            Sends::All(bytes) => {
                let told = sha256.clone();
                let whole = Bytes::from(bytes.clone());
                let end = stream::once(async move {
                    told.set("f00d".to_owned());
                    Ok(whole)
                });
                (bytes.len(), Body::from_stream(Some(bytes.len() as u64), end))
            }
            Sends::Some(bytes) => {
                let why = format!("{endpoint} broke off");
                let pieces = [Ok(Bytes::from(bytes)), Err(BodyError::Unavailable(why))];
                (9000, Body::from_stream(Some(9000), stream::iter(pieces)))
            }
            Sends::Hangs(bytes) => {
                let pieces = stream::iter([Ok(Bytes::from(bytes))]).chain(stream::pending());
                (9000, Body::from_stream(Some(9000), pieces))
            }
        };
        let facts = Facts {
            endpoint: endpoint.to_owned(),
            version: "3.4.23".to_owned(),
            cluster_id: 1,
            member_id: 2,
            revision: 7,
            stale: false,
            keys: Some(3),
            size: size as u64,
        };
        Ok(Snapshot { facts, body, sha256 })
    }

    async fn status(&self) -> Vec<EndpointStatus> {
        Vec::new()
    }
}

/// A store grant that records who opens the store.
#[derive(Debug)]
struct Asked(Arc<dyn BlobStore>, Arc<Mutex<Vec<Option<String>>>>);

impl StoreGrant for Asked {
    fn store(&self, principal: Option<&Principal>) -> Arc<dyn BlobStore> {
        self.1.lock().unwrap().push(principal.map(|principal| principal.name.clone()));
        self.0.clone()
    }
}

/// The etcd plugin with a job queue.
struct Etcd {
    _bench: Bench,
    mount: Arc<Mount>,
    store: Arc<dyn BlobStore>,
    /// Who opened it.
    asked: Arc<Mutex<Vec<Option<String>>>>,
    jobs: Arc<Jobs>,
    stop: Option<oneshot::Sender<()>>,
    running: tokio::task::JoinHandle<()>,
}

impl Etcd {
    async fn start(told: Vec<(&'static str, Sends)>) -> Self {
        let mut bench = Bench::new();
        bench.put("etcd.wasm", &component("KEEPGATE_PLUGIN_DIR", "etcd"));
        let jobs = Jobs::in_memory();
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let mut store = None;
        let cluster: Arc<dyn Snapshots> = Arc::new(Told(Mutex::new(told.into())));
        let spec = spec("/", "etcd", |spec| {
            let made = with_store(spec);
            let grant = Asked(made.clone(), asked.clone());
            grant_store(spec, grant);
            store = Some(made);
            grant_cluster(spec, cluster);
            spec.grants.insert(JobQueue(jobs.clone()));
        });
        let generation = bench.generation(&[spec]).await;
        assert_eq!(generation.refused, []);
        let mount = generation.mounts[0].clone();
        let runner = Arc::new(JobRunner::new(move || generation.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let running = {
            let jobs = jobs.clone();
            tokio::spawn(async move { jobs.run(runner, async { drop(stopped.await) }).await })
        };
        let (store, stop) = (store.unwrap(), Some(stop));
        Self { _bench: bench, mount, store, asked, jobs, stop, running }
    }

    async fn post(&self) -> (u16, serde_json::Value) {
        let reply = self.mount.call(request("POST", "/api/v1/backup", b"")).await.unwrap();
        let status = reply.status;
        (status, serde_json::from_str(&text(reply).await).unwrap())
    }

    async fn names(&self) -> Vec<String> {
        let mut listing = self.store.list(&Folder::new("").unwrap(), true).await.unwrap();
        let mut names = Vec::new();
        loop {
            let entries = listing.next(100).await.unwrap();
            if entries.is_empty() {
                return names;
            }
            names.extend(entries.into_iter().map(|entry| entry.key));
        }
    }

    /// The only job, once it is in this state.
    async fn job(&self, state: State) -> Job {
        loop {
            let jobs = self.jobs.list(Filter::default(), 9).await.unwrap();
            if let [job] = jobs.as_slice()
                && job.state == state
            {
                return job.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_snapshot_streams_through_the_pipes_into_the_store() {
    let database = b"a database".repeat(500);
    let etcd = Etcd::start(vec![("http://a", Sends::All(database.clone()))]).await;
    let (status, said) = etcd.post().await;
    assert_eq!((status, &said["message"]), (200, &json!("backup successfully")), "{said}");
    assert_eq!(said["snapshot_sha256"], "f00d");
    let name = said["filename"].as_str().unwrap();
    assert_eq!(etcd.names().await, [format!("index/{name}.json"), name.to_owned()]);

    let reply = get(&etcd.mount, &format!("/api/v1/backup/{name}")).await.unwrap();
    let file = reply.body.collect(1 << 20).await.unwrap();
    assert_eq!(said["filesize"], file.len());
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&*file));
    let mut entries = archive.entries().unwrap();
    let mut entry = entries.next().unwrap().unwrap();
    let mut found = Vec::new();
    entry.read_to_end(&mut found).unwrap();
    assert_eq!(found, database);
    assert!(entries.next().is_none());
    let job = etcd.job(State::Succeeded).await;
    assert_eq!((job.key.as_str(), job.origin.as_str()), ("main", "user ann"));
    // The job uses the store with her rights.
    assert_eq!(*etcd.asked.lock().unwrap(), vec![Some("ann".to_owned()); 2]);
}

#[tokio::test]
async fn a_member_that_breaks_off_is_replaced_by_the_next() {
    let whole = b"whole".to_vec();
    let etcd = Etcd::start(vec![
        ("http://a", Sends::Some(b"half".to_vec())),
        ("http://b", Sends::All(whole)),
    ]);
    let etcd = etcd.await;
    let (status, said) = etcd.post().await;
    assert_eq!((status, &said["endpoint"]), (200, &json!("http://b")), "{said}");

    // If there is no other member, nothing is left of the backup.
    let etcd = Etcd::start(vec![("http://a", Sends::Some(b"half".to_vec()))]).await;
    let (status, said) = etcd.post().await;
    assert_eq!((status, &said["message"]), (500, &json!("failed to save an etcd backup")));
    let why = said["error"].as_str().unwrap();
    assert!(why.contains("http://a broke off") && why.contains("http://none"), "{why}");
    assert_eq!(etcd.names().await, [] as [String; 0]);
}

#[tokio::test]
async fn a_job_survives_its_client_and_ends_when_it_is_cancelled() {
    let etcd = Etcd::start(vec![("http://a", Sends::Hangs(b"half".to_vec()))]).await;
    let post = tokio::time::timeout(Duration::from_millis(200), etcd.post());
    assert!(post.await.is_err());
    let job = loop {
        let job = etcd.job(State::Running).await;
        if job.progress.done > 0 {
            break job;
        }
    };
    assert_eq!((job.progress.done, job.progress.total), (4, Some(9000)));
    assert_eq!(etcd.jobs.cancel(&job.id).await.unwrap(), Some(true));
    assert_eq!(etcd.names().await, [] as [String; 0]);
    assert_eq!(etcd.job(State::Cancelled).await.message, "cancelled");
}

#[tokio::test]
async fn stopping_the_gateway_records_the_state_of_its_jobs() {
    let mut etcd = Etcd::start(vec![("http://a", Sends::Hangs(b"half".to_vec()))]).await;
    let new = NewJob {
        mount: "/".to_owned(),
        kind: "backup".to_owned(),
        key: "main".to_owned(),
        origin: "operator".to_owned(),
        schedule: None,
        user: None,
        input: b"{}".to_vec(),
        attempts: 1,
        backoff: Duration::ZERO,
        not_before: None,
        finally: None,
        when_busy: WhenBusy::Queue,
    };
    etcd.jobs.start(new).await.unwrap();
    etcd.job(State::Running).await;
    drop(etcd.stop.take());
    etcd.running.await.unwrap();
    let jobs = etcd.jobs.list(Filter::default(), 9).await.unwrap();
    assert_ne!(jobs[0].state, State::Succeeded);
}

#[tokio::test]
async fn a_plugin_checks_the_input_of_a_schedule() {
    let etcd = Etcd::start(Vec::new()).await;
    let ask =
        async |kind: &str, input: &str| etcd.mount.check_job(kind, input.as_bytes()).await.unwrap();
    assert_eq!(ask("backup", "{}").await.unwrap(), "main");
    let refused = ask("backup", r#"{"cluster":"other"}"#).await.unwrap_err();
    assert!(refused.contains("other"), "{refused}");
    let refused = ask("restore", "{}").await.unwrap_err();
    assert!(refused.contains("runs no job \"restore\""), "{refused}");
}

#[tokio::test]
async fn a_mount_without_grants_says_what_is_missing() {
    let mut bench = Bench::new();
    bench.put("etcd.wasm", &component("KEEPGATE_PLUGIN_DIR", "etcd"));
    let spec = spec("/", "etcd", |spec| {
        with_store(spec);
    });
    let generation = bench.generation(&[spec]).await;
    let why = generation.mounts[0].serving().unwrap_err();
    assert!(why.contains("the mount grants none; add `etcd = { main = "), "{why}");
}

#[tokio::test]
async fn a_mount_without_a_requested_cluster_is_refused() {
    let mut bench = Bench::new();
    bench.put("job_guest.wasm", &guest("job_guest"));
    let spec = spec("/", "job_guest", |spec| drop(with_store(spec)));
    let generation = bench.generation(&[spec]).await;
    let why = generation.mounts[0].serving().unwrap_err();
    assert!(why.contains("takes snapshots of a cluster \"main\""), "{why}");
    assert!(why.contains("add `etcd = { main = "), "{why}");
}

fn grant_cluster(spec: &mut MountSpec, cluster: Arc<dyn Snapshots>) {
    spec.grants.update::<Clusters>(|clusters| {
        clusters.0.insert("main".to_owned(), cluster);
    });
}

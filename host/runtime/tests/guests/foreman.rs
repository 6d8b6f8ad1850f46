//! What a plugin that starts jobs and sets gauges may ask for, and what it is told: by the guest
//! `foreman`, which does as its requests say.

use std::sync::Mutex;

use async_trait::async_trait;
use keepgate_connect::{ConnectError, EndpointStatus, Snapshot};
use keepgate_jobs::{FINAL_ATTEMPTS, Filter, Job, Jobs, State, User};
use keepgate_runtime::JobRunner;
use tokio::sync::oneshot;

use super::*;

/// A cluster of which nobody asks anything.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl Snapshots for Silent {
    async fn take(&self, _: &[String]) -> Result<Snapshot, ConnectError> {
        Err(ConnectError::Unavailable("nobody answers".to_owned()))
    }

    async fn status(&self) -> Vec<EndpointStatus> {
        Vec::new()
    }
}

/// For whom a store was opened.
type Opened = Arc<Mutex<Vec<Option<Principal>>>>;

/// A store that remembers for whom it is opened.
#[derive(Debug)]
struct Asked(Arc<dyn BlobStore>, Opened);

impl StoreGrant for Asked {
    fn store(&self, principal: Option<&Principal>) -> Arc<dyn BlobStore> {
        self.1.lock().unwrap().push(principal.cloned());
        self.0.clone()
    }
}

struct Foreman {
    bench: Bench,
    mount: Arc<Mount>,
    opened: Opened,
    jobs: Arc<Jobs>,
    _stop: oneshot::Sender<()>,
}

impl Foreman {
    async fn start() -> Self {
        let mut bench = Bench::new();
        bench.put("foreman.wasm", &guest("foreman"));
        let jobs = Jobs::in_memory();
        let opened = Opened::default();
        let spec = spec("/", "foreman", |spec| {
            let grant = Asked(with_store(spec), opened.clone());
            grant_store(spec, grant);
            grant_cluster(spec, Arc::new(Silent));
            spec.grants.insert(JobQueue(jobs.clone()));
        });
        let generation = bench.generation(&[spec]).await;
        assert_eq!(generation.refused, []);
        let mount = generation.mounts[0].clone();
        let runner = Arc::new(JobRunner::new(move || generation.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let running = jobs.clone();
        tokio::spawn(async move { running.run(runner, async { drop(stopped.await) }).await });
        Self { bench, mount, opened, jobs, _stop: stop }
    }

    async fn call(&self, request: Request) -> Result<String, Failure> {
        match self.mount.call(request).await {
            Ok(reply) => Ok(text(reply).await),
            Err(CallError::Failure(failure)) => Err(failure),
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts a job of a kind for Ann, who has a role; its id.
    async fn begin(&self, kind: &str, wish: &str) -> Result<String, Failure> {
        let mut request = request("POST", &format!("/{kind}"), wish.as_bytes());
        request.principal = Some(ann());
        self.call(request).await
    }

    async fn end(&self, id: &str) -> Job {
        loop {
            let job = self.jobs.get(id).await.unwrap().unwrap();
            if job.state.is_over() {
                return job;
            }
            self.jobs.wait(id, job.state, Duration::from_secs(60)).await.unwrap();
        }
    }

    /// The job that the end of this one started, when it is over.
    async fn follower(&self, id: &str) -> Job {
        let all = self.jobs.list(Filter::default(), 100).await.unwrap();
        let follower = all.into_iter().find(|job| job.after.as_deref() == Some(id)).unwrap();
        self.end(&follower.id).await
    }
}

fn ann() -> Principal {
    let claims = vec![("role".to_owned(), "admin".to_owned())];
    Principal { name: "ann".to_owned(), method: "htpasswd".into(), claims }
}

#[tokio::test]
async fn every_end_of_a_job_is_followed_for_the_same_user() {
    let foreman = Foreman::start().await;
    let by_ann = User {
        name: "ann".to_owned(),
        method: "htpasswd".to_owned(),
        claims: vec![("role".to_owned(), "admin".to_owned())],
    };
    let started = |kind, key| {
        let wish = format!("key={key}&attempts=1&finally=tidy");
        let foreman = &foreman;
        async move { foreman.begin(kind, &wish).await.unwrap() }
    };
    let (good, bad) = (started("work", "a").await, started("fail", "b").await);
    let hanging = started("hang", "c").await;
    foreman.jobs.wait(&hanging, State::Queued, Duration::from_secs(60)).await.unwrap();
    assert_eq!(foreman.jobs.cancel(&hanging).await.unwrap(), Some(true));
    for (id, state, said) in [
        (&good, State::Succeeded, "State::Succeeded for ann by htpasswd role=admin: "),
        (&bad, State::Failed, "State::Failed for ann by htpasswd role=admin: as the test wants"),
        (&hanging, State::Cancelled, "State::Cancelled for ann by htpasswd role=admin: cancelled"),
    ] {
        assert_eq!(foreman.end(id).await.state, state);
        let tidied = foreman.follower(id).await;
        assert_eq!(
            (tidied.state, String::from_utf8(tidied.output).unwrap()),
            (State::Succeeded, said.to_owned())
        );
        assert_eq!((tidied.kind.as_str(), tidied.attempts), ("tidy", FINAL_ATTEMPTS));
        assert_eq!(tidied.user.as_ref(), Some(&by_ann));
        assert_eq!(tidied.origin, format!("job {id}"));
    }
    // With her rules, in each of them.
    let opened = foreman.opened.lock().unwrap().clone();
    assert_eq!(opened, vec![Some(ann()); 4]);
}

#[tokio::test]
async fn a_job_that_a_job_starts_works_for_its_user() {
    let foreman = Foreman::start().await;
    let id = foreman.begin("begin", "key=a&attempts=1").await.unwrap();
    let begun = String::from_utf8(foreman.end(&id).await.output).unwrap();
    let job = foreman.end(&begun).await;
    assert_eq!(job.output, b"ann by htpasswd role=admin");
    assert_eq!(job.origin, format!("job {id}"));
    // Nobody's is nobody's.
    let mut nobodys = request("POST", "/work", b"key=b&attempts=1");
    nobodys.principal = None;
    let id = foreman.call(nobodys).await.unwrap();
    assert_eq!(foreman.end(&id).await.output, b"nobody");
}

#[tokio::test]
async fn when_a_job_is_tried_is_as_was_asked() {
    let foreman = Foreman::start().await;
    let wish = "key=a&attempts=3&backoff=20&delay=2000";
    let id = foreman.begin("fail", wish).await.unwrap();
    let told = foreman.call(request("GET", &format!("/jobs/{id}"), b"")).await.unwrap();
    assert_eq!(told, r#"[0,3,true,"ann by htpasswd role=admin"]"#);
    // Of those that must not begin earlier, one is joined.
    let joining = format!("{wish}&when_busy=join-queued");
    assert_eq!(foreman.begin("fail", &joining).await.unwrap(), id);
    let other = foreman.begin("fail", "key=a&attempts=1&when_busy=join-queued").await.unwrap();
    assert_ne!(other, id);
    let job = foreman.end(&id).await;
    let took = job.ended.unwrap().duration_since(job.created).unwrap();
    assert!(took >= Duration::from_millis(2060), "{took:?}");
    assert_eq!((job.state, job.attempt, job.attempts), (State::Failed, 3, 3));
    let told = foreman.call(request("GET", &format!("/jobs/{id}"), b"")).await.unwrap();
    assert_eq!(told, r#"[3,3,null,"ann by htpasswd role=admin"]"#);
}

#[tokio::test]
async fn kinds_that_the_plugin_does_not_run_are_refused_at_the_start() {
    let foreman = Foreman::start().await;
    for (kind, wish) in [("rest", "key=a&attempts=1"), ("work", "key=a&attempts=1&finally=rest")] {
        let refused = foreman.begin(kind, wish).await.unwrap_err();
        let Failure::Invalid(why) = refused else { panic!("{refused:?}") };
        assert!(why.contains("runs no job \"rest\""), "{why}");
    }
    assert!(foreman.jobs.list(Filter::default(), 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn gauges_are_what_they_were_set_to() {
    let foreman = Foreman::start().await;
    let metrics = || {
        let families = foreman.bench.registry.gather();
        prometheus::TextEncoder::new().encode_to_string(&families).unwrap()
    };
    assert!(!metrics().contains("foreman_level"), "it has no value before it is set");
    for (value, shown) in [("1.5", "1.5"), ("-3", "-3"), ("NaN", "-3"), ("inf", "-3")] {
        foreman.call(request("GET", &format!("/gauge/{value}"), b"")).await.unwrap();
        let line = format!("foreman_level{{mount=\"/\",what=\"x\"}} {shown}\n");
        assert!(metrics().contains(&line), "{value}: {}", metrics());
    }
    assert!(metrics().contains("# TYPE foreman_level gauge\n"));
    assert!(!metrics().contains("foreman_calls_total"), "a counter is not set");
}

#[tokio::test]
async fn a_request_says_where_it_came_in() {
    let foreman = Foreman::start().await;
    let mut asked = request("GET", "/place", b"");
    asked.base = "https://backup.example/x".to_owned();
    asked.target = "/x/place?y=%20".to_owned();
    asked.address = Some("2001:db8::1".parse().unwrap());
    let told = foreman.call(asked).await.unwrap();
    let expected = r#"["https://backup.example/x","/x/place?y=%20","2001:db8::1","test-1","https://backup.example/x/a%20b"]"#;
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_mount_without_a_cluster_that_the_plugin_names_is_refused() {
    let mut bench = Bench::new();
    bench.put("foreman.wasm", &guest("foreman"));
    let spec = spec("/", "foreman", |spec| drop(with_store(spec)));
    let generation = bench.generation(&[spec]).await;
    let why = generation.mounts[0].serving().unwrap_err();
    assert!(why.contains("takes snapshots of a cluster \"main\""), "{why}");
    assert!(why.contains("add `etcd = { main = "), "{why}");
}

//! Jobs and gauges as a plugin uses them, tested with the guest `job_guest`, which does what its requests
//! say.

use std::sync::Mutex;

use keepgate_jobs::{FINAL_ATTEMPTS, Filter, Job, Jobs, State, User};
use keepgate_runtime::JobRunner;
use tokio::sync::oneshot;

use super::*;

/// The users for whom a store was opened.
type Opened = Arc<Mutex<Vec<Option<Principal>>>>;

/// A store grant that records for whom the store is opened.
#[derive(Debug)]
struct Asked(Arc<dyn BlobStore>, Opened);

impl StoreGrant for Asked {
    fn store(&self, principal: Option<&Principal>) -> Arc<dyn BlobStore> {
        self.1.lock().unwrap().push(principal.cloned());
        self.0.clone()
    }
}

struct JobGuest {
    bench: Bench,
    mount: Arc<Mount>,
    opened: Opened,
    jobs: Arc<Jobs>,
    _stop: oneshot::Sender<()>,
}

impl JobGuest {
    async fn start() -> Self {
        let mut bench = Bench::new();
        bench.put("job_guest.wasm", &guest("job_guest"));
        bench.scan().await;
        let jobs = Jobs::in_memory();
        let opened = Opened::default();
        let spec = spec("/", "job_guest", |spec| {
            let grant = Asked(with_store(spec), opened.clone());
            grant_store(spec, grant);
            grant_the_rest(spec, &bench.loader);
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

    /// Starts a job of this kind for Ann, who has a role, and returns its id.
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

    /// Waits for the `finally` job of this one to end.
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
async fn finally_runs_for_the_same_user_however_a_job_ends() {
    let job_guest = JobGuest::start().await;
    let by_ann = User {
        name: "ann".to_owned(),
        method: "htpasswd".to_owned(),
        claims: vec![("role".to_owned(), "admin".to_owned())],
    };
    let started = |kind, key| {
        let wish = format!("key={key}&attempts=1&finally=tidy");
        let job_guest = &job_guest;
        async move { job_guest.begin(kind, &wish).await.unwrap() }
    };
    let (good, bad) = (started("work", "a").await, started("fail", "b").await);
    let hanging = started("hang", "c").await;
    job_guest.jobs.wait(&hanging, State::Queued, Duration::from_secs(60)).await.unwrap();
    assert_eq!(job_guest.jobs.cancel(&hanging).await.unwrap(), Some(true));
    for (id, state, said) in [
        (&good, State::Succeeded, "State::Succeeded for ann by htpasswd role=admin: "),
        (&bad, State::Failed, "State::Failed for ann by htpasswd role=admin: as the test wants"),
        (&hanging, State::Cancelled, "State::Cancelled for ann by htpasswd role=admin: cancelled"),
    ] {
        assert_eq!(job_guest.end(id).await.state, state);
        let tidied = job_guest.follower(id).await;
        assert_eq!(
            (tidied.state, String::from_utf8(tidied.output).unwrap()),
            (State::Succeeded, said.to_owned())
        );
        assert_eq!((tidied.kind.as_str(), tidied.attempts), ("tidy", FINAL_ATTEMPTS));
        assert_eq!(tidied.user.as_ref(), Some(&by_ann));
        assert_eq!(tidied.origin, format!("job {id}"));
    }
    // Each of them opens the store for her.
    let opened = job_guest.opened.lock().unwrap().clone();
    assert_eq!(opened, vec![Some(ann()); 4]);
}

#[tokio::test]
async fn a_job_started_by_a_job_runs_for_the_same_user() {
    let job_guest = JobGuest::start().await;
    let id = job_guest.begin("begin", "key=a&attempts=1").await.unwrap();
    let begun = String::from_utf8(job_guest.end(&id).await.output).unwrap();
    let job = job_guest.end(&begun).await;
    assert_eq!(job.output, b"ann by htpasswd role=admin");
    assert_eq!(job.origin, format!("job {id}"));
    // A job that nobody started runs for nobody.
    let mut nobodys = request("POST", "/work", b"key=b&attempts=1");
    nobodys.principal = None;
    let id = job_guest.call(nobodys).await.unwrap();
    assert_eq!(job_guest.end(&id).await.output, b"nobody");
}

#[tokio::test]
async fn attempts_start_when_the_options_say() {
    let job_guest = JobGuest::start().await;
    let wish = "key=a&attempts=3&backoff=20&delay=2000";
    let id = job_guest.begin("fail", wish).await.unwrap();
    let told = job_guest.call(request("GET", &format!("/jobs/{id}"), b"")).await.unwrap();
    assert_eq!(told, r#"[0,3,true,"ann by htpasswd role=admin"]"#);
    // A job that is queued for a later time is joined.
    let joining = format!("{wish}&when_busy=join-queued");
    assert_eq!(job_guest.begin("fail", &joining).await.unwrap(), id);
    let other = job_guest.begin("fail", "key=a&attempts=1&when_busy=join-queued").await.unwrap();
    assert_ne!(other, id);
    let job = job_guest.end(&id).await;
    let took = job.ended.unwrap().duration_since(job.created).unwrap();
    assert!(took >= Duration::from_millis(2060), "{took:?}");
    assert_eq!((job.state, job.attempt, job.attempts), (State::Failed, 3, 3));
    let told = job_guest.call(request("GET", &format!("/jobs/{id}"), b"")).await.unwrap();
    assert_eq!(told, r#"[3,3,null,"ann by htpasswd role=admin"]"#);
}

#[tokio::test]
async fn starting_a_kind_that_the_plugin_does_not_run_fails() {
    let job_guest = JobGuest::start().await;
    for (kind, wish) in [("rest", "key=a&attempts=1"), ("work", "key=a&attempts=1&finally=rest")] {
        let refused = job_guest.begin(kind, wish).await.unwrap_err();
        let Failure::Invalid(why) = refused else { panic!("{refused:?}") };
        assert!(why.contains("runs no job \"rest\""), "{why}");
    }
    assert!(job_guest.jobs.list(Filter::default(), 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn gauges_have_the_value_that_was_set() {
    let job_guest = JobGuest::start().await;
    let metrics = || {
        let families = job_guest.bench.registry.gather();
        prometheus::TextEncoder::new().encode_to_string(&families).unwrap()
    };
    assert!(!metrics().contains("job_guest_level"), "it has no value before it is set");
    for (value, shown) in [("1.5", "1.5"), ("-3", "-3"), ("NaN", "-3"), ("inf", "-3")] {
        job_guest.call(request("GET", &format!("/gauge/{value}"), b"")).await.unwrap();
        let line = format!("job_guest_level{{mount=\"/\",what=\"x\"}} {shown}\n");
        assert!(metrics().contains(&line), "{value}: {}", metrics());
    }
    assert!(metrics().contains("# TYPE plugin_job_guest_level gauge\n"));
    assert!(!metrics().contains("job_guest_calls_total"), "a counter is not set");
}

#[tokio::test]
async fn a_request_has_its_base_and_the_clients_address() {
    let job_guest = JobGuest::start().await;
    let mut asked = request("GET", "/place", b"");
    asked.base = "https://backup.example/x".to_owned();
    asked.target = "/x/place?y=%20".to_owned();
    asked.address = Some("2001:db8::1".parse().unwrap());
    let told = job_guest.call(asked).await.unwrap();
    let expected = r#"["https://backup.example/x","/x/place?y=%20","2001:db8::1","test-1","https://backup.example/x/a%20b"]"#;
    assert_eq!(told, expected);
}

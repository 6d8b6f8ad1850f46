//! Rate limits over sockets: what a client beyond its limit gets, when, and what it costs the gateway. The tests set the
//! time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use keepgate_auth::htpasswd::Options;
use keepgate_auth::{Access, Htpasswd, Method};
use keepgate_core::Handler;
use keepgate_http::{
    AccessLog, AccessLogEntry, CountedRequests, RateLimitBy, RateLimitOptions, RateLimits,
    SiteMount,
};

use crate::support::{Native, Response, Running, config, start_gateway, stock};

fn limit(name: &str, by: RateLimitBy, requests: u32) -> RateLimitOptions {
    RateLimitOptions {
        name: name.to_owned(),
        by,
        requests,
        per: Duration::from_secs(60),
        burst: None,
        methods: None,
        paths: None,
        count: CountedRequests::All,
    }
}

/// One request in a day, which is longer than any test.
pub(crate) fn once_a_day(by: RateLimitBy) -> Arc<RateLimits> {
    let per = Duration::from_secs(24 * 3600);
    let limit = RateLimitOptions { per, ..limit("daily", by, 1) };
    Arc::new(RateLimits::new([limit], None).unwrap())
}

/// What the access log is told: users and statuses.
#[derive(Default)]
struct Log(Mutex<Vec<(Option<String>, u16)>>);

impl AccessLog for Log {
    fn ended(&self, entry: &AccessLogEntry) {
        let status = entry.status.map_or(0, |status| status.as_u16());
        self.0.lock().unwrap().push((entry.user.clone(), status));
    }
}

/// A gateway whose mount `/` has limits, and `/free` none. Ann and Bob have passwords, which are their names.
struct Limited {
    server: Running,
    users: Arc<Htpasswd>,
    seconds: Arc<AtomicU64>,
    log: Arc<Log>,
}

impl Limited {
    async fn start(limits: Vec<RateLimitOptions>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".htpasswd");
        let line = |user| format!("{user}:{}\n", bcrypt::hash(user, 4).unwrap());
        std::fs::write(&file, ["ann", "bob"].map(line).concat()).unwrap();
        let users = Htpasswd::load(file, Options::default()).unwrap();
        let access = Arc::new(Access::Methods(vec![Method::Htpasswd(users.clone())]));
        let seconds = Arc::new(AtomicU64::new(0));
        let clock = {
            let seconds = seconds.clone();
            move || Duration::from_secs(seconds.load(Ordering::Relaxed))
        };
        let limits = RateLimits::with_clock(limits, None, clock).unwrap();
        let mount = |path| -> (Arc<dyn Handler>, _) { (Native::at(path, stock), access.clone()) };
        let limited = SiteMount { rate_limits: Some(Arc::new(limits)), ..mount("/").into() };
        let log = Arc::new(Log::default());
        let logged = {
            let log = log.clone();
            |gateway: keepgate_http::Gateway| gateway.with_access_log(log)
        };
        let server = start_gateway(vec![limited, mount("/free").into()], config(), logged).await;
        Self { server, users, seconds, log }
    }

    fn set_time(&self, seconds: u64) {
        self.seconds.store(seconds, Ordering::Relaxed);
    }

    /// Sends a GET on a new connection.
    async fn get(&self, path: &str, user: &str, password: &str) -> Response {
        self.server.ask(&head("GET", path, user, password, "")).await
    }

    #[track_caller]
    fn assert_counted(&self, limit: &str, refusals: u64) {
        let name = "keepgate_http_rate_limited_total";
        let line = format!("{name}{{limit=\"{limit}\",mount=\"/\"}} {refusals}\n");
        let counters = self.server.counters();
        assert!(counters.contains(&line), "{line}{counters}");
    }
}

fn head(method: &str, path: &str, user: &str, password: &str, more: &str) -> String {
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("{method} {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Basic {basic}\r\n{more}\r\n")
}

#[tokio::test]
async fn a_user_beyond_the_limit_is_refused_and_others_are_not() {
    let limited = Limited::start(vec![limit("all", RateLimitBy::Principal, 2)]).await;
    limited.assert_counted("all", 0);
    let mut client = limited.server.connect().await;
    let ann = head("GET", "/show", "ann", "ann", "");
    for _ in 0..2 {
        client.send(ann.as_bytes()).await;
        assert_eq!(client.response().await.status, 200);
    }
    client.send(ann.as_bytes()).await;
    let refused = client.response().await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("30")));
    let text = "Too Many Requests: rate limit exceeded: \"all\" allows each user 2 requests in 1m; try again in 30 \
                seconds\n";
    assert_eq!(refused.text(), text);
    assert_eq!(refused.header("connection"), None);
    assert_eq!(limited.get("/show", "bob", "bob").await.status, 200);
    assert_eq!(limited.get("/free/show", "ann", "ann").await.status, 200);
    // The connection is still of use.
    limited.set_time(29);
    client.send(ann.as_bytes()).await;
    let refused = client.response().await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    limited.set_time(30);
    client.send(ann.as_bytes()).await;
    assert_eq!(client.response().await.status, 200);
    limited.assert_counted("all", 2);
    limited.server.end().await;
    let log = limited.log.0.lock().unwrap();
    assert_eq!(log.iter().filter(|entry| **entry == (Some("ann".to_owned()), 429)).count(), 2);
}

#[tokio::test]
async fn failed_logins_are_refused_before_the_password_is_checked() {
    let logins = RateLimitOptions {
        count: CountedRequests::Failed,
        ..limit("logins", RateLimitBy::Address, 3)
    };
    let limited = Limited::start(vec![logins]).await;
    for _ in 0..10 {
        assert_eq!(limited.get("/show", "ann", "ann").await.status, 200);
        // Nobody has guessed anything here.
        assert_eq!(limited.server.get("/show").await.status, 401);
        assert_eq!(limited.get("/missing", "ann", "ann").await.status, 404);
    }
    for _ in 0..3 {
        assert_eq!(limited.get("/show", "ann", "wrong").await.status, 401);
    }
    let checks = limited.users.bcrypt_checks();
    for guess in ["one", "two", "three"] {
        let refused = limited.get("/show", "bob", guess).await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("20")));
    }
    // Not even with the right password, or a guess could be recognised.
    assert_eq!(limited.get("/show", "bob", "bob").await.status, 429);
    assert_eq!(limited.users.bcrypt_checks(), checks);
    assert_eq!(limited.get("/free/show", "ann", "ann").await.status, 200);
    limited.assert_counted("logins", 4);
    limited.set_time(20);
    assert_eq!(limited.get("/show", "ann", "ann").await.status, 200);
    // What the plugin refuses counts, too.
    assert_eq!(limited.get("/refuse", "ann", "ann").await.status, 403);
    assert_eq!(limited.get("/show", "ann", "ann").await.status, 429);
    limited.server.end().await;
}

#[tokio::test]
async fn a_limit_of_addresses_spares_the_check_of_passwords() {
    let limited = Limited::start(vec![limit("address", RateLimitBy::Address, 1)]).await;
    assert_eq!(limited.get("/show", "ann", "wrong").await.status, 401);
    let checks = limited.users.bcrypt_checks();
    assert_eq!(limited.get("/show", "ann", "wrong").await.status, 429);
    assert_eq!(limited.get("/show", "bob", "bob").await.status, 429);
    assert_eq!(limited.users.bcrypt_checks(), checks);
    limited.server.end().await;
}

#[tokio::test]
async fn an_upload_beyond_the_limit_is_refused_without_its_body() {
    let limited = Limited::start(vec![limit("all", RateLimitBy::Principal, 1)]).await;
    assert_eq!(limited.get("/show", "ann", "ann").await.status, 200);
    // A client that waits for `100 Continue` gets the refusal instead, and must connect again.
    let mut client = limited.server.connect().await;
    let expecting = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    client.send(head("POST", "/sink", "ann", "ann", expecting).as_bytes()).await;
    let refused = client.response().await;
    assert_eq!((refused.status, refused.header("connection")), (429, Some("close")));
    assert!(client.is_closed().await);
    // One that sends its body at once can go on.
    let mut client = limited.server.connect().await;
    let upload = head("POST", "/sink", "ann", "ann", "Content-Length: 5\r\n") + "hello";
    client.send(upload.as_bytes()).await;
    let refused = client.response().await;
    assert_eq!((refused.status, refused.header("connection")), (429, None));
    limited.set_time(60);
    client.send(upload.as_bytes()).await;
    let accepted = client.response().await;
    assert_eq!((accepted.status, accepted.text()), (200, "5 of Some(5)"));
    limited.server.end().await;
}

#[tokio::test]
async fn a_limit_is_about_the_paths_and_methods_that_it_names() {
    let paths = Some(vec!["/source/*".to_owned()]);
    let methods = Some(vec!["GET".to_owned()]);
    let some = RateLimitOptions { paths, methods, ..limit("some", RateLimitBy::Principal, 1) };
    let limited = Limited::start(vec![some]).await;
    assert_eq!(limited.get("/source/1", "ann", "ann").await.status, 200);
    for path in ["/source/2", "/%73ource/2", "//source//2/"] {
        assert_eq!(limited.get(path, "ann", "ann").await.status, 429, "{path}");
    }
    assert_eq!(limited.get("/show/2", "ann", "ann").await.status, 200);
    let head = limited.server.ask(&head("POST", "/source/0", "ann", "ann", "")).await;
    assert_eq!(head.status, 200);
    limited.server.end().await;
}

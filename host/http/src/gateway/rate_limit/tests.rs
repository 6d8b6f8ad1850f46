//! Limits together: which of them count a request, and what a reload keeps. Time is set by the tests.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Seconds, set by a test.
#[derive(Clone, Default)]
struct Time(Arc<AtomicU64>);

impl Time {
    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }

    fn limits(&self, all: &[RateLimitOptions], before: Option<&RateLimits>) -> RateLimits {
        let time = self.clone();
        let clock = move || Duration::from_secs(time.0.load(Ordering::Relaxed));
        RateLimits::with_clock(all.to_vec(), before, clock).unwrap()
    }
}

/// Requests in each minute, for each user.
fn limit(name: &str, requests: u32) -> RateLimitOptions {
    RateLimitOptions {
        name: name.to_owned(),
        by: RateLimitBy::Principal,
        requests,
        per: Duration::from_secs(60),
        burst: None,
        methods: None,
        paths: None,
        count: CountedRequests::All,
    }
}

fn failed(name: &str, requests: u32) -> RateLimitOptions {
    RateLimitOptions { count: CountedRequests::Failed, ..limit(name, requests) }
}

fn by_address(limit: RateLimitOptions) -> RateLimitOptions {
    RateLimitOptions { by: RateLimitBy::Address, ..limit }
}

/// Sends a GET by all limits, which is answered with this status if it gets through. Returns the limit that refuses it,
/// and the seconds after which to try again.
fn send(
    limits: &RateLimits,
    address: &str,
    user: Option<&str>,
    path: &str,
    status: u16,
) -> Result<(), (String, u64)> {
    let refused = |exceeded: Exceeded<'_>| (exceeded.name().to_owned(), exceeded.seconds());
    let path: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
    let address = Some(address.parse().unwrap());
    let Some(mut passage) = Passage::new(Some(limits), address) else { return Ok(()) };
    passage.admit(RateLimitBy::Address, &Method::GET, &path).map_err(refused)?;
    let principal = user.map(|user| Principal {
        name: user.to_owned(),
        method: "htpasswd".into(),
        claims: Vec::new(),
    });
    passage.identify(principal.as_ref());
    passage.admit(RateLimitBy::Principal, &Method::GET, &path).map_err(refused)?;
    passage.answered(StatusCode::from_u16(status).unwrap());
    Ok(())
}

fn refused(name: &str, seconds: u64) -> Result<(), (String, u64)> {
    Err((name.to_owned(), seconds))
}

const HERE: &str = "192.0.2.1";
const THERE: &str = "192.0.2.2";

#[test]
fn users_are_counted_wherever_they_are_and_others_by_their_address() {
    let (time, ann) = (Time::default(), Some("ann"));
    let limits = time.limits(&[limit("all", 2)], None);
    assert_eq!(send(&limits, HERE, ann, "/", 200), Ok(()));
    assert_eq!(send(&limits, THERE, ann, "/", 200), Ok(()));
    assert_eq!(send(&limits, HERE, ann, "/", 200), refused("all", 30));
    assert_eq!(send(&limits, HERE, Some("bob"), "/", 200), Ok(()));
    for _ in 0..2 {
        assert_eq!(send(&limits, HERE, None, "/", 200), Ok(()));
    }
    assert_eq!(send(&limits, HERE, None, "/", 200), refused("all", 30));
    assert_eq!(send(&limits, THERE, None, "/", 200), Ok(()));
    time.set(29);
    assert_eq!(send(&limits, HERE, ann, "/", 200), refused("all", 1));
    time.set(30);
    assert_eq!(send(&limits, HERE, ann, "/", 200), Ok(()));
    assert_eq!(send(&limits, HERE, ann, "/", 200), refused("all", 30));
}

#[test]
fn only_failures_count_for_a_limit_of_failed_requests() {
    let time = Time::default();
    let limits = time.limits(&[by_address(failed("logins", 3))], None);
    for status in [200, 204, 304, 404, 409, 429, 500, 503].into_iter().cycle().take(100) {
        assert_eq!(send(&limits, HERE, None, "/", status), Ok(()));
    }
    for status in [400, 401, 403] {
        assert_eq!(send(&limits, HERE, None, "/", status), Ok(()));
    }
    assert_eq!(send(&limits, HERE, None, "/", 200), refused("logins", 20));
    assert_eq!(send(&limits, THERE, None, "/", 401), Ok(()));
    time.set(20);
    assert_eq!(send(&limits, HERE, None, "/", 200), Ok(()), "what is right costs nothing");
    assert_eq!(send(&limits, HERE, None, "/", 401), Ok(()));
    assert_eq!(send(&limits, HERE, None, "/", 200), refused("logins", 20));
}

#[test]
fn failures_under_way_at_the_same_time_are_all_counted() {
    let time = Time::default();
    let limits = time.limits(&[by_address(failed("logins", 1))], None);
    let address = Some(HERE.parse().unwrap());
    let mut under_way: Vec<Passage<'_>> =
        (0..3).map(|_| Passage::new(Some(&limits), address).unwrap()).collect();
    for passage in &mut under_way {
        passage.admit(RateLimitBy::Address, &Method::GET, &[]).unwrap();
    }
    for passage in &under_way {
        passage.failed();
    }
    assert_eq!(send(&limits, HERE, None, "/", 200), refused("logins", 180));
}

#[test]
fn a_request_that_one_limit_refuses_does_not_count_for_others() {
    let time = Time::default();
    let narrow =
        RateLimitOptions { paths: Some(vec!["/config/*".to_owned()]), ..limit("narrow", 1) };
    let limits = time.limits(&[limit("wide", 3), narrow], None);
    assert_eq!(send(&limits, HERE, None, "/config/a", 200), Ok(()));
    for _ in 0..10 {
        assert_eq!(send(&limits, HERE, None, "/config/b", 200), refused("narrow", 60));
    }
    assert_eq!(send(&limits, HERE, None, "/other", 200), Ok(()));
    assert_eq!(send(&limits, HERE, None, "/config", 200), Ok(()));
    assert_eq!(send(&limits, HERE, None, "/other", 200), refused("wide", 20));
}

#[test]
fn methods_and_paths_choose_requests() {
    let time = Time::default();
    let puts = RateLimitOptions { methods: Some(vec!["PUT".to_owned()]), ..limit("puts", 1) };
    let limits = time.limits(&[puts], None);
    let mut passage = Passage::new(Some(&limits), None).unwrap();
    for _ in 0..2 {
        passage.admit(RateLimitBy::Principal, &Method::GET, &[]).unwrap();
    }
    passage.admit(RateLimitBy::Principal, &Method::PUT, &[]).unwrap();
    passage.admit(RateLimitBy::Principal, &Method::PUT, &[]).unwrap_err();
    passage.admit(RateLimitBy::Address, &Method::PUT, &[]).unwrap();
}

#[test]
fn a_reload_continues_limits_that_stay_the_same() {
    let time = Time::default();
    let before = time.limits(&[limit("same", 1), limit("changed", 1)], None);
    assert_eq!(send(&before, HERE, None, "/", 200), Ok(()));
    assert_eq!(send(&before, HERE, None, "/", 200), refused("same", 60));
    let after = time.limits(&[limit("changed", 2), limit("same", 1)], Some(&before));
    assert_eq!(send(&after, HERE, None, "/", 200), refused("same", 60));
    let without = time.limits(&[limit("changed", 2)], Some(&after));
    for _ in 0..2 {
        assert_eq!(send(&without, HERE, None, "/", 200), Ok(()), "it begins anew");
    }
    assert_eq!(send(&without, HERE, None, "/", 200), refused("changed", 30));
}

#[test]
fn the_client_is_told_which_limit_and_when_to_try_again() {
    let told = |options: RateLimitOptions, seconds: u64| {
        let time = Time::default();
        let by = options.by;
        let limits = time.limits(&[options], None);
        let mut passage = Passage::new(Some(&limits), None).unwrap();
        while passage.admit(by, &Method::GET, &[]).is_ok() {
            passage.failed();
        }
        time.set(seconds);
        passage.admit(by, &Method::GET, &[]).unwrap_err().to_string()
    };
    assert_eq!(
        told(limit("configurations", 120), 0),
        "rate limit exceeded: \"configurations\" allows each user 120 requests in 1m; try again in 1 second"
    );
    let logins = RateLimitOptions { per: Duration::from_secs(90), ..failed("logins", 1) };
    assert_eq!(
        told(by_address(logins), 88),
        "rate limit exceeded: \"logins\" allows each address 1 failed request in 1m 30s; try again in 2 seconds"
    );
}

#[test]
fn every_problem_of_a_limit_is_reported() {
    assert_eq!(limit("good", 1).problems(), []);
    let methods = Some(["GET", "get", ""].map(str::to_owned).to_vec());
    let bad = RateLimitOptions {
        burst: Some(0),
        per: Duration::from_millis(999),
        methods,
        paths: Some(["config/*", "/a/", "/a//b", "/{a", "/fine"].map(str::to_owned).to_vec()),
        ..limit("bad", MOST + 1)
    };
    let said: Vec<String> = bad.problems().iter().map(ToString::to_string).collect();
    let expected = [
        "expected a number from 1 to 1000000, found 1000001",
        "expected a number from 1 to 1000000, found 0",
        "expected a duration from \"1s\" to \"24h\", found 999ms",
        "expected a method in upper case such as \"GET\", found \"get\"",
        "expected a method in upper case such as \"GET\", found \"\"",
        "pattern \"config/*\": write a path below the mount that begins with /",
        "pattern \"/a/\": remove the slash at its end",
        "pattern \"/a//b\": remove the empty segment",
        "pattern \"/{a\": ",
    ];
    assert_eq!(said.len(), expected.len(), "{said:?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}");
    }
    assert!(RateLimits::new([bad], None).is_err());
    let empty = RateLimitOptions {
        methods: Some(Vec::new()),
        paths: Some(Vec::new()),
        ..limit("empty", 1)
    };
    assert_eq!(empty.problems(), [RateLimitError::NoMethod, RateLimitError::NoPath]);
}

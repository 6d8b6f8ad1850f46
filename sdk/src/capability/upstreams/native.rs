//! Upstreams whose answers a test prepares: whole ones, silence, and bodies that break off.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::Serialize;

use super::contract::{Options, Request};
use crate::testing::{Host, with};
use crate::{Body, Failure};

/// Granted upstreams.
type Upstreams = BTreeMap<String, Upstream>;

#[derive(Debug, Default)]
struct Upstream {
    /// What is left of what the test prepared.
    ready: Vec<TestExchange>,
    sent: Vec<SentRequest>,
}

/// A request that the plugin sent, for a test to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentRequest {
    /// The method.
    pub method: String,
    /// Path and query, or the URL.
    pub target: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// Whether the plugin said that the resource does not change.
    pub resume: bool,
}

/// A request with its response.
#[derive(Debug)]
pub struct Exchange {
    status: u16,
    headers: Vec<(String, String)>,
    body: RefCell<Option<Body>>,
}

impl Exchange {
    /// Sends a request and takes the next answer that the test prepared for its method and target.
    pub(super) fn send(
        upstream: &str,
        request: &Request,
        body: Option<Body>,
        options: Options,
    ) -> Result<Self, Failure> {
        let Request { method, target, headers } = request;
        with(|upstreams: &mut Upstreams| match upstreams.contains_key(upstream) {
            true => Ok(()),
            false => Err(not_granted(upstream)),
        })?;
        // A request whose body fails is aborted.
        let body = body.map(Body::into_bytes).transpose()?.unwrap_or_default();
        let answer = with(|upstreams: &mut Upstreams| {
            let upstream = upstreams.entry(upstream.to_owned()).or_default();
            upstream.sent.push(SentRequest {
                method: method.clone(),
                target: target.clone(),
                headers: headers.clone(),
                body,
                resume: options.resume,
            });
            let is_next = |ready: &TestExchange| (&ready.method, &ready.target) == (method, target);
            let next = upstream.ready.iter().position(is_next)?;
            Some(upstream.ready.remove(next))
        });
        let Some(answer) = answer else {
            return Err(Failure::Internal(format!(
                "the test prepared no answer of upstream {upstream:?} to {method} {target}"
            )));
        };
        answer.outcome?;
        let announced = answer.body.len() as u64;
        let body = match answer.cut {
            None => Body::from_bytes(&answer.body),
            Some(after) => {
                let sent = answer.body.get(..after).unwrap_or(&answer.body);
                let why = format!(
                    "upstream {upstream:?}: the response broke off after {} of {announced} bytes",
                    sent.len()
                );
                Body::failing(sent, Some(announced), Failure::Unavailable(why))
            }
        };
        let body = match options.max_body.filter(|most| *most < announced) {
            Some(most) => {
                let short = usize::try_from(most).unwrap_or(usize::MAX);
                let sent = answer.body.get(..short).unwrap_or_default();
                Body::failing(sent, Some(announced), Failure::TooLarge(most))
            }
            None => body,
        };
        Ok(Self { status: answer.status, headers: answer.headers, body: RefCell::new(Some(body)) })
    }

    /// The status, 200 to 599.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers, with names in lower case.
    pub fn headers(&self) -> Vec<(String, String)> {
        self.headers.clone()
    }

    /// The bytes of the response. Fails with [`Failure::Invalid`] at the second call. Reading fails with
    /// [`Failure::Unavailable`] if the upstream breaks off or sends nothing for too long.
    pub fn body(&self) -> Result<Body, Failure> {
        let taken = || Failure::Invalid("the body of this exchange was taken before".to_owned());
        self.body.borrow_mut().take().ok_or_else(taken)
    }
}

/// Fails as the next exchange does that the test prepared for this method and target, if the operator does not allow
/// it. Anything else is allowed.
pub(super) fn check(upstream: &str, method: &str, target: &str) -> Result<(), Failure> {
    with(|upstreams: &mut Upstreams| {
        let Some(granted) = upstreams.get(upstream) else { return Err(not_granted(upstream)) };
        let is_next = |ready: &&TestExchange| ready.method == method && ready.target == target;
        match granted.ready.iter().find(is_next).map(|ready| &ready.outcome) {
            Some(Err(failure @ (Failure::Denied(_) | Failure::Invalid(_)))) => Err(failure.clone()),
            _ => Ok(()),
        }
    })
}

fn not_granted(upstream: &str) -> Failure {
    Failure::Denied(format!("the mount grants no upstream {upstream:?}"))
}

/// The names of the upstreams that the mount grants, in order.
pub fn names() -> Vec<String> {
    with(|upstreams: &mut Upstreams| upstreams.keys().cloned().collect())
}

/// An exchange that a test prepares: what is asked, and what comes of it. Without more, an empty response with the
/// status 200.
#[derive(Clone, Debug)]
pub struct TestExchange {
    method: String,
    target: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// After how many bytes of the body it breaks off.
    cut: Option<usize>,
    outcome: Result<(), Failure>,
}

impl TestExchange {
    /// An exchange for this method and target.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            status: 200,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            outcome: Ok(()),
        }
    }

    /// Answers with a status and a body.
    #[must_use]
    pub fn answer(mut self, status: u16, body: &[u8]) -> Self {
        self.status = status;
        body.clone_into(&mut self.body);
        self
    }

    /// Answers with a status and a value as JSON.
    #[must_use]
    pub fn json(self, status: u16, value: &impl Serialize) -> Self {
        // What a test writes down can be written.
        let body = serde_json::to_vec(value).unwrap_or_default();
        self.header("content-type", "application/json").answer(status, &body)
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_lowercase(), value.to_owned()));
        self
    }

    /// Breaks off after this many bytes of the body.
    #[must_use]
    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    /// Never answers: the host gives up with [`Failure::Unavailable`].
    #[must_use]
    pub fn silent(self) -> Self {
        self.failing(Failure::Unavailable("no answer within 60s".to_owned()))
    }

    /// Fails instead of answering.
    #[must_use]
    pub fn failing(mut self, failure: Failure) -> Self {
        self.outcome = Err(failure);
        self
    }
}

impl Host {
    /// Grants an upstream and prepares exchanges with it. A request takes the first one that is left for its method and
    /// target; if there is none, it fails with [`Failure::Internal`], which says what was asked.
    pub fn upstream(&self, name: &str, exchanges: &[TestExchange]) {
        with(|upstreams: &mut Upstreams| {
            let upstream = upstreams.entry(name.to_owned()).or_default();
            upstream.ready.extend(exchanges.iter().cloned());
        });
    }

    /// The requests that an upstream got, in order.
    pub fn sent(&self, upstream: &str) -> Vec<SentRequest> {
        with(|upstreams: &mut Upstreams| {
            upstreams.get(upstream).map(|upstream| upstream.sent.clone()).unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstreams::Request;

    #[test]
    fn each_request_gets_the_answer_that_was_prepared_for_it() {
        let host = Host::new();
        host.upstream(
            "lxd",
            &[
                TestExchange::new("GET", "/1.0/x").answer(404, b"no").header("X-Y", "z"),
                TestExchange::new("POST", "/1.0").json(202, &[1, 2]),
                TestExchange::new("GET", "/1.0/x").answer(200, b"yes"),
            ],
        );
        assert_eq!(names(), ["lxd"]);
        let first = Request::get("/1.0/x").send("lxd").unwrap();
        assert_eq!((first.status(), first.header("x-y").as_deref()), (404, Some("z")));
        assert_eq!(first.body().unwrap().bytes(9).unwrap(), b"no");
        assert!(matches!(first.body(), Err(Failure::Invalid(_))));
        let posted = Request::post_json("/1.0", &"name").unwrap().send("lxd").unwrap();
        assert_eq!(posted.json::<Vec<u8>>(9).unwrap(), [1, 2]);
        assert_eq!(Request::get("/1.0/x").send("lxd").unwrap().status(), 200);
        let unprepared = Request::get("/1.0/x").resume().send("lxd").unwrap_err();
        assert!(matches!(unprepared, Failure::Internal(what) if what.contains("GET /1.0/x")));
        let sent = host.sent("lxd");
        assert_eq!(sent.len(), 4);
        assert_eq!((sent[1].method.as_str(), sent[1].body.as_slice()), ("POST", &b"\"name\""[..]));
        assert!(sent[3].resume);
        assert!(matches!(Request::get("/").send("other"), Err(Failure::Denied(_))));
    }

    #[test]
    fn silence_and_cuts_are_played() {
        let host = Host::new();
        let get = |exchange: TestExchange| {
            host.upstream("lxd", &[exchange]);
            Request::get("/").max_body(100).send("lxd")
        };
        let at = || TestExchange::new("GET", "/");
        assert!(matches!(get(at().silent()), Err(Failure::Unavailable(_))));
        assert!(matches!(get(at().failing(Failure::Busy("b".into()))), Err(Failure::Busy(_))));
        let body = get(at().answer(200, b"hello").cut(2)).unwrap().body().unwrap();
        assert_eq!(body.length(), Some(5));
        assert_eq!(body.read(9).unwrap().unwrap(), b"he");
        assert!(matches!(body.read(9), Err(Failure::Unavailable(why)) if why.contains("2 of 5")));
        let long = get(at().answer(200, &[0; 101])).unwrap().body().unwrap();
        assert_eq!(long.read(1000).unwrap().unwrap().len(), 100);
        assert!(matches!(long.read(1000), Err(Failure::TooLarge(100))));
        let html = get(at().answer(200, b"<html>")).unwrap();
        assert!(matches!(html.json::<u8>(99), Err(Failure::Unavailable(_))));
        let denied = at().failing(Failure::Denied("d".into()));
        host.upstream("lxd", &[denied]);
        assert!(matches!(Request::get("/").check("lxd"), Err(Failure::Denied(_))));
        assert!(matches!(Request::get("/").send("lxd"), Err(Failure::Denied(_))));
        assert!(Request::get("/").check("lxd").is_ok());
        assert!(matches!(Request::get("/").check("other"), Err(Failure::Denied(_))));
        host.upstream("lxd", &[at()]);
        let failing = Body::failing(b"he", Some(5), Failure::Truncated);
        let aborted = Request::new("PUT", "/").body(failing).send("lxd");
        assert!(matches!(aborted, Err(Failure::Truncated)));
        assert_eq!(host.sent("lxd").last().unwrap().method, "GET", "it never arrived whole");
    }
}

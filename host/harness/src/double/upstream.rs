//! Test doubles of upstreams: each plays the exchanges of a case, answers, breaks off or stays silent. This file has
//! their form in case files, the doubles, and the kit's method.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_runtime::capability::upstreams;
use keepgate_store::{Body, BodyError};
use keepgate_upstream::{Exchanges, Request, Response, UpstreamError, Wishes};
use serde::Deserialize;

use super::{Double, Setup};
use crate::case::{Content, Short, Span};
use crate::fixture::first;
use crate::kit::Harness;

/// How long an upstream may be silent: the configuration's default.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest body of a request that is compared.
const LONGEST: u64 = 64 << 20;

/// The upstreams of a case, by the names under which the mount is granted them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Upstreams(BTreeMap<String, Vec<UpstreamExchange>>);

/// A request that an upstream expects, and what it does then.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamExchange {
    /// `METHOD /path?query`, as the plugin asks for it.
    pub expects: String,
    /// The body that the request must have; any if it is missing.
    pub body: Option<Short<Content>>,
    /// The status of the response.
    #[serde(default = "ok")]
    pub status: u16,
    /// The headers of the response.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body of the response.
    #[serde(default)]
    pub sends: Short<Content>,
    /// The error with which the host gives up instead.
    pub refuses: Option<String>,
    /// The words with which the operator does not allow the request.
    pub denies: Option<String>,
    /// How long the upstream takes to answer.
    pub after: Option<Span>,
    /// The number of bytes after which the response breaks off.
    pub breaks: Option<u64>,
    /// The number of bytes after which the upstream falls silent. After a minute of silence, the response counts as
    /// broken off.
    pub stalls: Option<u64>,
    /// Whether there is no response at all. After a minute, the host gives up.
    #[serde(default)]
    pub silent: bool,
    /// How often; 0 for always.
    #[serde(default = "once")]
    pub times: u32,
}

fn ok() -> u16 {
    200
}

fn once() -> u32 {
    1
}

impl UpstreamExchange {
    /// A request, `METHOD /path?query`, that is answered with a status and these bytes.
    pub fn new(expects: &str, status: u16, sends: &[u8]) -> Self {
        Self {
            expects: expects.to_owned(),
            body: None,
            status,
            headers: BTreeMap::new(),
            sends: Short(Content::of(sends)),
            refuses: None,
            denies: None,
            after: None,
            breaks: None,
            stalls: None,
            silent: false,
            times: once(),
        }
    }
}

impl Harness {
    /// Adds an upstream that plays these exchanges. A request takes the first one that is left for it.
    #[must_use]
    pub fn upstream(mut self, name: &str, exchanges: Vec<UpstreamExchange>) -> Self {
        self.world.doubles.upstream.0.insert(name.to_owned(), exchanges);
        self
    }
}

impl Double for Upstreams {
    const KEY: &'static str = "upstream";

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn extend(&mut self, over: Self) {
        self.0.extend(over.0);
    }

    fn install(&self, setup: &mut Setup<'_>) -> Result<(), String> {
        let mut granted = upstreams::Upstreams::default();
        for (name, exchanges) in &self.0 {
            let exchanges = exchanges.iter().map(|exchange| {
                let bytes = |content: &Short<Content>| content.0.bytes(setup.folder, setup.values);
                Ok(Ready {
                    body: exchange.body.as_ref().map(bytes).transpose()?,
                    sends: bytes(&exchange.sends)?.into(),
                    left: (exchange.times > 0).then_some(exchange.times),
                    form: exchange.clone(),
                })
            });
            let ready: Vec<Ready> = exchanges.collect::<Result<_, String>>()?;
            let upstream = FakeUpstream { name: name.clone(), ready: Mutex::new(ready) };
            granted.0.insert(name.clone(), Arc::new(upstream));
        }
        setup.spec.grants.insert(granted);
        Ok(())
    }
}

/// An upstream that plays what a case says.
struct FakeUpstream {
    name: String,
    ready: Mutex<Vec<Ready>>,
}

/// An exchange with its bytes.
#[derive(Clone)]
struct Ready {
    form: UpstreamExchange,
    body: Option<Vec<u8>>,
    sends: Bytes,
    /// How often it can be taken; none for always.
    left: Option<u32>,
}

impl fmt::Debug for FakeUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeUpstream").field("name", &self.name).finish_non_exhaustive()
    }
}

impl FakeUpstream {
    /// The first exchange that is left for a request.
    fn take(&self, request: &str, body: &[u8]) -> Option<Ready> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let found = ready.iter_mut().find(|ready| {
            let same_body = ready.body.as_ref().is_none_or(|expected| expected == body);
            ready.form.expects == request && ready.left != Some(0) && same_body
        })?;
        found.left = found.left.map(|left| left - 1);
        Some(found.clone())
    }

    fn denied(&self, why: &str) -> UpstreamError {
        UpstreamError::Denied(format!("upstream {:?}: {why}", self.name))
    }

    fn unavailable(&self, why: &str) -> UpstreamError {
        UpstreamError::Unavailable(format!("upstream {:?}: {why}", self.name))
    }
}

impl Ready {
    fn body(&self, name: &str, wishes: &Wishes) -> Body {
        let length = self.sends.len() as u64;
        let whole = Body::from_bytes(self.sends.clone());
        let (passes, end) = match (wishes.max_body, self.form.breaks, self.form.stalls) {
            (Some(limit), _, _) if limit < length => (limit, End::TooLarge(limit)),
            (_, Some(passes), _) => (passes, End::Breaks),
            (_, None, Some(passes)) => (passes, End::Silent),
            (_, None, None) => return whole,
        };
        let begins =
            format!("upstream {name:?}: the response broke off after {passes} of {length} bytes");
        let last = stream::once(async move {
            Err(match end {
                End::TooLarge(limit) => BodyError::TooLarge { limit },
                End::Breaks => {
                    BodyError::Unavailable(format!("{begins}: it closed the connection"))
                }
                End::Silent => {
                    tokio::time::sleep(SILENCE).await;
                    BodyError::Unavailable(format!("{begins}: it sent nothing for {SILENCE:?}"))
                }
            })
        });
        Body::from_stream(Some(length), first(whole, passes).chain(last))
    }
}

/// How a body ends that is not whole.
enum End {
    Breaks,
    Silent,
    TooLarge(u64),
}

#[async_trait]
impl Exchanges for FakeUpstream {
    async fn send(&self, request: Request) -> Result<Response, UpstreamError> {
        let Request { method, target, body, wishes, .. } = request;
        let body = match body {
            Some(body) => body.collect(LONGEST).await?,
            None => Bytes::new(),
        };
        let asked = format!("{method} {target}");
        let Some(ready) = self.take(&asked, &body) else {
            return Err(self.unavailable(&format!("the case has no answer to {asked}")));
        };
        if let Some(why) = &ready.form.denies {
            return Err(self.denied(why));
        }
        if let Some(Span(pause)) = ready.form.after {
            tokio::time::sleep(pause).await;
        }
        if ready.form.silent {
            tokio::time::sleep(wishes.answer_within.unwrap_or(SILENCE).min(SILENCE)).await;
            return Err(self.unavailable(&format!("no answer within {SILENCE:?}")));
        }
        if let Some(why) = &ready.form.refuses {
            return Err(self.unavailable(why));
        }
        let headers = ready.form.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.clone()));
        let headers = headers.collect();
        Ok(Response { status: ready.form.status, headers, body: ready.body(&self.name, &wishes) })
    }

    /// What a case denies is denied; anything else is allowed.
    fn check(&self, method: &str, target: &str) -> Result<(), UpstreamError> {
        let request = format!("{method} {target}");
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let mut denying = ready.iter().filter(|ready| ready.form.expects == request);
        match denying.find_map(|ready| ready.form.denies.as_ref()) {
            Some(why) => Err(self.denied(why)),
            None => Ok(()),
        }
    }
}

//! An upstream: its requests wait for their turn, are checked, sent, and sent again where that is harmless. `setup` makes
//! one of the operator's settings, and `exchange` sends a request once.

mod exchange;
mod setup;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http::{Method, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use keepgate_store::{Body, BodyError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::credentials::Credentials;
use crate::dial::{Allowed, Dialer, Resolve};
use crate::download::{self, Download};
use crate::explain::Words;
use crate::metrics::{Gauged, UpstreamMetrics};
use crate::options::{Limits, Timeouts};
use crate::path::PathRule;
use crate::target::Route;
use crate::tls::Tls;
use crate::upload::{AbortOnDrop, Progress, Upload};
use crate::url::{Host, Url};
use crate::{Exchanges, Request, Response, UpstreamError, Wishes, headers};

/// The longest body that is kept to be sent a second time.
const KEPT: usize = 64 * 1024;
/// How often a request is sent again because its connection had been closed: a few idle ones may have been, at once.
const RETRIES: u32 = 3;

/// An upstream. It is only connected while there are requests, and shortly after.
pub struct Upstream(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) route: Route,
    rules: Vec<PathRule>,
    methods: Vec<Method>,
    credentials: Credentials,
    /// The names of the headers that the operator sets.
    secret: Vec<HeaderName>,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) check: Option<String>,
    tls: Arc<Tls>,
    resolver: Arc<dyn Resolve>,
    /// To the one place where it is; none if clients name addresses.
    pub(crate) dialer: Option<Dialer>,
    pooled: Option<Client<Dialer, Upload>>,
    turns: Arc<Semaphore>,
    pub(crate) metrics: Option<UpstreamMetrics>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answered: Option<SystemTime>,
    failing: Option<String>,
}

/// How an upstream is, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its name in the configuration.
    pub name: String,
    /// Requests under way.
    pub requests: usize,
    /// When there last was a response.
    pub answered: Option<SystemTime>,
    /// Why the last request had no response, if it had none.
    pub failing: Option<String>,
}

/// What is sent, without the body.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) own: Option<(Url, Allowed)>,
}

/// Limits in time of one exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) answer: Duration,
    pub(crate) silence: Duration,
}

/// A response's head, and what aborts the rest of the request.
pub(crate) struct Begun {
    pub(crate) response: http::Response<Incoming>,
    pub(crate) progress: Progress,
    pub(crate) abort: AbortOnDrop,
}

/// Why there is no response.
pub(crate) enum NoResponse {
    /// The connection had been closed before anything was answered on it.
    Stale(Words),
    Unavailable(Words),
    Refused(Words),
    Body(BodyError),
}

/// What is held for as long as a request is under way.
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
    _gauge: Option<Gauged>,
}

impl Upstream {
    /// How it is.
    pub fn status(&self) -> Status {
        let inner = &self.0;
        let state = inner.state();
        Status {
            name: inner.name.clone(),
            requests: inner.limits.requests.saturating_sub(inner.turns.available_permits()),
            answered: state.answered,
            failing: state.failing.clone(),
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.0.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Exchanges for Upstream {
    async fn send(&self, request: Request) -> Result<Response, UpstreamError> {
        let begun = Instant::now();
        let method = request.method.clone();
        let result = Arc::clone(&self.0).send(request).await;
        let (outcome, took) = match &result {
            Ok(response) => {
                let status = response.status;
                tracing::debug!(upstream = self.0.name, method, status, "upstream answered");
                let class = ["2xx", "3xx", "4xx"].get(usize::from(status / 100).saturating_sub(2));
                (*class.unwrap_or(&"5xx"), Some(begun.elapsed()))
            }
            Err(UpstreamError::Invalid(_)) => ("invalid", None),
            Err(UpstreamError::Denied(_)) => ("denied", None),
            Err(UpstreamError::Busy(_)) => ("busy", None),
            Err(UpstreamError::Unavailable(_)) => ("unavailable", None),
            Err(UpstreamError::Body(_)) => ("aborted", None),
        };
        if let Some(metrics) = &self.0.metrics {
            metrics.request(outcome, took);
        }
        result.map_err(|error| self.0.named(error))
    }

    fn check(&self, method: &str, target: &str) -> Result<(), UpstreamError> {
        self.0.check(method, target).map_err(|error| self.0.named(error))
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same error, saying which upstream it is about.
    fn named(&self, error: UpstreamError) -> UpstreamError {
        let name = &self.name;
        let named = |what: String| format!("upstream {name:?}: {what}");
        match error {
            UpstreamError::Invalid(what) => UpstreamError::Invalid(named(what)),
            UpstreamError::Denied(what) => UpstreamError::Denied(named(what)),
            UpstreamError::Busy(what) => UpstreamError::Busy(named(what)),
            UpstreamError::Unavailable(what) => UpstreamError::Unavailable(named(what)),
            body @ UpstreamError::Body(_) => body,
        }
    }

    async fn send(self: Arc<Self>, request: Request) -> Result<Response, UpstreamError> {
        let Request { method, target, headers, body, wishes } = request;
        let head = self.head(&method, &target, &headers)?;
        let patience = self.patience(&wishes);
        let turn = self.turn().await?;
        let head = self.with_credentials(head).await.map_err(|words| self.failed(&words))?;
        let begun = self.attempts(&head, body, patience).await?;
        Ok(self.response(begun, &head, patience, &wishes, turn))
    }

    fn check(&self, method: &str, target: &str) -> Result<(), UpstreamError> {
        match self.head(method, target, &Vec::new())?.own {
            Some((Url { host: Host::Address(address), .. }, allowed)) => allowed
                .check(&address, address)
                .map_err(|error| UpstreamError::Denied(error.words().short.clone())),
            _ => Ok(()),
        }
    }

    /// Checks what a plugin wants to send.
    fn head(
        &self,
        method: &str,
        target: &str,
        fields: &crate::Fields,
    ) -> Result<Head, UpstreamError> {
        let Some(method) = self.methods.iter().find(|allowed| allowed.as_str() == method) else {
            let allowed: Vec<_> = self.methods.iter().map(Method::as_str).collect();
            let allowed = allowed.join(", ");
            let what =
                format!("the operator does not allow the method {method:?}; allowed: {allowed}");
            return Err(UpstreamError::Denied(what));
        };
        let target = self.route.resolve(target, &self.rules)?;
        let headers = headers::of_request(fields, &self.secret)?;
        Ok(Head { method: method.clone(), uri: target.uri, headers, own: target.own })
    }

    fn patience(&self, wishes: &Wishes) -> Patience {
        let lower =
            |wish: Option<Duration>, limit: Duration| wish.map_or(limit, |wish| wish.min(limit));
        Patience {
            answer: lower(wishes.answer_within, self.timeouts.answer),
            silence: lower(wishes.silent_for, self.timeouts.silence),
        }
    }

    /// Waits for a turn; first come, first served.
    async fn turn(&self) -> Result<Turn, UpstreamError> {
        let waiting = self.metrics.as_ref().map(UpstreamMetrics::waiting);
        let turn = timeout(self.timeouts.turn, Arc::clone(&self.turns).acquire_owned()).await;
        drop(waiting);
        let Ok(Ok(permit)) = turn else {
            let (most, limit) = (self.limits.requests, self.timeouts.turn);
            let what =
                format!("{most} requests are under way, and no other turn came within {limit:?}");
            return Err(UpstreamError::Busy(what));
        };
        Ok(Turn { _permit: permit, _gauge: self.metrics.as_ref().map(UpstreamMetrics::in_flight) })
    }

    /// Adds the operator's headers.
    pub(crate) async fn with_credentials(&self, mut head: Head) -> Result<Head, Words> {
        if self.credentials.is_empty() {
            return Ok(head);
        }
        let credentials = self.credentials.clone();
        let read = tokio::task::spawn_blocking(move || credentials.read()).await;
        let read = read.unwrap_or_else(|error| Err(error.to_string()));
        let read = read.map_err(|full| Words::new("its credentials cannot be read", full))?;
        for (name, value) in &read {
            head.headers.insert(name, value.clone());
        }
        Ok(head)
    }

    /// Sends the request; again, if it is harmless, on another connection if the first had been closed.
    async fn attempts(
        &self,
        head: &Head,
        mut body: Option<Body>,
        patience: Patience,
    ) -> Result<Begun, UpstreamError> {
        let kept = match &mut body {
            None => Some(Bytes::new()),
            Some(body) => body.take_at_hand(KEPT),
        };
        let again = [Method::GET, Method::HEAD, Method::PUT, Method::DELETE].contains(&head.method);
        let mut retries = 0;
        loop {
            let has_body = body.is_some();
            let upload = match &kept {
                Some(kept) if has_body => Upload::new(Some(Body::from_bytes(kept.clone()))),
                _ => Upload::new(body.take()),
            };
            match self.exchange(head, upload, patience).await {
                Ok(begun) => {
                    self.answered();
                    return Ok(begun);
                }
                Err(NoResponse::Stale(_)) if again && kept.is_some() && retries < RETRIES => {
                    retries += 1;
                    if let Some(metrics) = &self.metrics {
                        metrics.retry();
                    }
                }
                Err(NoResponse::Stale(words) | NoResponse::Unavailable(words)) => {
                    return Err(self.failed(&words));
                }
                Err(NoResponse::Refused(words)) => return Err(UpstreamError::Denied(words.short)),
                Err(NoResponse::Body(error)) => return Err(error.into()),
            }
        }
    }

    fn response(
        self: Arc<Self>,
        begun: Begun,
        head: &Head,
        patience: Patience,
        wishes: &Wishes,
        turn: Turn,
    ) -> Response {
        let status = begun.response.status().as_u16();
        let headers = headers::of_response(begun.response.headers());
        let max = match (wishes.max_body, self.limits.body) {
            (Some(wish), Some(limit)) => Some(wish.min(limit)),
            (wish, limit) => wish.or(limit),
        };
        let plan = download::Plan::new(head, &begun.response, wishes.resume);
        let body = Download::new(self, begun, plan, patience, max, turn).into_body();
        Response { status, headers, body }
    }

    /// There was a response.
    pub(crate) fn answered(&self) {
        let mut state = self.state();
        state.answered = Some(SystemTime::now());
        let was_failing = state.failing.take().is_some();
        drop(state);
        if was_failing {
            tracing::info!(upstream = self.name, "upstream answers again");
        }
        if let Some(metrics) = &self.metrics {
            metrics.failing(false);
        }
    }

    /// There was none. Logged once for each reason.
    pub(crate) fn failed(&self, words: &Words) -> UpstreamError {
        let (upstream, error) = (&self.name, &words.full);
        let mut state = self.state();
        let is_new = state.failing.as_ref() != Some(error);
        state.failing = Some(error.clone());
        drop(state);
        if is_new {
            tracing::warn!(upstream, error, "upstream request failed");
        } else {
            tracing::debug!(upstream, error, "upstream request failed");
        }
        if let Some(metrics) = &self.metrics {
            metrics.failing(true);
        }
        UpstreamError::Unavailable(words.short.clone())
    }
}

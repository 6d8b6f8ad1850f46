//! The path of every request: pin the site, find the mount, answer preflights, ask the limits of addresses,
//! authenticate, ask the limits of users, call the mount's handler, send the response.

mod cors;
mod head;
mod location;
mod login;
mod rate_limit;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use keepgate_auth::{Challenges, TokenError};
use keepgate_core::{CallError, Failure, Principal, Request, Waiting};
use keepgate_store::Body;
use tracing::Level;

pub use cors::{Cors, CorsError};
pub use rate_limit::{CountedRequests, RateLimitBy, RateLimitError, RateLimitOptions, RateLimits};

use crate::access_log::AccessLog;
use crate::connection::Exchange;
use crate::metrics::{Metrics, MountMetrics};
use crate::recording::Recorder;
use crate::refusal::Refusal;
use crate::request_body;
use crate::request_record::RequestRecord;
use crate::response_body::ResponseBody;
use crate::server::Application;
use crate::site::{Route, Site};
use crate::target::{Target, query};
use crate::timeouts::Timeouts;

use self::rate_limit::{Exceeded, Passage};

/// Answers requests with the mounts of a site.
pub struct Gateway {
    site: Arc<ArcSwap<Site>>,
    metrics: Arc<Metrics>,
    /// Counts requests without a mount.
    unrouted: Arc<MountMetrics>,
    timeouts: Timeouts,
    access_log: Option<Arc<dyn AccessLog>>,
    recorder: Option<Arc<Recorder>>,
}

/// A request that has not been routed yet.
struct Arrival {
    head: http::request::Parts,
    body: Incoming,
    exchange: Arc<Exchange>,
}

impl Gateway {
    /// A gateway to the site that `site` holds when a request arrives.
    pub fn new(site: Arc<ArcSwap<Site>>, metrics: Arc<Metrics>, timeouts: Timeouts) -> Self {
        let unrouted = metrics.no_mount();
        Self { site, metrics, unrouted, timeouts, access_log: None, recorder: None }
    }

    /// Adds an access log.
    pub fn with_access_log(mut self, log: Arc<dyn AccessLog>) -> Self {
        self.access_log = Some(log);
        self
    }

    /// Records exchanges with handlers.
    pub fn with_recorder(mut self, recorder: Arc<Recorder>) -> Self {
        self.recorder = Some(recorder);
        self
    }

    async fn answer(&self, arrival: Arrival) -> Response<ResponseBody> {
        let site = self.site.load_full();
        let target = Target::parse(&arrival.head.uri);
        let routed = target.map(|target| {
            let route = site.route(&target.segments, target.trailing_slash);
            route.map(|(route, taken)| (route, taken, target))
        });
        // No mount is asked about a path that is invalid, but the client expects the answers of the one that it means.
        let meant = match &routed {
            Ok(found) => found.as_ref().map(|(route, ..)| *route),
            Err(_) => {
                let meant = site.route(&Target::approximate(&arrival.head.uri), false);
                meant.map(|(route, _)| route)
            }
        };
        let form = meant.and_then(|route| route.handler.refusal_form());
        let cors = meant.and_then(|route| route.cors.as_deref());
        let metrics = match &routed {
            Ok(Some((route, ..))) => &route.metrics,
            _ => &self.unrouted,
        };
        let mut record =
            RequestRecord::begin(&arrival.head, &arrival.exchange, metrics, &self.access_log);
        // The body is drained whatever the answer is, so that a client that is still sending can read it.
        let body = request_body::new(
            arrival.body,
            &arrival.head.headers,
            &arrival.exchange,
            &metrics.received,
            self.timeouts.upload_stall,
        );
        let preflight = cors.and_then(|cors| cors.preflight(&arrival.head));
        let answered = match (preflight, routed) {
            (Some(response), _) => Ok(response),
            (None, Ok(Some((route, taken, target)))) => {
                let below = Below { segments: taken, target };
                let exchange = &arrival.exchange;
                self.enter(route, below, &arrival.head, body, exchange, &mut record).await
            }
            (None, Ok(None)) => Err(Refusal::of(StatusCode::NOT_FOUND, "not-found")),
            (None, Err(error)) => Err(Refusal::saying(StatusCode::BAD_REQUEST, "invalid", &error)),
        };
        let mut response =
            answered.unwrap_or_else(|refusal| refusal.into_response(form, record.id()));
        if arrival.head.method == Method::HEAD || !has_body(response.status()) {
            head::strip_body(&mut response, &arrival.head.method);
        }
        if arrival.exchange.is_last() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        record.response(&response);
        // After the recording, which holds what the plugin answers and not what the host adds for browsers.
        if let Some(cors) = cors {
            cors.apply(&arrival.head.headers, response.headers_mut());
        }
        response.map(|body| body.recorded(record))
    }

    /// Asks the mount's limits, authenticates the request and calls the mount's handler. What is refused gets the mount's
    /// form from the caller.
    async fn enter(
        &self,
        route: &Route,
        below: Below,
        head: &http::request::Parts,
        body: Body,
        exchange: &Arc<Exchange>,
        record: &mut RequestRecord,
    ) -> Result<Response<ResponseBody>, Refusal> {
        record.answered_by(&route.handler);
        let address = exchange.client().address();
        let mut passage = Passage::new(route.rate_limits.as_deref(), address);
        let origin = Origin { route, exchange, id: record.id() };
        if let Some(passage) = &mut passage {
            let admitted = passage.admit(RateLimitBy::Address, &head.method, below.path());
            admitted.map_err(|exceeded| rate_limited(&exceeded, &origin, None))?;
        }
        let principal = login::authenticate(&origin, head, passage.as_ref()).await?;
        record.user(principal.as_ref());
        let origin = Origin { route, exchange, id: record.id() };
        if let Some(passage) = &mut passage {
            passage.identify(principal.as_ref());
            let admitted = passage.admit(RateLimitBy::Principal, &head.method, below.path());
            admitted.map_err(|exceeded| rate_limited(&exceeded, &origin, principal.as_ref()))?;
        }
        let answered = self.call((route, exchange), below, head, principal, body, record).await;
        if let Some(passage) = &passage {
            passage.answered(match &answered {
                Ok(response) => response.status(),
                Err(refusal) => refusal.status,
            });
        }
        answered
    }

    /// Calls the mount's handler, and records the exchange if that is asked for.
    async fn call(
        &self,
        (route, exchange): (&Route, &Arc<Exchange>),
        below: Below,
        head: &http::request::Parts,
        principal: Option<Principal>,
        body: Body,
        record: &mut RequestRecord,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let mut recording = self.recorder.as_ref().and_then(Recorder::begin);
        let body = match &mut recording {
            Some(recording) => {
                let handler = &route.handler;
                recording.mount(handler.path(), handler.plugin(), handler.digest());
                recording.request(head, principal.as_ref(), route.access.withheld());
                recording.tap(body)
            }
            None => body,
        };
        record.record_into(recording);
        let origin = Origin { route, exchange, id: record.id() };
        let request = request(below, head, &origin, principal, body);
        let called = route.handler.call(request).await;
        if let Some(interim) = exchange.connection().interim() {
            interim.clear();
        }
        match called.and_then(|reply| head::response(reply, head, exchange)) {
            Ok(mut response) => {
                let challenged = response.headers().contains_key(header::WWW_AUTHENTICATE);
                let unauthorized = response.status() == StatusCode::UNAUTHORIZED;
                if unauthorized && !challenged {
                    let challenges = route.access.challenges(TokenError::Missing);
                    for challenge in challenges.into_iter().flat_map(Challenges::values) {
                        response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
                    }
                }
                Ok(response)
            }
            Err(error) => {
                log(&error, route, head, origin.id);
                let stalled = exchange.body_stalled();
                let waiting = if stalled { Waiting::ForClient } else { Waiting::ForGateway };
                Err(Refusal::from_call(&error, waiting))
            }
        }
    }
}

/// The answer to a request that a rate limit refuses. The metric counts each one; the log has a line now and then.
fn rate_limited(
    exceeded: &Exceeded<'_>,
    origin: &Origin<'_>,
    principal: Option<&Principal>,
) -> Refusal {
    let Origin { route, exchange, id: request } = *origin;
    let (limit, seconds) = (exceeded.name(), exceeded.seconds());
    route.metrics.rate_limited(limit).inc();
    if exceeded.log {
        let (mount, peer) = (route.handler.path(), exchange.client());
        let user = principal.map(|principal| &*principal.name);
        let reason = exceeded.shared.then_some("too many clients to count each of them");
        tracing::warn!(%peer, user, %mount, limit, request, seconds, reason, "rate limit exceeded");
    }
    Refusal::rate_limited(exceeded, seconds)
}

/// The part of a target below its mount.
struct Below {
    /// How many segments belong to the mount.
    segments: usize,
    target: Target,
}

impl Below {
    /// The segments below the mount.
    fn path(&self) -> &[String] {
        self.target.segments.get(self.segments..).unwrap_or_default()
    }
}

/// The mount and connection of a request.
#[derive(Clone, Copy)]
struct Origin<'a> {
    route: &'a Route,
    exchange: &'a Exchange,
    id: &'a str,
}

fn request(
    below: Below,
    head: &http::request::Parts,
    origin: &Origin<'_>,
    principal: Option<Principal>,
    body: Body,
) -> Request {
    let Below { segments, target } = below;
    let (mount, connection) = (origin.route.handler.path(), origin.exchange.connection());
    Request {
        method: head.method.as_str().to_owned(),
        base: location::base(head, connection.is_tls(), connection.public_url(), mount),
        target: location::target(&head.uri),
        address: origin.exchange.client().address(),
        id: origin.id.to_owned(),
        path: target.segments.into_iter().skip(segments).collect(),
        trailing_slash: target.trailing_slash,
        query: query(&head.uri),
        headers: head::fields(head, &origin.route.access),
        principal,
        body,
        interim: head::interim(head, connection),
    }
}

/// False for statuses whose responses never have a body.
fn has_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Logs a call without a reply, at the level that operators need. How many lines that is, the plugin decides; so all but
/// those that nobody usually sees come out of its budget.
fn log(error: &CallError, route: &Route, head: &http::request::Parts, id: &str) {
    let (mount, plugin) = (route.handler.path(), route.handler.plugin());
    let (method, path) = (&head.method, head.uri.path());
    let reason = error.reason();
    let level = level(error);
    if level <= Level::WARN && !route.handler.may_log(error.to_string().len() + path.len()) {
        return;
    }
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(%mount, %plugin, %method, url_path = ?path, request = id, reason, %error, "request failed")
        };
    }
    match level {
        Level::ERROR => log!(error),
        Level::WARN => log!(warn),
        _ => log!(debug),
    }
}

/// The level at which operators need to know of a call without a reply.
fn level(error: &CallError) -> Level {
    match error {
        CallError::Failure(Failure::Internal(_))
        | CallError::Trapped(_)
        | CallError::BadReply(_) => Level::ERROR,
        CallError::Failure(Failure::Refused(refused)) if refused.status < 500 => Level::DEBUG,
        CallError::Failure(
            Failure::Unavailable(_) | Failure::Busy(_) | Failure::NoSpace | Failure::Refused(_),
        )
        | CallError::OverLimit(_)
        | CallError::NotServing(_)
        | CallError::Misconfigured(_)
        | CallError::Busy(_)
        | CallError::Crowded(_) => Level::WARN,
        // The suspension itself has been logged.
        CallError::Failure(_) | CallError::Suspended(_) => Level::DEBUG,
        _ => Level::ERROR,
    }
}

impl Application for Gateway {
    type Body = ResponseBody;

    async fn respond(
        self: Arc<Self>,
        request: http::Request<Incoming>,
        exchange: Arc<Exchange>,
    ) -> Response<ResponseBody> {
        let (head, body) = request.into_parts();
        self.answer(Arrival { head, body, exchange }).await
    }

    fn connected(&self) {
        self.metrics.connections.inc();
    }

    fn disconnected(&self) {
        self.metrics.connections.dec();
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("timeouts", &self.timeouts).finish_non_exhaustive()
    }
}

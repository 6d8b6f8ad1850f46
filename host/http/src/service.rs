//! The one path of a request: pin the site, find the mount, authenticate, call the plugin, send
//! its reply.

mod head;
mod place;
mod record;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use keepgate_core::{CallError, Failure, Principal, Request, Waiting};
use keepgate_store::Body;

use crate::access::{BASIC_CHALLENGE, Decision};
use crate::connection::Exchange;
use crate::metrics::{Metrics, MountMetrics};
use crate::recording::Recorder;
use crate::reply::ReplyBody;
use crate::server::{Application, Timeouts};
use crate::site::{Route, Site};
use crate::status::Refusal;
use crate::target::{Target, query};
use crate::upload;

pub use place::{PublicUrl, PublicUrlError};
pub(crate) use record::Record;
pub use record::{AccessLog, Visit};

/// Answers requests with the mounts of a site.
pub struct Gateway {
    site: Arc<ArcSwap<Site>>,
    metrics: Arc<Metrics>,
    /// Counts requests that no mount takes.
    nowhere: Arc<MountMetrics>,
    timeouts: Timeouts,
    access_log: Option<Arc<dyn AccessLog>>,
    recorder: Option<Arc<Recorder>>,
}

/// A request before its head has been looked at.
struct Arrival {
    head: http::request::Parts,
    body: Incoming,
    exchange: Arc<Exchange>,
}

impl Gateway {
    /// A gateway to whatever site is in there when a request comes.
    pub fn new(site: Arc<ArcSwap<Site>>, metrics: Arc<Metrics>, timeouts: Timeouts) -> Self {
        let nowhere = metrics.no_mount();
        Self { site, metrics, nowhere, timeouts, access_log: None, recorder: None }
    }

    /// Has each request that ends told to a log.
    pub fn with_access_log(mut self, log: Arc<dyn AccessLog>) -> Self {
        self.access_log = Some(log);
        self
    }

    /// Has exchanges with plugins recorded.
    pub fn with_recorder(mut self, recorder: Arc<Recorder>) -> Self {
        self.recorder = Some(recorder);
        self
    }

    async fn answer(&self, arrival: Arrival) -> Response<ReplyBody> {
        let site = self.site.load_full();
        let target = Target::parse(&arrival.head.uri);
        let routed = target.map(|target| {
            let route = site.route(&target.segments, target.trailing_slash);
            route.map(|(route, taken)| (route, taken, target))
        });
        let metrics = match &routed {
            Ok(Some((route, ..))) => &route.metrics,
            _ => &self.nowhere,
        };
        let mut record = Record::begin(&arrival.head, &arrival.exchange, metrics, &self.access_log);
        // Whatever the answer is, a client that is still sending must be able to read it.
        let body = upload::body(
            arrival.body,
            &arrival.head.headers,
            &arrival.exchange,
            &metrics.received,
            self.timeouts.upload_stall,
        );
        let mut response = match routed {
            Ok(Some((route, taken, target))) => {
                let below = Below { segments: taken, target };
                let exchange = &arrival.exchange;
                self.enter(route, below, &arrival.head, body, exchange, &mut record).await
            }
            Ok(None) => Refusal::of(StatusCode::NOT_FOUND).into_response(),
            Err(error) => Refusal::saying(StatusCode::BAD_REQUEST, &error).into_response(),
        };
        if arrival.head.method == Method::HEAD || !has_body(response.status()) {
            head::strip_body(&mut response, &arrival.head.method);
        }
        if arrival.exchange.is_last() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        record.reply(&response);
        response.map(|body| body.recorded(record))
    }

    /// Authenticates, and calls the plugin.
    async fn enter(
        &self,
        route: &Route,
        below: Below,
        head: &http::request::Parts,
        body: Body,
        exchange: &Arc<Exchange>,
        record: &mut Record,
    ) -> Response<ReplyBody> {
        let peer = exchange.connection().peer();
        let mount = route.handler.path();
        let principal = match route.access.admit(&head.headers, peer.address()).await {
            Decision::Admitted(principal) => principal,
            Decision::Anonymous => return self.challenge(route),
            Decision::Rejected { user, why } => {
                route.metrics.login_failures.inc();
                // Names come from outside: quoted, and not longer than names are.
                let user: String = user.chars().take(128).collect();
                tracing::warn!(%peer, ?user, %mount, request = record.id(), why, "login failed");
                return self.challenge(route);
            }
            Decision::Busy => {
                tracing::warn!(%peer, %mount, "login not checked: too many logins wait");
                let text = "too many logins are being checked";
                return Refusal::saying(StatusCode::SERVICE_UNAVAILABLE, &text)
                    .with(header::RETRY_AFTER, 2)
                    .into_response();
            }
        };
        record.user(principal.as_ref());
        let mut taking = self.recorder.as_ref().and_then(Recorder::begin);
        let body = match &mut taking {
            Some(taking) => {
                let handler = &route.handler;
                taking.mount(handler.path(), handler.plugin(), handler.digest());
                taking.request(head, principal.as_ref(), route.access.withheld());
                taking.tap(body)
            }
            None => body,
        };
        record.take(taking);
        let place = Place { route, exchange, id: record.id() };
        let request = request(below, head, &place, principal, body);
        let called = route.handler.call(request).await;
        match called.and_then(|reply| head::response(reply, head, exchange)) {
            Ok(mut response) => {
                let challenged = response.headers().contains_key(header::WWW_AUTHENTICATE);
                let unauthorized = response.status() == StatusCode::UNAUTHORIZED;
                if unauthorized && !challenged && route.access.uses_basic() {
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, BASIC_CHALLENGE);
                }
                response
            }
            Err(error) => {
                log(&error, route, head, record.id());
                let stalled = exchange.upload_stalled();
                let waiting = if stalled { Waiting::ForClient } else { Waiting::ForGateway };
                Refusal::from_call(&error, waiting).into_response()
            }
        }
    }

    fn challenge(&self, route: &Route) -> Response<ReplyBody> {
        let refusal = Refusal::of(StatusCode::UNAUTHORIZED);
        if route.access.uses_basic() {
            refusal.with(header::WWW_AUTHENTICATE, BASIC_CHALLENGE).into_response()
        } else {
            refusal.into_response()
        }
    }
}

/// What of a target lies below its mount.
struct Below {
    /// How many segments the mount takes.
    segments: usize,
    target: Target,
}

/// Where a request came in.
struct Place<'a> {
    route: &'a Route,
    exchange: &'a Exchange,
    id: &'a str,
}

fn request(
    below: Below,
    head: &http::request::Parts,
    place: &Place<'_>,
    principal: Option<Principal>,
    body: Body,
) -> Request {
    let Below { segments, target } = below;
    let (mount, connection) = (place.route.handler.path(), place.exchange.connection());
    Request {
        method: head.method.as_str().to_owned(),
        base: place::base(head, connection.is_tls(), connection.public_url(), mount),
        target: place::target(&head.uri),
        address: connection.peer().address(),
        id: place.id.to_owned(),
        path: target.segments.into_iter().skip(segments).collect(),
        trailing_slash: target.trailing_slash,
        query: query(&head.uri),
        headers: head::fields(head, &place.route.access),
        principal,
        body,
    }
}

/// False for statuses that are all head.
fn has_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// What the operator should know about a call without a reply.
fn log(error: &CallError, route: &Route, head: &http::request::Parts, id: &str) {
    let (mount, plugin) = (route.handler.path(), route.handler.plugin());
    let (method, path) = (&head.method, head.uri.path());
    let reason = error.reason();
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(%mount, %plugin, %method, ?path, request = id, reason, %error, "no reply")
        };
    }
    match error {
        CallError::Failure(Failure::Internal(_))
        | CallError::Trapped(_)
        | CallError::BadReply(_) => log!(error),
        CallError::Failure(Failure::Refused(refused)) if refused.status < 500 => log!(debug),
        CallError::Failure(
            Failure::Unavailable(_) | Failure::Busy(_) | Failure::NoSpace | Failure::Refused(_),
        )
        | CallError::OverLimit(_)
        | CallError::NotServing(_)
        | CallError::Busy(_) => log!(warn),
        // That it is put aside has been told once.
        CallError::Failure(_) | CallError::Aside(_) => log!(debug),
        _ => log!(error),
    }
}

impl Application for Gateway {
    type Body = ReplyBody;

    async fn respond(
        self: Arc<Self>,
        request: http::Request<Incoming>,
        exchange: Arc<Exchange>,
    ) -> Response<ReplyBody> {
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

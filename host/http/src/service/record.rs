//! What is known of a request when it has ended, for metrics and logs. A request ends with the
//! last byte of its reply, or with the client's going away.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, Uri, Version, header};
use keepgate_core::Principal;

use crate::connection::{Exchange, Peer};
use crate::metrics::MountMetrics;
use crate::recording::Taking;
use crate::service::place::next_id;

/// A log of requests. Told in the task of the request, so it must not wait for a disk.
pub trait AccessLog: Send + Sync + 'static {
    /// One request has ended.
    fn ended(&self, visit: &Visit);
}

/// A request that has ended, as far as it is known.
#[derive(Clone, Debug)]
pub struct Visit {
    /// When its head was complete.
    pub begun: SystemTime,
    /// From then to the last byte of the reply.
    pub took: Duration,
    /// Who was at the other end of the connection.
    pub peer: Peer,
    /// As which user; none where nobody was authenticated.
    pub user: Option<String>,
    /// As it stood in the request.
    pub method: Method,
    /// As it stood in the request.
    pub target: Uri,
    /// Of HTTP.
    pub version: Version,
    /// None where the client went away before there was one.
    pub status: Option<StatusCode>,
    /// Bytes of the reply's body.
    pub sent: u64,
    /// The `Referer` header.
    pub referer: Option<HeaderValue>,
    /// The `User-Agent` header.
    pub user_agent: Option<HeaderValue>,
}

/// Ends a request when it is dropped.
pub(crate) struct Record {
    id: String,
    begun: Instant,
    method: Method,
    status: Option<StatusCode>,
    sent: u64,
    metrics: Arc<MountMetrics>,
    log: Option<Box<Logged>>,
    /// Where the exchange is being recorded.
    taking: Option<Box<Taking>>,
}

/// What only a log needs.
struct Logged {
    log: Arc<dyn AccessLog>,
    visit: Visit,
}

impl Record {
    pub(super) fn begin(
        head: &http::request::Parts,
        exchange: &Exchange,
        metrics: &Arc<MountMetrics>,
        log: &Option<Arc<dyn AccessLog>>,
    ) -> Self {
        metrics.in_flight.inc();
        let id = next_id();
        // The path alone: a query may hold what is nobody's business.
        tracing::debug!(
            peer = %exchange.connection().peer(),
            method = %head.method,
            path = head.uri.path(),
            request = id,
            "request"
        );
        let log = log.as_ref().map(|log| {
            let visit = Visit {
                begun: SystemTime::now(),
                took: Duration::ZERO,
                peer: exchange.connection().peer(),
                user: None,
                method: head.method.clone(),
                target: head.uri.clone(),
                version: head.version,
                status: None,
                sent: 0,
                referer: head.headers.get(header::REFERER).cloned(),
                user_agent: head.headers.get(header::USER_AGENT).cloned(),
            };
            Box::new(Logged { log: log.clone(), visit })
        });
        Self {
            id,
            begun: Instant::now(),
            method: head.method.clone(),
            status: None,
            sent: 0,
            metrics: metrics.clone(),
            log,
            taking: None,
        }
    }

    /// What logs call the request.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn user(&mut self, principal: Option<&Principal>) {
        if let Some(logged) = &mut self.log {
            logged.visit.user = principal.map(|principal| principal.name.clone());
        }
    }

    /// Has the exchange recorded.
    pub(super) fn take(&mut self, taking: Option<Box<Taking>>) {
        self.taking = taking;
    }

    pub(super) fn reply<B>(&mut self, response: &Response<B>) {
        self.status = Some(response.status());
        if let Some(taking) = &mut self.taking {
            taking.reply(response.status(), response.headers());
        }
    }

    pub(crate) fn sent(&mut self, bytes: &Bytes) {
        self.sent += bytes.len() as u64;
        self.metrics.sent.inc_by(bytes.len() as u64);
        if let Some(taking) = &mut self.taking {
            taking.sent(bytes);
        }
    }

    /// The reply's body has come to its end.
    pub(crate) fn sent_all(&mut self) {
        if let Some(taking) = &mut self.taking {
            taking.sent_all();
        }
    }

    /// The operator should know of replies that break off.
    pub(crate) fn broken_off(&self, error: &dyn fmt::Display) {
        let (metrics, method, sent) = (&self.metrics, &self.method, self.sent);
        let (mount, request) = (metrics.path(), &*self.id);
        tracing::warn!(mount, %method, request, sent, %error, "reply broken off");
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        self.metrics.in_flight.dec();
        self.metrics.ended(&self.method, self.status, took);
        if let Some(Logged { log, visit }) = self.log.as_deref_mut() {
            visit.took = took;
            visit.status = self.status;
            visit.sent = self.sent;
            log.ended(visit);
        }
        if let Some(taking) = self.taking.take() {
            taking.finish(took);
        }
    }
}

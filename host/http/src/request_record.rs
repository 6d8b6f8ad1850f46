//! What is known about a request, collected for metrics, the access log and recordings until it ends:
//! with the last byte of its response, or when the client goes away.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use keepgate_core::{Handler, Principal};

use crate::access_log::{AccessLog, AccessLogEntry};
use crate::connection::Exchange;
use crate::metrics::MountMetrics;
use crate::recording::Recording;
use crate::request_id::next_request_id;

/// The record of one request, completed when it is dropped.
pub(crate) struct RequestRecord {
    id: String,
    begun: Instant,
    method: Method,
    status: Option<StatusCode>,
    sent: u64,
    metrics: Arc<MountMetrics>,
    log: Option<Box<Logged>>,
    /// What answers it, as soon as that is known.
    handler: Option<Arc<dyn Handler>>,
    /// Set if the exchange is being recorded.
    recording: Option<Box<Recording>>,
}

/// What only the access log needs.
struct Logged {
    log: Arc<dyn AccessLog>,
    entry: AccessLogEntry,
}

impl RequestRecord {
    pub(crate) fn begin(
        head: &http::request::Parts,
        exchange: &Exchange,
        metrics: &Arc<MountMetrics>,
        log: &Option<Arc<dyn AccessLog>>,
    ) -> Self {
        metrics.in_flight.inc();
        let id = next_request_id();
        // Only the path: the query may hold secrets.
        tracing::debug!(
            peer = %exchange.client(),
            method = %head.method,
            url_path = head.uri.path(),
            request = id,
            "request received"
        );
        let log = log.as_ref().map(|log| {
            let entry = AccessLogEntry {
                begun: SystemTime::now(),
                took: Duration::ZERO,
                peer: exchange.client(),
                user: None,
                method: head.method.clone(),
                target: head.uri.clone(),
                version: head.version,
                status: None,
                sent: 0,
                referer: head.headers.get(header::REFERER).cloned(),
                user_agent: head.headers.get(header::USER_AGENT).cloned(),
            };
            Box::new(Logged { log: log.clone(), entry })
        });
        Self {
            id,
            begun: Instant::now(),
            method: head.method.clone(),
            status: None,
            sent: 0,
            metrics: metrics.clone(),
            log,
            handler: None,
            recording: None,
        }
    }

    /// The request's identifier in logs.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn user(&mut self, principal: Option<&Principal>) {
        if let Some(logged) = &mut self.log {
            logged.entry.user = principal.map(|principal| principal.name.clone());
        }
    }

    /// Sets what answers the request.
    pub(crate) fn answered_by(&mut self, handler: &Arc<dyn Handler>) {
        self.handler = Some(handler.clone());
    }

    /// Sets where the exchange is recorded, if it is.
    pub(crate) fn record_into(&mut self, recording: Option<Box<Recording>>) {
        self.recording = recording;
    }

    pub(crate) fn response<B>(&mut self, response: &Response<B>) {
        self.status = Some(response.status());
        if let Some(recording) = &mut self.recording {
            recording.response(response.status(), response.headers());
        }
    }

    pub(crate) fn sent(&mut self, bytes: &Bytes) {
        self.sent += bytes.len() as u64;
        self.metrics.sent.inc_by(bytes.len() as u64);
        if let Some(recording) = &mut self.recording {
            recording.sent(bytes);
        }
    }

    /// Called at the end of the response body.
    pub(crate) fn sent_all(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.sent_all();
        }
    }

    /// Logs a response that broke off: operators should know.
    pub(crate) fn aborted(&self, error: &dyn fmt::Display) {
        let error = error.to_string();
        if self.handler.as_ref().is_some_and(|handler| !handler.may_log(error.len())) {
            return;
        }
        let (metrics, method, sent) = (&self.metrics, &self.method, self.sent);
        let (mount, request) = (metrics.path(), &*self.id);
        tracing::warn!(mount, %method, request, sent, %error, "response aborted");
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        self.metrics.in_flight.dec();
        self.metrics.ended(&self.method, self.status, took);
        if let Some(Logged { log, entry }) = self.log.as_deref_mut() {
            entry.took = took;
            entry.status = self.status;
            entry.sent = self.sent;
            log.ended(entry);
        }
        if let Some(recording) = self.recording.take() {
            recording.finish(took);
        }
    }
}

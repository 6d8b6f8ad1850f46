//! One request, sent once: from a connection to the head of the response, with a limit in time at each step.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Extensions, Method};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, sleep_until};

use super::{Begun, Head, Inner, NoResponse, Patience};
use crate::dial::{Dialer, Used};
use crate::explain::{self, Words};
use crate::options::Limits;
use crate::target;
use crate::upload::{Phase, Progress, Upload};

/// A connection that nothing was sent on for this long is closed; servers close them after about as long.
pub(super) const IDLE: Duration = Duration::from_secs(20);
/// Bytes of one response that HTTP/2 lets a server send ahead of the reader.
const WINDOW: u32 = 1024 * 1024;

/// A client of one place.
pub(super) fn client(dialer: Dialer, limits: &Limits, idle: Duration) -> Client<Dialer, Upload> {
    let streams = u32::try_from(limits.requests).unwrap_or(1024).clamp(1, 1024);
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(idle)
        .pool_max_idle_per_host(limits.requests)
        .http1_max_buf_size(limits.head)
        .http2_max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
        .http2_initial_stream_window_size(WINDOW)
        // As much as all streams, so that a reader that is slow does not hold up the others.
        .http2_initial_connection_window_size(WINDOW * streams)
        .http2_keep_alive_interval(IDLE)
        .http2_keep_alive_timeout(IDLE)
        .build(dialer)
}

impl Inner {
    /// Sends a request once.
    pub(crate) async fn exchange(
        &self,
        head: &Head,
        upload: Upload,
        patience: Patience,
    ) -> Result<Begun, NoResponse> {
        let client = match (&head.own, &self.pooled) {
            // Connections are not kept: the next request may be allowed less.
            (Some((url, allowed)), _) => {
                let peer = target::to(url.clone(), *allowed, &self.tls);
                let (timeout, resolver) = (self.timeouts.connect, Arc::clone(&self.resolver));
                client(Dialer { peer, timeout, resolver }, &self.limits, Duration::ZERO)
            }
            (None, Some(pooled)) => pooled.clone(),
            (None, None) => {
                return Err(NoResponse::Unavailable("there is no address to connect to".into()));
            }
        };
        let progress = upload.progress();
        let abort = progress.abort_on_drop();
        let length = upload.length();
        let mut request = http::Request::new(upload);
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        *request.headers_mut() = head.headers.clone();
        // None for a request that has no body and does not need to say so.
        let bare =
            length == Some(0) && ![Method::POST, Method::PUT, Method::PATCH].contains(&head.method);
        if let Some(length) = length.filter(|_| !bare) {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let has_body = length != Some(0);
        let mut captured = capture_connection(&mut request);
        let sending = client.request(request);
        tokio::pin!(sending);
        // The dialer keeps to its own limit; this one is for whatever else hyper may wait for.
        let backstop = Instant::now() + self.timeouts.connect + patience.answer;
        let response = tokio::select! {
            response = &mut sending => Some(response),
            _ = captured.wait_for_connection_metadata() => None,
            () = sleep_until(backstop) => {
                return Err(NoResponse::Unavailable("it gives no connection".into()));
            }
        };
        let response = match response {
            Some(response) => response,
            None => {
                tokio::select! {
                    biased;
                    response = &mut sending => response,
                    words = overdue(&progress, has_body, patience) => {
                        return Err(NoResponse::Unavailable(words));
                    }
                }
            }
        };
        if let Some(metrics) = &self.metrics {
            metrics.sent(progress.sent());
        }
        match response {
            Ok(response) if (200..600).contains(&response.status().as_u16()) => {
                if let Some(used) = response.extensions().get::<Used>() {
                    used.answered();
                }
                Ok(Begun { response, progress, abort })
            }
            Ok(response) => {
                let status = response.status().as_u16();
                Err(NoResponse::Unavailable(format!("it answered with the status {status}").into()))
            }
            Err(error) => Err(self.no_response(&error, &progress)),
        }
    }

    fn no_response(&self, error: &Error, progress: &Progress) -> NoResponse {
        if let Some(error) = progress.take_error() {
            return NoResponse::Body(error);
        }
        let words = explain::exchange(error, self.tls.files().identity.is_some());
        if explain::is_refused_address(error) {
            return NoResponse::Refused(words);
        }
        let mut extensions = Extensions::new();
        if let Some(connected) = error.connect_info() {
            connected.get_extras(&mut extensions);
        }
        match extensions.get::<Used>() {
            Some(used) if used.before() && !explain::is_parse(error) => NoResponse::Stale(words),
            _ => NoResponse::Unavailable(words),
        }
    }
}

/// Returns when the upstream took too long for whatever it has to do next.
async fn overdue(progress: &Progress, has_body: bool, patience: Patience) -> Words {
    let Patience { answer, silence } = patience;
    let connected = Instant::now();
    loop {
        let (until, words) = match progress.phase() {
            Phase::Unasked if has_body => {
                (connected + silence, format!("it took nothing of the request for {silence:?}"))
            }
            Phase::Unasked => (connected + answer, format!("no answer within {answer:?}")),
            Phase::Peer(since) => {
                (since + silence, format!("it took nothing of the request for {silence:?}"))
            }
            Phase::Done(since) => (since + answer, format!("no answer within {answer:?}")),
            // Whoever makes the body has limits of its own, and an error of its own ends the request.
            Phase::Source | Phase::Aborted => {
                progress.changed().await;
                continue;
            }
        };
        tokio::select! {
            () = progress.changed() => {}
            () = sleep_until(until) => return words.into(),
        }
    }
}

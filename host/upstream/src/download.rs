//! The body of a response, as a stream that whoever reads it can trust: it ends without an error only if it is whole,
//! and an upstream that says nothing for too long is an error, too.
//!
//! A response that breaks off is read on from there if that gives the same bytes: the method was GET, the length is
//! known, and the response has a validator, or the plugin says that the resource does not change. The reader does not
//! notice, because bytes that are already in a store or at a client cannot be taken back.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::try_unfold;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use keepgate_store::{Body, BodyError};
use tokio::time::{Instant, sleep, timeout_at};

pub(crate) use self::plan::Plan;
use crate::client::{Begun, Inner, NoResponse, Patience, Turn};
use crate::explain::{self, Words};
use crate::upload::{AbortOnDrop, Progress, Upload};

/// The pause before a response is read on; twice as long each time.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A response's body.
pub(crate) struct Download {
    upstream: Arc<Inner>,
    incoming: Incoming,
    length: Option<u64>,
    got: u64,
    plan: Option<Plan>,
    resumes: u32,
    patience: Patience,
    max: Option<u64>,
    /// Of the request, whose body may still be on its way.
    request: (Progress, AbortOnDrop),
    _turn: Turn,
}

impl Download {
    pub(crate) fn new(
        upstream: Arc<Inner>,
        begun: Begun,
        plan: Option<Plan>,
        patience: Patience,
        max: Option<u64>,
        turn: Turn,
    ) -> Self {
        let Begun { response, progress, abort } = begun;
        let incoming = response.into_body();
        let length = incoming.size_hint().exact();
        let request = (progress, abort);
        Self {
            upstream,
            incoming,
            length,
            got: 0,
            plan,
            resumes: 0,
            patience,
            max,
            request,
            _turn: turn,
        }
    }

    pub(crate) fn into_body(self) -> Body {
        let length = self.length;
        if length == Some(0) && self.incoming.is_end_stream() {
            return Body::empty();
        }
        let chunks = try_unfold(self, |mut download| async move {
            Ok(download.next().await?.map(|chunk| (chunk, download)))
        });
        Body::from_stream(length, chunks)
    }

    /// The next bytes; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let words = match self.receive().await {
                Ok(Some(bytes)) => return self.count(bytes).map(Some),
                Ok(None) if self.length.is_none_or(|length| length == self.got) => return Ok(None),
                Ok(None) => "it ended the body".into(),
                Err(words) => words,
            };
            if let Some(error) = self.request.0.take_error() {
                return Err(error);
            }
            self.resume(words).await?;
        }
    }

    /// The next bytes that the upstream sends; none at the end.
    async fn receive(&mut self) -> Result<Option<Bytes>, Words> {
        let silence = self.patience.silence;
        // Frames without bytes are no sign of life.
        let deadline = Instant::now() + silence;
        loop {
            let frame = match timeout_at(deadline, self.incoming.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(explain::exchange(&error, false)),
                Ok(None) => return Ok(None),
                Err(_) => return Err(format!("it sent nothing for {silence:?}").into()),
            };
            // Trailers are left out.
            if let Ok(bytes) = frame.into_data()
                && !bytes.is_empty()
            {
                return Ok(Some(bytes));
            }
        }
    }

    fn count(&mut self, bytes: Bytes) -> Result<Bytes, BodyError> {
        self.got += bytes.len() as u64;
        if let Some(limit) = self.max.filter(|max| self.got > *max) {
            return Err(BodyError::TooLarge { limit });
        }
        if let Some(metrics) = &self.upstream.metrics {
            metrics.received(bytes.len() as u64);
        }
        Ok(bytes)
    }

    /// Asks for the rest, or fails with why the response broke off.
    async fn resume(&mut self, mut words: Words) -> Result<(), BodyError> {
        loop {
            let Some(plan) =
                self.plan.as_ref().filter(|_| self.resumes < self.upstream.limits.resumes)
            else {
                return Err(self.broken(&words));
            };
            let (upstream, bytes, error) = (&self.upstream.name, self.got, &words.full);
            tracing::warn!(upstream, bytes, error, "upstream's response broke off and is read on");
            sleep(LONGEST_PAUSE.min(PAUSE * 2_u32.saturating_pow(self.resumes))).await;
            self.resumes += 1;
            if let Some(metrics) = &self.upstream.metrics {
                metrics.resume();
            }
            let head = match self.upstream.with_credentials(plan.rest(self.got)).await {
                Ok(head) => head,
                Err(next) => {
                    words = next;
                    continue;
                }
            };
            match self.upstream.exchange(&head, Upload::new(None), self.patience).await {
                Ok(Begun { response, progress, abort }) => match plan.check(&response, self.got) {
                    Ok(true) => {
                        self.incoming = response.into_body();
                        self.request = (progress, abort);
                        return Ok(());
                    }
                    // Perhaps it is being started.
                    Ok(false) => words = format!("it answered {}", response.status()).into(),
                    Err(changed) => return Err(self.broken(&changed.into())),
                },
                Err(NoResponse::Body(error)) => return Err(error),
                Err(
                    NoResponse::Stale(next)
                    | NoResponse::Unavailable(next)
                    | NoResponse::Refused(next),
                ) => words = next,
            }
        }
    }

    fn broken(&self, words: &Words) -> BodyError {
        let (name, got) = (&self.upstream.name, self.got);
        let of = self.length.map_or(String::new(), |length| format!(" of {length}"));
        let error = &words.full;
        tracing::warn!(upstream = name, bytes = got, error, "upstream's response broke off");
        let why = &words.short;
        BodyError::Unavailable(format!(
            "upstream {name:?}: the response broke off after {got}{of} bytes: {why}"
        ))
    }
}

//! The body of a request on its way out: counted, so that no request is whole on the wire whose body is not, and
//! watched, so that an upstream that takes nothing is noticed. If whoever wants the response goes away, the body fails
//! and with it the request, which hyper would otherwise send to its end.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::{Frame, SizeHint};
use keepgate_store::{Body, BodyError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// A request's body for hyper.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Option<Body>,
    /// Bytes that are announced and not handed out.
    left: Option<u64>,
    /// The last chunk, until the source has ended.
    held: Option<Bytes>,
    progress: Progress,
}

/// How far the body of a request is. Clones are of the same body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    sent: u64,
    error: Option<BodyError>,
    waker: Option<Waker>,
}

/// Who has to do something next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody has asked for the body yet.
    #[default]
    Unasked,
    /// Whoever makes the body has.
    Source,
    /// The upstream has taken nothing since.
    Peer(Instant),
    /// All is handed out, since.
    Done(Instant),
    /// It broke off on this side.
    Aborted,
}

/// The request was aborted because its body could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the request was aborted")]
pub(crate) struct Aborted;

/// Aborts a request when it is dropped, unless its body was sent.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(Progress);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort(None);
    }
}

impl Upload {
    pub(crate) fn new(body: Option<Body>) -> Self {
        let body = body.filter(|body| body.length() != Some(0));
        let left = body.as_ref().map_or(Some(0), Body::length);
        Self { body, left, held: None, progress: Progress::default() }
    }

    /// Its length, if it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.left
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Takes the next chunk from the source. The last of an announced length is held back until the source ends, because
    /// a source that finds its bytes wrong says so there.
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Some(body) = &mut self.body else {
                return Poll::Ready(None);
            };
            let chunk = match ready!(body.poll_next_unpin(context)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(chunk)) => chunk,
                None => {
                    self.body = None;
                    return Poll::Ready(match (self.held.take(), self.left) {
                        (Some(last), _) => Some(Ok(last)),
                        (None, None | Some(0)) => None,
                        (None, Some(_)) => Some(Err(BodyError::Truncated)),
                    });
                }
            };
            if chunk.is_empty() {
                continue;
            }
            let Some(left) = self.left else {
                return Poll::Ready(Some(Ok(chunk)));
            };
            let Some(rest) = left.checked_sub(chunk.len() as u64) else {
                let what = "the body is longer than its announced length".to_owned();
                return Poll::Ready(Some(Err(BodyError::Failed(what))));
            };
            self.left = Some(rest);
            if rest > 0 {
                return Poll::Ready(Some(Ok(chunk)));
            }
            self.held = Some(chunk);
        }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        if self.progress.is_aborted(context) {
            self.body = None;
            return Poll::Ready(Some(Err(Aborted)));
        }
        match self.next(context) {
            Poll::Pending => {
                self.progress.advance(Phase::Source, 0);
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.progress.advance(Phase::Done(Instant::now()), 0);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(chunk))) => {
                let now = Instant::now();
                let phase = if self.body.is_none() { Phase::Done(now) } else { Phase::Peer(now) };
                self.progress.advance(phase, chunk.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Poll::Ready(Some(Err(error))) => {
                self.body = None;
                self.progress.abort(Some(error));
                Poll::Ready(Some(Err(Aborted)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none() && self.left == Some(0) && self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.as_ref().map_or(0, |held| held.len() as u64);
        self.left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + held))
    }
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, phase: Phase, bytes: u64) {
        let mut state = self.state();
        state.phase = phase;
        state.sent += bytes;
        drop(state);
        self.0.changed.notify_one();
    }

    fn abort(&self, error: Option<BodyError>) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Done(_) | Phase::Aborted) {
            return;
        }
        state.phase = Phase::Aborted;
        state.error = error;
        let waker = state.waker.take();
        drop(state);
        self.0.changed.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether the request was given up; if not, the task is woken when it is.
    fn is_aborted(&self, context: &Context<'_>) -> bool {
        let mut state = self.state();
        if state.phase == Phase::Aborted {
            return true;
        }
        state.waker = Some(context.waker().clone());
        false
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Bytes that were handed out.
    pub(crate) fn sent(&self) -> u64 {
        self.state().sent
    }

    /// Returns when somebody else has to do something next.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Why the body could not be read, if that is why the request was aborted.
    pub(crate) fn take_error(&self) -> Option<BodyError> {
        self.state().error.take()
    }

    pub(crate) fn abort_on_drop(&self) -> AbortOnDrop {
        AbortOnDrop(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::BodyExt as _;

    use super::*;

    fn upload(length: Option<u64>, chunks: Vec<Result<&'static str, BodyError>>) -> Upload {
        let chunks = chunks.into_iter().map(|chunk| chunk.map(Bytes::from));
        Upload::new(Some(Body::from_stream(length, stream::iter(chunks))))
    }

    async fn sent(mut upload: Upload) -> (String, Result<(), Option<BodyError>>) {
        let (progress, mut text) = (upload.progress(), String::new());
        while let Some(frame) = upload.frame().await {
            match frame {
                Ok(frame) => {
                    text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
                }
                Err(Aborted) => return (text, Err(progress.take_error())),
            }
        }
        (text, Ok(()))
    }

    #[tokio::test]
    async fn a_body_is_whole_only_if_it_is_what_was_announced() {
        for length in [None, Some(5)] {
            let (text, end) = sent(upload(length, vec![Ok("ab"), Ok(""), Ok("cde")])).await;
            assert_eq!((text.as_str(), end.is_ok()), ("abcde", true), "{length:?}");
        }
        let (text, end) = sent(upload(Some(6), vec![Ok("ab"), Ok("cde")])).await;
        assert_eq!(text, "abcde");
        assert!(matches!(end, Err(Some(BodyError::Truncated))));
        let (text, end) = sent(upload(Some(4), vec![Ok("ab"), Ok("cde")])).await;
        assert_eq!(text, "ab");
        assert!(matches!(end, Err(Some(BodyError::Failed(_)))));
        let (text, end) = sent(upload(Some(2), vec![Ok("ab"), Ok("c")])).await;
        assert_eq!(text, "");
        assert!(matches!(end, Err(Some(BodyError::Failed(_)))));
    }

    #[tokio::test]
    async fn a_source_that_is_wrong_at_its_end_never_makes_a_whole_request() {
        let wrong = || BodyError::Invalid("the checksum".to_owned());
        let (text, end) = sent(upload(Some(5), vec![Ok("ab"), Ok("cde"), Err(wrong())])).await;
        assert_eq!(text, "ab", "the last chunk is held back");
        assert!(matches!(end, Err(Some(BodyError::Invalid(_)))));
    }

    #[tokio::test]
    async fn a_request_that_nobody_waits_for_is_aborted() {
        let pending =
            stream::once(async { Ok(Bytes::from_static(b"ab")) }).chain(stream::pending());
        let mut upload = Upload::new(Some(Body::from_stream(Some(5), pending)));
        let guard = upload.progress().abort_on_drop();
        assert!(upload.frame().await.unwrap().is_ok());
        let waiting = tokio::spawn(async move { upload.frame().await.unwrap().is_err() });
        tokio::task::yield_now().await;
        drop(guard);
        assert!(waiting.await.unwrap());
    }
}

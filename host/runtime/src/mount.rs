//! A mount: a path prefix with the plugin that serves it. A call goes through here, from request to
//! reply; `serving` has what one plugin does with it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::oneshot;

use keepgate_jobs::{Job, Reporter};
use keepgate_store::{Body, BodyError};

use crate::circuit_breaker::Open;
use crate::load::Plugin;
use crate::metrics::{Counts, MountMetrics, Watched};
use crate::reply;
use crate::serving::Serving;
use crate::shares::Usage;
use crate::spec::MountSpec;
use crate::streamed_reply::{Arriving, Started};
use keepgate_core::{CallError, RefusalForm, Reply, Request};

/// A path prefix and the plugin that serves it.
#[derive(Debug)]
pub struct Mount {
    spec: Arc<MountSpec>,
    /// The plugin, or why there is none.
    serving: Result<Arc<Serving>, Unserved>,
    /// How its surface reports failures, as far as that is known.
    refusal_form: Option<Arc<RefusalForm>>,
}

/// Why a mount has no plugin, in words for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unserved {
    /// Its file is away, or not whole yet.
    Absent(String),
    /// The plugin is refused, or refuses the mount. Only an operator can change that.
    Misconfigured(String),
}

impl Unserved {
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Absent(why) | Self::Misconfigured(why) => why,
        }
    }
}

impl From<Unserved> for CallError {
    fn from(unserved: Unserved) -> Self {
        match unserved {
            Unserved::Absent(why) => Self::NotServing(why),
            Unserved::Misconfigured(why) => Self::Misconfigured(why),
        }
    }
}

impl Mount {
    pub(crate) fn new(spec: Arc<MountSpec>, serving: Serving) -> Self {
        let refusal_form = serving.plugin.refusal_form.clone();
        Self { spec, serving: Ok(Arc::new(serving)), refusal_form }
    }

    /// A mount without a plugin. It answers in the form that is known of its surface.
    pub(crate) fn without_plugin(
        spec: Arc<MountSpec>,
        why: Unserved,
        refusal_form: Option<Arc<RefusalForm>>,
    ) -> Self {
        Self { spec, serving: Err(why), refusal_form }
    }

    /// Its path: `/`, or `/restic` without a trailing slash.
    pub fn path(&self) -> &str {
        &self.spec.path
    }

    /// The name of its plugin.
    pub fn plugin(&self) -> &str {
        &self.spec.plugin
    }

    /// What the operator configured.
    pub fn spec(&self) -> &Arc<MountSpec> {
        &self.spec
    }

    /// The plugin that serves it, or why none does.
    pub fn serving(&self) -> Result<&Arc<Plugin>, &str> {
        match &self.serving {
            Ok(serving) => Ok(&serving.plugin),
            Err(unserved) => Err(unserved.why()),
        }
    }

    /// The same with its calls.
    pub(crate) fn served_by(&self) -> Option<&Arc<Serving>> {
        self.serving.as_ref().ok()
    }

    /// How its surface reports failures, as its plugin declares it, or declared it before it was refused.
    pub(crate) fn refusal_form(&self) -> Option<&Arc<RefusalForm>> {
        self.refusal_form.as_ref()
    }

    /// What its plugin has done here since the gateway started.
    pub fn counts(&self) -> Counts {
        self.serving.as_ref().map(|serving| serving.counts()).unwrap_or_default()
    }

    /// Linear memory of the largest idle warm instance, in bytes; 0 if there is none.
    pub fn warm_memory(&self) -> u64 {
        self.serving.as_ref().map_or(0, |serving| serving.warm_memory())
    }

    /// Its plugin's circuit breaker, if that is open: the plugin then gets one call after each pause.
    pub fn suspended(&self) -> Option<Open> {
        self.serving.as_ref().ok()?.suspended()
    }

    /// Another mount takes its place. Calls in flight go on, except that nothing waits without an end any more.
    pub(crate) fn retire(&self) {
        if let Ok(serving) = &self.serving {
            serving.retire();
        }
    }

    /// Asks whether a line of this many bytes that the plugin caused may be logged.
    pub(crate) fn may_log(&self, bytes: usize) -> bool {
        self.serving.as_ref().map_or(true, |serving| serving.may_log(bytes))
    }

    /// Calls the plugin. Dropping the future, or the body of the reply, stops the plugin. A commit that
    /// a store has begun still finishes.
    pub async fn call(&self, request: Request) -> Result<Reply, CallError> {
        let serving = self.serving.clone()?;
        let (reply_start, mut started) = oneshot::channel();
        let mut guest: Guest = Box::pin(serving.run(request, reply_start));
        // The guest starts a streamed reply while it is polled, so checking after each poll is enough.
        let first = std::future::poll_fn(|context| match guest.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(First::Done(done)),
            Poll::Pending => match started.try_recv() {
                Ok(started) => Poll::Ready(First::Started(started)),
                Err(_) => Poll::Pending,
            },
        });
        match first.await {
            First::Started(started) => streamed(started, Some(guest)),
            First::Done(done) => match done? {
                Some(reply) => Ok(reply),
                None => match started.try_recv() {
                    Ok(started) => streamed(started, None),
                    Err(_) => Err(CallError::BadReply(
                        "it returned `streamed` without starting the writer".to_owned(),
                    )),
                },
            },
        }
    }
}

impl Mount {
    /// The key that the plugin gives a job of this kind with this input, or what is wrong with the
    /// input. `None` if no plugin serves the mount.
    pub async fn check_job(&self, kind: &str, input: &[u8]) -> Option<Result<String, String>> {
        let serving = self.serving.as_ref().ok()?;
        Some(serving.check_job(kind, input).await)
    }

    /// Runs one attempt of a job. Dropping the future stops the plugin.
    pub(crate) async fn run_job(&self, job: Job, reporter: Reporter) -> Result<Vec<u8>, CallError> {
        let serving = self.serving.clone()?;
        let done = serving.run_job(job, reporter).await;
        serving.count(&done);
        done
    }
}

/// The guest's work for one request. It returns no reply if the reply was streamed.
type Guest = Pin<Box<dyn Future<Output = Result<Option<Reply>, CallError>> + Send>>;

enum First {
    Started(Started),
    Done(Result<Option<Reply>, CallError>),
}

fn streamed(started: Started, guest: Option<Guest>) -> Result<Reply, CallError> {
    let pieces = Pieces { arriving: started.arriving, guest };
    reply::check(started.head, Body::from_stream(None, pieces))
}

/// The pieces of a streamed reply. Polling it runs the guest; dropping it stops the guest.
struct Pieces {
    arriving: Arriving,
    guest: Option<Guest>,
}

impl Stream for Pieces {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(guest) = &mut self.guest {
            match guest.as_mut().poll(context) {
                Poll::Pending => {}
                Poll::Ready(Ok(None)) => self.guest = None,
                Poll::Ready(done) => {
                    self.guest = None;
                    self.arriving.close();
                    let why = match done {
                        Err(error) => error.to_string(),
                        // A plugin that turns its failures into replies does so in the middle of a
                        // list, too. Ending the body here would make a short list look complete.
                        Ok(_) => {
                            "the plugin returned another reply after starting this one".to_owned()
                        }
                    };
                    return Poll::Ready(Some(Err(BodyError::Failed(why))));
                }
            }
        }
        match self.arriving.poll(context) {
            Poll::Ready(Some(piece)) => Poll::Ready(Some(piece)),
            // The writer is closed; the guest has still to finish.
            Poll::Ready(None) if self.guest.is_some() => Poll::Pending,
            ended => ended,
        }
    }
}

impl Watched for Mount {
    fn path(&self) -> &str {
        self.path()
    }

    fn plugin(&self) -> &str {
        self.plugin()
    }

    fn is_open(&self) -> bool {
        self.suspended().is_some()
    }

    fn usage(&self) -> Option<Usage> {
        self.served_by()?.usage()
    }

    fn metrics(&self) -> Option<Arc<MountMetrics>> {
        self.serving.as_ref().ok().map(|serving| serving.metrics())
    }
}

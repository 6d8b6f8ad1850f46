//! A mount: a path prefix with its plugin, settings, grants and limits; and the call, from
//! request to reply.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::oneshot;

use keepgate_jobs::{Job, Reporter};
use keepgate_store::{Body, BodyError};

use crate::call::{CallError, Reply, Request};
use crate::faults::{Aside, Faults};
use crate::grant::{Grant, Services};
use crate::imports::http::{Arriving, Started};
use crate::load::Plugin;
use crate::metrics::Counts;
use crate::reply;
use crate::serving::Serving;

/// What the operator says of a mount.
#[derive(Debug)]
pub struct MountSpec {
    /// `/`, or a path that begins with `/` and does not end with it.
    pub path: String,
    /// The plugin's file name without `.wasm`.
    pub plugin: String,
    /// Handed to the plugin as JSON.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// By the names under which the plugin opens them; with the mount's policy around them.
    pub stores: BTreeMap<String, Arc<dyn Grant>>,
    /// What it grants besides.
    pub services: Services,
    /// What a call may use.
    pub limits: Limits,
    /// Instances serve many requests, one at a time, instead of one.
    pub warm: bool,
}

/// What a call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of an instance, in bytes. The host holds as much again for a call at most.
    pub memory: u64,
    /// Time that it spends computing.
    pub cpu: Duration,
    /// Time from the request to the end of the plugin's work. A body that the host sends after
    /// that is not part of it.
    pub time: Duration,
    /// Time of one attempt of a job.
    pub job_time: Duration,
    /// Calls at once.
    pub calls: usize,
    /// When a plugin that breaks down again and again is put aside.
    pub faults: Faults,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            cpu: Duration::from_secs(1),
            time: Duration::from_secs(3600),
            job_time: Duration::from_secs(24 * 3600),
            calls: 256,
            faults: Faults::default(),
        }
    }
}

/// A path prefix and what serves it.
#[derive(Debug)]
pub struct Mount {
    spec: Arc<MountSpec>,
    /// Or why nothing does.
    serving: Result<Arc<Serving>, String>,
}

impl Mount {
    pub(crate) fn new(spec: Arc<MountSpec>, serving: Result<Arc<Serving>, String>) -> Self {
        Self { spec, serving }
    }

    /// Where it is mounted: `/`, or `/restic` without a trailing slash.
    pub fn path(&self) -> &str {
        &self.spec.path
    }

    /// The name of its plugin.
    pub fn plugin(&self) -> &str {
        &self.spec.plugin
    }

    /// What the operator said.
    pub fn spec(&self) -> &Arc<MountSpec> {
        &self.spec
    }

    /// The plugin that serves it, or why none does.
    pub fn serving(&self) -> Result<&Arc<Plugin>, &str> {
        match &self.serving {
            Ok(serving) => Ok(&serving.plugin),
            Err(why) => Err(why),
        }
    }

    /// What its plugin has done here since the gateway began, in numbers.
    pub fn counts(&self) -> Counts {
        self.serving.as_ref().map(|serving| serving.counts()).unwrap_or_default()
    }

    /// Linear memory of the largest warm instance that waits for its next call, in bytes; 0 where
    /// there is none.
    pub fn warm_memory(&self) -> u64 {
        self.serving.as_ref().map_or(0, |serving| serving.warm_memory())
    }

    /// How its plugin is put aside, if it is: it then gets one call after each pause.
    pub fn aside(&self) -> Option<Aside> {
        self.serving.as_ref().ok()?.aside()
    }

    /// Calls the plugin. Dropping the future, or the body of the reply, stops the plugin; a
    /// commit that a store has begun finishes all the same.
    pub async fn call(&self, request: Request) -> Result<Reply, CallError> {
        let serving = self.serving.clone().map_err(CallError::NotServing)?;
        let (reply_start, mut started) = oneshot::channel();
        let mut guest: Guest = Box::pin(serving.run(request, reply_start));
        // The guest starts a streamed reply while it is polled, so one look after each poll is
        // enough.
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
                        "it says `streamed` and never started the writer".to_owned(),
                    )),
                },
            },
        }
    }
}

impl Mount {
    /// The key that the plugin gives to a job of this kind with this input; or what is wrong with
    /// it, in words. None where nothing serves the mount.
    pub async fn check_job(&self, kind: &str, input: &[u8]) -> Option<Result<String, String>> {
        let serving = self.serving.as_ref().ok()?;
        Some(serving.check_job(kind, input).await)
    }

    /// Runs one attempt of a job. Dropping the future stops the plugin.
    pub(crate) async fn run_job(&self, job: Job, reporter: Reporter) -> Result<Vec<u8>, CallError> {
        let serving = self.serving.clone().map_err(CallError::NotServing)?;
        let done = serving.run_job(job, reporter).await;
        serving.count(&done);
        done
    }
}

/// The guest's work for one request; none where the reply was streamed.
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
                        // A plugin that makes replies of its failures does so in the middle of
                        // a list, too. An end here would make a short list look whole.
                        Ok(_) => "the plugin answered otherwise after it had begun".to_owned(),
                    };
                    return Poll::Ready(Some(Err(BodyError::Failed(why))));
                }
            }
        }
        match self.arriving.poll(context) {
            Poll::Ready(Some(piece)) => Poll::Ready(Some(piece)),
            // The writer is gone; what remains is the guest's way to its end.
            Poll::Ready(None) if self.guest.is_some() => Poll::Pending,
            ended => ended,
        }
    }
}

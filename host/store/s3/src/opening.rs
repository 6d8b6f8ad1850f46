//! Opening a bucket: at the first use, once for all who wait, and again after a while if it failed.
//!
//! The opening is a task of its own, so that it goes on if whoever began it goes away. A failed one is remembered for
//! a few seconds, so that a thousand clients of a server that is away do not ask it a thousand times.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use keepgate_store::StoreError;

use crate::error::OpenError;
use crate::options::S3Options;
use crate::state::{self, S3State};
use crate::{Inner, housekeeping};

/// How long a failed opening stands.
const STANDS: Duration = Duration::from_secs(3);

type Outcome = Result<Arc<Inner>, OpenError>;
type Opening = Shared<BoxFuture<'static, Outcome>>;

/// A store, open or not.
#[derive(Debug)]
pub(crate) struct Door {
    options: S3Options,
    phase: Mutex<Phase>,
    housekeeping: housekeeping::Task,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Opening(Opening, Option<OpenError>),
    Failed(Instant, OpenError),
    Open(Arc<Inner>),
}

impl Door {
    pub(crate) fn new(options: S3Options) -> Result<Arc<Self>, OpenError> {
        if let Some(problem) = options.problem() {
            return Err(OpenError::Options(problem));
        }
        let (phase, housekeeping) = (Mutex::new(Phase::Closed), housekeeping::Task::default());
        Ok(Arc::new(Self { options, phase, housekeeping }))
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store, if it is open.
    pub(crate) fn is_open(&self) -> Option<Arc<Inner>> {
        match &*self.phase() {
            Phase::Open(inner) => Some(Arc::clone(inner)),
            _ => None,
        }
    }

    /// Opens the store, or joins whoever does. `anew` says that a failure of a moment ago does not count.
    pub(crate) async fn open(self: &Arc<Self>, anew: bool) -> Outcome {
        let opening = {
            let mut phase = self.phase();
            match &*phase {
                Phase::Open(inner) => return Ok(Arc::clone(inner)),
                Phase::Opening(opening, _) => opening.clone(),
                Phase::Failed(at, error) if !anew && at.elapsed() < STANDS => {
                    return Err(error.clone());
                }
                Phase::Closed | Phase::Failed(..) => {
                    self.housekeeping.begin(self);
                    let before = match &*phase {
                        Phase::Failed(_, error) => Some(error.clone()),
                        _ => None,
                    };
                    let opening = self.begin();
                    *phase = Phase::Opening(opening.clone(), before);
                    opening
                }
            }
        };
        opening.await
    }

    fn begin(self: &Arc<Self>) -> Opening {
        let door = Arc::clone(self);
        let task = tokio::spawn(async move {
            let opened = Box::pin(Inner::open(&door.options)).await;
            let phase = match &opened {
                Ok(inner) => Phase::Open(Arc::clone(inner)),
                Err(error) => Phase::Failed(Instant::now(), error.clone()),
            };
            let before = std::mem::replace(&mut *door.phase(), phase);
            door.log(&opened, &before);
            opened
        });
        let done = task.map(|done| {
            let stopping = |error| OpenError::Unavailable(format!("the gateway stops: {error}"));
            done.unwrap_or_else(|error| Err(stopping(error)))
        });
        done.boxed().shared()
    }

    /// Says what came of it, unless it said the same before.
    fn log(&self, opened: &Outcome, before: &Phase) {
        let place = self.options.place();
        match (opened, before) {
            (Ok(inner), _) => {
                tracing::info!(reason = place, "bucket opened");
                for limitation in state::limitations(&inner.capabilities, &self.options) {
                    tracing::info!(reason = limitation, "bucket has a limitation");
                }
            }
            (Err(error), Phase::Opening(_, Some(last)))
                if last.to_string() == error.to_string() =>
            {
                tracing::debug!(%error, "bucket cannot be opened");
            }
            (Err(error), _) => tracing::warn!(%error, "bucket cannot be opened"),
        }
    }

    /// The store for a call of a client.
    pub(crate) async fn enter(self: &Arc<Self>) -> Result<Arc<Inner>, StoreError> {
        let unavailable = || StoreError::Unavailable(crate::remote::BUSY.to_owned());
        let opened = tokio::time::timeout(self.options.budget, self.open(false)).await;
        opened.map_err(|_| unavailable())?.map_err(|_| unavailable())
    }

    /// Asks nobody.
    pub(crate) fn state(&self) -> S3State {
        let mut state = S3State {
            available: false,
            reason: None,
            capabilities: None,
            place: self.options.place(),
            limitations: Vec::new(),
        };
        match &*self.phase() {
            Phase::Closed => state.reason = Some("not opened yet".to_owned()),
            Phase::Opening(_, None) => state.reason = Some("being opened".to_owned()),
            Phase::Opening(_, Some(error)) | Phase::Failed(_, error) => {
                state.reason = Some(error.to_string());
            }
            Phase::Open(inner) => {
                state.reason = inner.remote.suspended();
                state.available = state.reason.is_none();
                state.limitations = state::limitations(&inner.capabilities, &self.options);
                state.capabilities = Some(inner.capabilities.clone());
            }
        }
        state
    }
}

//! What a store does by itself: it opens again after a failed opening, tries a server that was left alone, and sweeps.
//!
//! One task of each store, from its first use until its last clone is dropped.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use crate::opening::Door;
use crate::sweep;

/// How often the task looks whether something is to be done.
const ROUND: Duration = Duration::from_secs(5);
/// Between two openings that fail, if the failure may pass and if only the operator can mend it.
const AGAIN: Duration = Duration::from_secs(15);
const AGAIN_IF_PERMANENT: Duration = Duration::from_secs(60);
/// From the opening to the first sweep, and between two sweeps; both become up to half as long again by chance, so
/// that gateways that share a bucket do not sweep together.
const FIRST_SWEEP: Duration = Duration::from_secs(15);
const SWEEPS: Duration = Duration::from_secs(6 * 60 * 60);

/// The task, if it was begun. Dropping it ends the task.
#[derive(Debug, Default)]
pub(crate) struct Task(Mutex<Option<AbortHandle>>);

impl Task {
    /// Begins it, once.
    pub(crate) fn begin(&self, door: &Arc<Door>) {
        let mut task = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if task.is_none() {
            *task = Some(tokio::spawn(run(Arc::downgrade(door))).abort_handle());
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let task = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task {
            task.abort();
        }
    }
}

async fn run(door: Weak<Door>) {
    let mut next_sweep = Instant::now() + varied(FIRST_SWEEP);
    let mut next_opening = Instant::now();
    loop {
        tokio::time::sleep(varied(ROUND)).await;
        let Some(door) = door.upgrade() else { return };
        let Some(store) = door.is_open() else {
            if Instant::now() >= next_opening {
                let failed = Box::pin(door.open(true)).await.err();
                let is_permanent = failed.is_some_and(|error| error.is_permanent());
                let pause = if is_permanent { AGAIN_IF_PERMANENT } else { AGAIN };
                next_opening = Instant::now() + pause;
            }
            continue;
        };
        // Without the task, a gateway that nobody asks because it is not ready would never become ready.
        drop(door);
        store.memory.free_idle();
        if store.remote.suspended().is_some() {
            let _ = store.remote.head_bucket().await;
        } else if Instant::now() >= next_sweep && !store.remote.options.read_only {
            next_sweep = Instant::now() + varied(SWEEPS);
            match Box::pin(sweep::sweep(&store)).await {
                Ok(swept) if swept == sweep::Swept::default() => {}
                Ok(sweep::Swept { uploads, claims }) => {
                    tracing::info!(uploads, claims, "abandoned things of killed gateways removed");
                }
                Err(error) => tracing::warn!(%error, "cannot sweep; it is tried again"),
            }
        }
    }
}

/// Up to half as long again.
fn varied(time: Duration) -> Duration {
    let mut random = [0];
    // Without randomness it is always the same.
    let _ = getrandom::fill(&mut random);
    time + time.mul_f64(f64::from(random[0]) / 512.0)
}

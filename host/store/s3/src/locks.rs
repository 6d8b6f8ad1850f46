//! Turns of the changes of one key, within this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Locks = HashMap<String, Arc<AsyncMutex<()>>>;

/// A lock for each key that is being changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyLocks(Arc<Mutex<Locks>>);

/// A key's turn. Dropping it ends the turn.
#[derive(Debug)]
pub(crate) struct Turn {
    locks: KeyLocks,
    object: String,
    held: Option<OwnedMutexGuard<()>>,
}

impl KeyLocks {
    fn locks(&self) -> MutexGuard<'_, Locks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a change of this object.
    pub(crate) async fn turn(&self, object: &str) -> Turn {
        let lock = Arc::clone(self.locks().entry(object.to_owned()).or_default());
        // Made before waiting, so that a caller that is dropped while it waits cleans up too.
        let mut turn = Turn { locks: self.clone(), object: object.to_owned(), held: None };
        turn.held = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut locks = self.locks.locks();
        // Whoever waits has a clone.
        if locks.get(&self.object).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.object);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn changes_of_a_key_take_turns_and_leave_nothing() {
        let locks = KeyLocks::default();
        let first = locks.turn("a").await;
        let other = locks.turn("b").await;
        let mut second = Box::pin(locks.turn("a"));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        let second = second.await;
        drop((second, other));
        assert!(locks.locks().is_empty());
    }
}

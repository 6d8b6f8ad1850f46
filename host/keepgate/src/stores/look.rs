//! One look at a disk at a time. A disk or a server that hangs keeps the thread that looks at it for as long as it
//! likes; everybody who asks meanwhile waits for the same answer, so that no more threads hang.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use keepgate_store::disk::StorageReport;

/// What a look found, or why the store is not available.
pub(super) type Found = Result<StorageReport, String>;

/// The looks at one store. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks(Arc<Mutex<Option<Look>>>);

/// A look, which may have its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Look(Arc<Answer>);

#[derive(Debug, Default)]
struct Answer {
    found: Mutex<Option<Found>>,
    there: Condvar,
}

impl Looks {
    /// Starts a look, or joins the one in progress.
    pub(super) fn begin(&self, look: impl FnOnce() -> Found + Send + 'static) -> Look {
        let mut last = lock(&self.0);
        if let Some(running) = last.as_ref().filter(|last| lock(&last.0.found).is_none()) {
            return running.clone();
        }
        let new = Look::default();
        *last = Some(new.clone());
        let answer = new.clone();
        let thread = std::thread::Builder::new().name("store-report".to_owned());
        if let Err(error) = thread.spawn(move || answer.set(look())) {
            new.set(Err(format!("cannot start a thread to look at it: {error}")));
        }
        new
    }
}

impl Look {
    fn set(&self, found: Found) {
        *lock(&self.0.found) = Some(found);
        self.0.there.notify_all();
    }

    /// The answer, if there is one by then.
    pub(super) fn wait(&self, until: Instant) -> Option<Found> {
        let left = until.saturating_duration_since(Instant::now());
        let found = lock(&self.0.found);
        let waited = self.0.there.wait_timeout_while(found, left, |found| found.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_disk_that_hangs_keeps_one_thread() {
        let (answers, answer) = mpsc::channel::<Found>();
        let answer = Arc::new(Mutex::new(answer));
        let looks = Looks::default();
        let number = Arc::new(AtomicUsize::new(0));
        let begin = || {
            let (number, answer) = (number.clone(), answer.clone());
            looks.begin(move || {
                number.fetch_add(1, Ordering::Relaxed);
                lock(&answer).recv().unwrap()
            })
        };
        let pending: Vec<_> = (0..50).map(|_| begin()).collect();
        assert_eq!(pending[0].wait(Instant::now()), None);
        answers.send(Err("gone".to_owned())).unwrap();
        let late = Instant::now() + Duration::from_secs(60);
        for look in &pending {
            assert_eq!(look.wait(late), Some(Err("gone".to_owned())));
        }
        assert_eq!(number.load(Ordering::Relaxed), 1);
        answers.send(Err("still gone".to_owned())).unwrap();
        assert_eq!(begin().wait(late), Some(Err("still gone".to_owned())));
        assert_eq!(number.load(Ordering::Relaxed), 2);
    }
}

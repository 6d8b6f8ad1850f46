//! Prints a progress notice for slow operations, so that nobody takes them for a hang.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use keepgate::output::note;

/// How long an operation may take before the notice is printed.
const DELAY: Duration = Duration::from_secs(2);

/// Prints a notice to standard error unless it is dropped within [`DELAY`].
pub(crate) struct ProgressNotice {
    /// Closed when this is dropped.
    _end: Sender<()>,
}

impl ProgressNotice {
    /// For compiling a component.
    pub(crate) fn while_compiling(file: &Path) -> Self {
        let (end, ended) = channel();
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let what = format!(
            "compiling {} ({}), which takes a while; the result is cached",
            file.display(),
            crate::files::size(size)
        );
        let print = move || {
            if ended.recv_timeout(DELAY) == Err(RecvTimeoutError::Timeout) {
                note!("{what}");
            }
        };
        // If no thread can be started, the notice is not worth an error.
        let _ = thread::Builder::new().spawn(print);
        Self { _end: end }
    }
}

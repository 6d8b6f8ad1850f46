//! A word where something takes long: who hears nothing thinks that it hangs.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::output::note;

/// So long nothing is said.
const QUIET: Duration = Duration::from_secs(2);

/// Says on standard error what is done, unless it is dropped soon.
pub(super) struct Patience {
    /// Closed at the end.
    _end: Sender<()>,
}

impl Patience {
    /// Of a component that is compiled.
    pub(super) fn while_compiling(file: &Path) -> Self {
        let (end, ended) = channel();
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let what = format!(
            "compiling {} ({}), which takes a while; the code is kept for the next time",
            file.display(),
            super::size(size)
        );
        let say = move || {
            if ended.recv_timeout(QUIET) == Err(RecvTimeoutError::Timeout) {
                note!("{what}");
            }
        };
        // Without a thread nothing is said.
        let _ = thread::Builder::new().spawn(say);
        Self { _end: end }
    }
}

//! How far it is: a line that is rewritten on a terminal, plain lines every ten seconds elsewhere. Both go to standard
//! error; results go to standard output.

use std::io::{self, IsTerminal as _, Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes and files, done and to do.
#[derive(Debug)]
pub(crate) struct Progress {
    state: Arc<State>,
    shown: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    what: &'static str,
    bytes: AtomicU64,
    files: AtomicU64,
    all_bytes: u64,
    all_files: u64,
    ends: AtomicBool,
}

impl Progress {
    /// Begins to show it.
    pub(crate) fn begin(what: &'static str, all_files: u64, all_bytes: u64) -> Self {
        let state = Arc::new(State {
            what,
            bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
            all_bytes,
            all_files,
            ends: AtomicBool::new(false),
        });
        let showing = Arc::clone(&state);
        let shown = (all_files > 0).then(|| thread::spawn(move || show(&showing)));
        Self { state, shown }
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.state.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_file(&self) {
        self.state.files.fetch_add(1, Ordering::Relaxed);
    }

    /// The same bytes, which count when they are read.
    pub(crate) fn follow<R: Read>(&self, reader: R) -> Followed<'_, R> {
        Followed { reader, progress: self }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.state.ends.store(true, Ordering::Relaxed);
        if let Some(shown) = self.shown.take() {
            shown.thread().unpark();
            drop(shown.join());
        }
    }
}

/// See [`Progress::follow`].
#[derive(Debug)]
pub(crate) struct Followed<'a, R> {
    reader: R,
    progress: &'a Progress,
}

impl<R: Read> Read for Followed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.progress.add_bytes(read as u64);
        Ok(read)
    }
}

fn show(state: &State) {
    let (begun, terminal) = (Instant::now(), io::stderr().is_terminal());
    let pause = if terminal { Duration::from_millis(250) } else { Duration::from_secs(10) };
    loop {
        thread::park_timeout(pause);
        let ends = state.ends.load(Ordering::Relaxed);
        let line = state.line(begun.elapsed());
        let mut output = io::stderr().lock();
        let written = match (terminal, ends) {
            (true, false) => write!(output, "\r\x1b[K{line}").and_then(|()| output.flush()),
            (true, true) => write!(output, "\r\x1b[K").and_then(|()| output.flush()),
            (false, false) => writeln!(output, "{line}"),
            (false, true) => Ok(()),
        };
        if ends || written.is_err() {
            break;
        }
    }
}

impl State {
    fn line(&self, took: Duration) -> String {
        let (bytes, files) =
            (self.bytes.load(Ordering::Relaxed), self.files.load(Ordering::Relaxed));
        let speed = bytes.checked_div(took.as_secs().max(1)).unwrap_or_default();
        let left =
            self.all_bytes.saturating_sub(bytes).checked_div(speed.max(1)).unwrap_or_default();
        format!(
            "{}: {files} of {} files, {} of {}, {}/s, {} left",
            self.what,
            self.all_files,
            size(bytes),
            size(self.all_bytes),
            size(speed),
            duration(left)
        )
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let step = (0..units.len()).rev().find(|step| bytes >> (10 * step) > 0).unwrap_or(0);
    let unit = units.get(step).unwrap_or(&"B");
    let tenths = (u128::from(bytes) * 10) >> (10 * step);
    if step == 0 { format!("{bytes} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        assert_eq!(
            (duration(59), duration(61), duration(7260)),
            ("59 s".into(), "1 min".into(), "2 h 1 min".into())
        );
    }
}

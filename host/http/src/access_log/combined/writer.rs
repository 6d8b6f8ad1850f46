//! The queue of lines, and the thread that drains it. The queue is one buffer that is swapped for an
//! empty one when it is written, so that many lines share a write and a request waits only for a copy.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

/// Bytes of lines that may be queued.
const CAPACITY: usize = 4 * 1024 * 1024;

/// This many bytes are written without waiting for more.
const BATCH: usize = 64 * 1024;

/// How long the first line waits for more.
const GATHER: Duration = Duration::from_millis(50);

/// Both ends of the queue.
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Signals the thread that there is something to do.
    work: Condvar,
    /// Signals callers that the thread has done something.
    done: Condvar,
    /// In total.
    dropped: AtomicU64,
    capacity: usize,
}

#[derive(Default)]
struct State {
    queued: Vec<u8>,
    /// Lines queued in total, and lines that the thread has written or lost.
    queued_lines: u64,
    settled: u64,
    /// Lines dropped since the thread last looked.
    overflowed: u64,
    /// The file to write to from now on.
    next: Option<File>,
    /// Whether a caller waits: write at once.
    urgent: bool,
    closing: bool,
    ended: bool,
}

impl Writer {
    /// Starts the thread. The file's `name` is for messages.
    pub(super) fn start(file: File, name: &str) -> io::Result<Self> {
        Self::with_capacity(file, name, CAPACITY)
    }

    fn with_capacity(file: File, name: &str, capacity: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            dropped: AtomicU64::new(0),
            capacity,
        });
        let output = Output { file, name: name.to_owned(), is_torn: false, is_failing: false };
        let thread = {
            let shared = shared.clone();
            thread::Builder::new()
                .name("access-log".to_owned())
                .spawn(move || shared.run(output))?
        };
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Queues one line, or drops it.
    pub(super) fn put(&self, line: &str) {
        let mut state = self.shared.lock();
        if state.queued.len() + line.len() > self.shared.capacity {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            state.overflowed += 1;
            let is_first = state.overflowed == 1;
            drop(state);
            if is_first {
                tracing::warn!("access log cannot keep up; dropping lines");
            }
            return;
        }
        let before = state.queued.len();
        state.queued.extend_from_slice(line.as_bytes());
        state.queued_lines += 1;
        let wakes = before == 0 || (before < BATCH && state.queued.len() >= BATCH);
        drop(state);
        if wakes {
            self.shared.work.notify_one();
        }
    }

    /// Switches to another file.
    pub(super) fn replace(&self, file: File) {
        self.shared.lock().next = Some(file);
        self.shared.work.notify_one();
    }

    /// Waits until the thread has handled everything queued so far.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let mut state = self.shared.lock();
        let queued = state.queued_lines;
        state.urgent = true;
        self.shared.work.notify_one();
        self.wait(state, limit, |state| state.settled >= queued && state.next.is_none())
    }

    /// Ends the thread once the queue is drained; returns false, and leaves the thread behind, if
    /// that takes longer than `limit`.
    pub(super) fn close(&mut self, limit: Duration) -> bool {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.work.notify_one();
        let ended = self.wait(state, limit, |state| state.ended);
        if ended && let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        ended
    }

    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    fn wait(
        &self,
        state: MutexGuard<'_, State>,
        limit: Duration,
        reached: impl Fn(&State) -> bool,
    ) -> bool {
        let waited = self
            .shared
            .done
            .wait_timeout_while(state, limit, |state| !state.ended && !reached(state));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        reached(&state)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread.
    fn run(&self, mut output: Output) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.work();
            if let Some(file) = state.next.take() {
                output.change(file);
            }
            std::mem::swap(&mut batch, &mut state.queued);
            let queued = state.queued_lines;
            let overflowed = std::mem::take(&mut state.overflowed);
            let is_last = state.closing;
            state.urgent = false;
            drop(state);
            if overflowed > 0 {
                tracing::warn!(lines = overflowed, "access log lines dropped");
            }
            let lost = output.write(&batch);
            self.dropped.fetch_add(lost, Ordering::Relaxed);
            batch.clear();
            // Frees the memory of a burst.
            batch.shrink_to(2 * BATCH);
            let mut state = self.lock();
            state.settled = queued;
            state.ended = is_last && state.queued.is_empty();
            let ended = state.ended;
            drop(state);
            self.done.notify_all();
            if ended {
                return;
            }
        }
    }

    /// Waits for something to do, and then briefly for more.
    fn work(&self) -> MutexGuard<'_, State> {
        let urgent = |state: &State| state.urgent || state.closing || state.next.is_some();
        let begin = |state: &mut State| state.queued.is_empty() && !urgent(state);
        let state = self.work.wait_while(self.lock(), begin);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let gather = |state: &mut State| state.queued.len() < BATCH && !urgent(state);
        let gathered = self.work.wait_timeout_while(state, GATHER, gather);
        gathered.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The file that is open.
struct Output {
    file: File,
    name: String,
    /// Whether the last write broke off within a line.
    is_torn: bool,
    /// Whether the last write failed, which has been logged.
    is_failing: bool,
}

impl Output {
    fn change(&mut self, file: File) {
        self.file = file;
        self.is_torn = false;
    }

    /// Writes whole lines; returns how many were lost.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        let begun = Instant::now();
        let mut left = lines;
        let result = self.mend().and_then(|()| self.write_all(&mut left));
        let Err(error) = result else {
            if std::mem::take(&mut self.is_failing) {
                tracing::info!(file = self.name, "writing the access log again");
            }
            return 0;
        };
        let written = lines.len() - left.len();
        let whole = lines.get(..written).unwrap_or_default();
        self.is_torn |= whole.last().is_some_and(|byte| *byte != b'\n');
        let lost = left.iter().filter(|byte| **byte == b'\n').count();
        if !std::mem::replace(&mut self.is_failing, true) {
            let seconds = begun.elapsed().as_secs_f64();
            tracing::error!(file = self.name, %error, lost, seconds, "cannot write the access log");
        }
        u64::try_from(lost).unwrap_or(u64::MAX)
    }

    /// Ends a partial line.
    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.write_all(&mut b"\n".as_slice())?;
            self.is_torn = false;
        }
        Ok(())
    }

    fn write_all(&mut self, left: &mut &[u8]) -> io::Result<()> {
        while !left.is_empty() {
            match self.file.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => *left = left.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process may have made the pipe of standard output non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], None)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::path::Path;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn append(path: &Path) -> File {
        File::options().append(true).create(true).open(path).unwrap()
    }

    fn pipe() -> (File, File) {
        let (reader, writer) = io::pipe().unwrap();
        let file = |end| File::from(std::os::fd::OwnedFd::from(end));
        (std::os::fd::OwnedFd::from(reader).into(), file(writer))
    }

    #[test]
    fn lines_that_do_not_fit_are_dropped_whole_and_counted() {
        let (reader, pipe) = pipe();
        let mut writer = Writer::with_capacity(pipe, "pipe", 4000).unwrap();
        let line = |number: u64| format!("{number:0>499}\n");
        // Nothing reads: the pipe fills up, then the queue. The thread may drain the queue once more
        // after a line did not fit, hence the flush that cannot succeed.
        let mut put = 0;
        while writer.dropped() < 10 || writer.flush(Duration::from_millis(10)) {
            writer.put(&line(put));
            put += 1;
        }
        assert!(!writer.close(Duration::from_millis(10)));
        // Reading again: all lines that fitted arrive in order.
        let read = thread::spawn(move || {
            let lines = BufReader::new(reader).lines();
            lines.map(|line| line.unwrap().parse().unwrap()).collect::<Vec<u64>>()
        });
        assert!(writer.close(LONG));
        let dropped = writer.dropped();
        drop(writer);
        let read = read.join().unwrap();
        assert_eq!(read.len() as u64 + dropped, put);
        assert!(read.is_sorted() && read.first() == Some(&0));
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let writer = Writer::start(append(Path::new("/dev/full")), "full").unwrap();
        writer.put("one\n");
        writer.put("two\n");
        assert!(writer.flush(LONG));
        assert_eq!(writer.dropped(), 2);
        writer.replace(append(&path));
        writer.put("three\n");
        assert!(writer.flush(LONG));
        assert_eq!(writer.dropped(), 2);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_partial_line_is_ended_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "torn").unwrap();
        let file = append(&path);
        let mut output = Output { file, name: String::new(), is_torn: true, is_failing: true };
        assert_eq!(output.write(b"one\ntwo\n"), 0);
        assert_eq!(output.write(b"three\n"), 0);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "torn\none\ntwo\nthree\n");
        assert!(!output.is_failing);
    }

    #[test]
    fn a_non_blocking_pipe_is_polled() {
        let (mut reader, pipe) = pipe();
        let flags = rustix::fs::fcntl_getfl(&pipe).unwrap() | rustix::fs::OFlags::NONBLOCK;
        rustix::fs::fcntl_setfl(&pipe, flags).unwrap();
        let writer = Writer::start(pipe, "pipe").unwrap();
        let line = format!("{}\n", "x".repeat(99_999));
        for _ in 0..10 {
            writer.put(&line);
        }
        let read = thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes.len())
        });
        assert!(writer.flush(LONG));
        assert_eq!(writer.dropped(), 0);
        drop({
            let mut writer = writer;
            assert!(writer.close(LONG));
            writer
        });
        assert_eq!(read.join().unwrap().unwrap(), 1_000_000);
    }

    #[test]
    fn lines_are_written_without_a_flush() {
        let (reader, pipe) = pipe();
        let writer = Writer::start(pipe, "pipe").unwrap();
        let mut lines = BufReader::new(reader).lines();
        for number in 0..3 {
            writer.put(&format!("{number}\n"));
            assert_eq!(lines.next().unwrap().unwrap(), number.to_string());
        }
    }
}

//! A server's process: started, observed, and ended by its own id.

use std::io::{self, BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use regex::Regex;
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to become ready.
const STARTING: Duration = Duration::from_secs(60);

/// What a process has printed on standard error so far.
#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    closed: bool,
}

/// A running process. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    said: Arc<(Mutex<Said>, Condvar)>,
}

fn lock(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let said = Arc::new((Mutex::new(Said::default()), Condvar::new()));
        if let Some(mut stdout) = child.stdout.take() {
            // Reads all output, so that the process never blocks on it.
            thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
        }
        if let Some(stderr) = child.stderr.take() {
            let said = said.clone();
            thread::spawn(move || listen(stderr, &said));
        }
        Ok(Self { child, said })
    }

    /// Everything that it has printed on standard error.
    pub(super) fn said(&self) -> String {
        lock(&self.said.0).lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Waits for a line that matches a pattern, and returns its first group. Fails with everything that was
    /// printed if the process ends, or if a minute passes.
    pub(super) fn wait_for(&self, pattern: &Regex) -> Result<String, String> {
        let (said, changed) = &*self.said;
        let end = Instant::now() + STARTING;
        let (mut said, mut seen) = (lock(said), 0);
        loop {
            let new = said.lines.iter().skip(seen);
            let found = new.filter_map(|line| pattern.captures(line)).next();
            if let Some(group) = found.and_then(|found| found.get(1)) {
                return Ok(group.as_str().to_owned());
            }
            seen = said.lines.len();
            let left = end.saturating_duration_since(Instant::now());
            if said.closed || left.is_zero() {
                return Err(said.lines.join("\n"));
            }
            let waited = changed.wait_timeout(said, left);
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until it has ended; `None` if it still runs after `limit`.
    pub(super) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let (said, changed) = &*self.said;
        let waited = changed.wait_timeout_while(lock(said), limit, |said| !said.closed);
        let is_closed = waited.unwrap_or_else(PoisonError::into_inner).0.closed;
        is_closed.then(|| self.child.wait().ok()).flatten()
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(pipe: impl Read, said: &(Mutex<Said>, Condvar)) {
    let (state, changed) = said;
    let (mut pipe, mut line) = (BufReader::new(pipe), Vec::new());
    while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
        lock(state).lines.push(text);
        changed.notify_all();
        line.clear();
    }
    lock(state).closed = true;
    changed.notify_all();
}

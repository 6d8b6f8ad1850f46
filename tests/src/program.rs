//! A process with its output, killed by its id. A test that waits for a line of output is woken by
//! the line itself and never sleeps for a guessed time.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::tools;

/// Longer than anything takes that works at all.
pub const LONG: Duration = Duration::from_secs(60);

/// What a process has written to one of its outputs so far.
#[derive(Clone, Debug)]
pub struct Lines {
    said: Arc<(Mutex<Said>, Condvar)>,
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    closed: bool,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let said = Arc::new((Mutex::new(Said::default()), Condvar::new()));
        let lines = Self { said: said.clone() };
        thread::spawn(move || {
            let (state, changed) = &*said;
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                state.lock().unwrap().lines.push(text);
                changed.notify_all();
                line.clear();
            }
            state.lock().unwrap().closed = true;
            changed.notify_all();
        });
        lines
    }

    /// How many lines there are: `wait_for` can start here.
    pub fn count(&self) -> usize {
        self.said.0.lock().unwrap().lines.len()
    }

    /// All lines.
    pub fn text(&self) -> String {
        self.since(0)
    }

    /// All lines after the first `first` ones.
    pub fn since(&self, first: usize) -> String {
        let said = self.said.0.lock().unwrap();
        said.lines[first..].iter().map(|line| format!("{line}\n")).collect()
    }

    /// Waits for a line, number `first` or later, that contains all of these texts, and returns its
    /// number and the line. Panics if there is none.
    #[track_caller]
    pub fn wait_for(&self, first: usize, texts: &[&str]) -> (usize, String) {
        self.wait_for_either(first, &[texts])
    }

    /// The same for a line that contains all texts of one of these lists.
    #[track_caller]
    pub fn wait_for_either(&self, first: usize, lists: &[&[&str]]) -> (usize, String) {
        self.find(first, lists)
            .unwrap_or_else(|all| panic!("no line with {lists:?} after line {first}:\n{all}"))
    }

    /// The same; returns all output if there is no such line.
    pub fn find(&self, first: usize, lists: &[&[&str]]) -> Result<(usize, String), String> {
        let has_all = |line: &str, texts: &[&str]| texts.iter().all(|text| line.contains(text));
        let fits = |line: &String| lists.iter().any(|texts| has_all(line, texts));
        let end = Instant::now() + LONG;
        let (state, changed) = &*self.said;
        let mut said = state.lock().unwrap();
        let mut seen = first;
        loop {
            let mut new = said.lines.iter().enumerate().skip(seen);
            if let Some((number, line)) = new.find(|(_, line)| fits(line)) {
                return Ok((number, line.clone()));
            }
            seen = said.lines.len().max(seen);
            let left = end.saturating_duration_since(Instant::now());
            if said.closed || left.is_zero() {
                return Err(said.lines.join("\n"));
            }
            said = changed.wait_timeout(said, left).unwrap().0;
        }
    }

    /// Waits until the process closes this output. False if it does not.
    fn wait_for_end(&self, limit: Duration) -> bool {
        let (state, changed) = &*self.said;
        let said = state.lock().unwrap();
        let (said, _) = changed.wait_timeout_while(said, limit, |said| !said.closed).unwrap();
        said.closed
    }
}

/// A process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    /// Its standard output.
    pub stdout: Lines,
    /// Its standard error.
    pub stderr: Lines,
}

impl Program {
    /// Starts a command.
    pub fn start(command: Command) -> Self {
        Self::start_with(command, b"")
    }

    /// Starts a command, with these bytes as its standard input.
    pub fn start_with(mut command: Command, input: &[u8]) -> Self {
        let started = Self::try_start_with(&mut command, input);
        started.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// The same; fails if there is no such program.
    pub fn try_start_with(command: &mut Command, input: &[u8]) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // The input is small and fits into the pipe. A process may leave it unread.
        let _ = child.stdin.take().unwrap().write_all(input);
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Ok(Self { child, stdout, stderr })
    }

    /// Starts `keepgate` with these arguments. By default it only finds the workspace's plugins.
    pub fn keepgate<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Self {
        Self::start(keepgate(arguments))
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it, as a power cut would, and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have exited already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Waits until it has exited. Panics, and kills it, if that takes longer than `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.try_wait(limit).unwrap_or_else(|| {
            let said = format!("{}{}", self.stdout.text(), self.stderr.text());
            panic!("still running after {limit:?}; output:\n{said}")
        })
    }

    /// The same; `None` if it is still running.
    pub fn try_wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let ended = self.stdout.wait_for_end(limit) && self.stderr.wait_for_end(limit);
        ended.then(|| self.child.wait().unwrap())
    }

    /// A line of `/proc/PID/status` in bytes: `VmRSS`, its current memory, or `VmHWM`, the peak.
    pub fn memory(&self, line: &str) -> u64 {
        let file = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(&file).unwrap();
        let rest = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
        let kilobytes = rest.unwrap().split_whitespace().next().unwrap();
        kilobytes.parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let said = self.stderr.text();
            let from = said.lines().count().saturating_sub(60);
            let last: String = said.lines().skip(from).map(|line| format!("{line}\n")).collect();
            tools::report(&format!("the program's last lines on standard error:\n{last}"));
        }
    }
}

/// The command `keepgate` with these arguments.
pub fn keepgate<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(tools::keepgate());
    command
        .args(arguments)
        .env("KEEPGATE_PLUGIN_DIR", tools::plugin_dir())
        .env("RUST_BACKTRACE", "0")
        .env_remove("KEEPGATE_LOG");
    command
}

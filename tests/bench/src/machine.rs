//! The machine: its properties and its CPU usage.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// The properties that readers need to judge the figures.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// The file system of the folder that was written to.
    pub(crate) file_system: String,
}

impl Machine {
    /// Collects the properties of this machine.
    pub(crate) fn look(folder: &Path) -> Result<Self> {
        let processor = field("/proc/cpuinfo", "model name").unwrap_or_default();
        let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
        let kib: f64 = memory.trim_end_matches(" kB").parse().unwrap_or(0.0);
        Ok(Self {
            processor,
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: kib / 1024.0 / 1024.0,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system: file_system(folder)?,
        })
    }
}

/// The value of the first line with this name.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

/// Type and options of the mount that a folder is on.
fn file_system(folder: &Path) -> Result<String> {
    let folder = folder.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut best = (0, "unknown".to_owned());
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(point), Some(kind), Some(options)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let depth = Path::new(point).components().count();
        // Of several mounts at one point, the last one is visible.
        if folder.starts_with(point) && depth >= best.0 {
            best = (depth, format!("{kind} ({options})"));
        }
    }
    Ok(best.1)
}

/// Resident memory of a process in KiB.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let file = format!("/proc/{pid}/status");
    let value = field(&file, "VmRSS").with_context(|| format!("{file} has no VmRSS"))?;
    let kib = value.trim_end_matches(" kB").trim();
    kib.parse().with_context(|| format!("{file}: {value}"))
}

/// Seconds of CPU time used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    server: f64,
    client: f64,
    /// All processes, on all cores.
    all: f64,
}

/// CPU usage during some time.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Share {
    /// Seconds of CPU time of the server.
    pub(crate) server: f64,
    /// Seconds of CPU time of this program.
    pub(crate) client: f64,
    /// CPU time of others, as a share of all cores.
    pub(crate) foreign: f64,
}

impl Usage {
    /// The current values. Without a process of the server, this program is the server, too, and counts as it.
    pub(crate) fn now(server: Option<u32>) -> Result<Self> {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let own = process("/proc/self/stat")? / ticks;
        let (server, client) = match server {
            Some(pid) => (process(&format!("/proc/{pid}/stat"))? / ticks, own),
            None => (own, 0.0),
        };
        let stat = fs::read_to_string("/proc/stat")?;
        let all = stat.lines().next().unwrap_or_default();
        // user nice system (idle iowait) irq softirq steal; guests are part of user.
        let words = all.split_whitespace().skip(1).take(8).enumerate();
        let busy = words.filter(|(index, _)| !matches!(index, 3 | 4));
        let all: f64 = busy.filter_map(|(_, word)| word.parse::<f64>().ok()).sum();
        Ok(Self { server, client, all: all / ticks })
    }

    /// The usage since then, `seconds` ago.
    pub(crate) fn since(&self, before: &Self, seconds: f64) -> Share {
        let server = self.server - before.server;
        let client = self.client - before.client;
        let foreign = (self.all - before.all - server - client).max(0.0);
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        Share { server, client, foreign: foreign / (seconds * cores) }
    }
}

/// `utime` and `stime` of a process, in ticks. The name may contain anything, so fields are counted from its
/// end.
fn process(file: &str) -> Result<f64> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    let (_, rest) = text.rsplit_once(')').with_context(|| format!("{file}: {text}"))?;
    let times = rest.split_whitespace().skip(11).take(2);
    Ok(times.filter_map(|word| word.parse::<f64>().ok()).sum())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn work_is_seen() {
        let before = Usage::now(Some(std::process::id())).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(200) {
            std::hint::black_box(begun);
        }
        let after = Usage::now(Some(std::process::id())).unwrap();
        let share = after.since(&before, 0.2);
        assert!(share.client > 0.02, "{share:?}");
        assert!((share.client - share.server).abs() <= 0.03, "{share:?}");
    }

    #[test]
    fn the_machine_is_named() {
        let machine = Machine::look(Path::new("/proc")).unwrap();
        assert!(machine.file_system.starts_with("proc"), "{machine:?}");
        assert!(machine.cores > 0 && !machine.kernel.is_empty(), "{machine:?}");
        assert!(resident(std::process::id()).unwrap() > 100.0);
    }
}

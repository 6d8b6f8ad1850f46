//! `--cpu-profile`: where the process spends its time, sampled from start to end, in the format
//! that `go tool pprof` reads.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use crate::output::note;
use anyhow::{Context as _, Result};
use pprof::ProfilerGuard;
use pprof::protos::Message as _;

/// Samples a second, as Go takes them.
const FREQUENCY: i32 = 100;

/// A profile being taken.
pub(super) struct Profile {
    /// Opened at the start, so that a path that does not work is told then.
    file: File,
    guard: ProfilerGuard<'static>,
}

impl Profile {
    pub(super) fn start(path: &Path) -> Result<Self> {
        let file = File::create(path)
            .with_context(|| format!("cannot write the profile {}", path.display()))?;
        let guard = pprof::ProfilerGuardBuilder::default()
            .frequency(FREQUENCY)
            // Unwinding from within these can wait for a lock that they hold.
            .blocklist(&["libc", "libgcc", "pthread", "vdso"])
            .build()
            .context("cannot start profiling")?;
        note!("CPU profiling enabled");
        Ok(Self { file, guard })
    }

    pub(super) fn finish(mut self) -> Result<()> {
        let report = self.guard.report().build().context("cannot build the profile")?;
        let profile = report.pprof().context("cannot build the profile")?.encode_to_vec();
        self.file.write_all(&profile).context("cannot write the profile")?;
        note!("Stopped CPU profiling");
        Ok(())
    }
}

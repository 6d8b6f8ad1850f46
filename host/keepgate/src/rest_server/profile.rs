//! `--cpu-profile`: samples where the process spends its time, and writes a profile for `go tool pprof`.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use crate::output::note;
use anyhow::{Context as _, Result};
use pprof::ProfilerGuard;
use pprof::protos::Message as _;

/// Samples per second, as in Go.
const FREQUENCY: i32 = 100;

/// A running profile.
pub(super) struct Profile {
    /// Opened at the start, so that an invalid path is reported early.
    file: File,
    guard: ProfilerGuard<'static>,
}

impl Profile {
    pub(super) fn start(path: &Path) -> Result<Self> {
        let file = File::create(path)
            .with_context(|| format!("cannot write the profile {}", path.display()))?;
        let guard = pprof::ProfilerGuardBuilder::default()
            .frequency(FREQUENCY)
            // Unwinding inside these can deadlock on a lock that they hold.
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

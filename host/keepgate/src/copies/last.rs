//! How the last run of a copy went: one small file in the copy's folder, so that status and metrics are
//! right after a restart. It is replaced atomically. If it is lost, the next run writes it again.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use keepgate_copy::{CopyError, Report};
use serde::{Deserialize, Serialize};

const FILE: &str = "last-run.json";

/// How the last run of a copy went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastRun {
    /// When it ended, in seconds since 1970, like all times here.
    pub(crate) ended: u64,
    /// Whether the copy had everything then.
    pub(crate) succeeded: bool,
    /// When a run last succeeded.
    pub(crate) last_success: Option<u64>,
    /// How many runs have failed since the copy exists.
    pub(crate) failures: u64,
    /// Why it failed.
    pub(crate) message: String,
    /// What it did and found.
    pub(crate) report: Report,
}

impl LastRun {
    /// What is known; `None` before the first run. Blocks.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        let text = std::fs::read(folder.join(FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The run after this one.
    pub(super) fn next(
        before: Option<Self>,
        report: Report,
        outcome: &Result<(), CopyError>,
    ) -> Self {
        let before = before.unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let succeeded = outcome.is_ok() && report.is_complete();
        let concerns = report.concerns();
        let error = outcome.as_ref().err().map(ToString::to_string);
        Self {
            ended: now,
            succeeded,
            last_success: if succeeded { Some(now) } else { before.last_success },
            failures: before.failures + u64::from(!succeeded),
            message: error.into_iter().chain(concerns).collect::<Vec<_>>().join("; "),
            report,
        }
    }

    /// Durable when it returns. Blocks.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).context("cannot write the state of a copy")?;
        crate::users::write_durably(&folder.join(FILE), &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_success_outlives_failures() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(LastRun::read(folder.path()), None);
        let good = LastRun::next(None, Report::default(), &Ok(()));
        assert!(good.succeeded && good.last_success == Some(good.ended));
        good.write(folder.path()).unwrap();
        let read = LastRun::read(folder.path());
        assert_eq!(read.as_ref(), Some(&good));
        let bad = LastRun::next(read, Report::default(), &Err(CopyError::TooManyFailures(100)));
        assert!(!bad.succeeded && bad.message.starts_with("stopped after 100"));
        assert_eq!((bad.last_success, bad.failures), (good.last_success, 1));
        std::fs::write(folder.path().join(FILE), "damaged").unwrap();
        assert_eq!(LastRun::read(folder.path()), None);
    }
}

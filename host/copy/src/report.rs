//! [`Report`]: what a run did and found.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Examples that a [`Tally`] keeps.
pub const MAX_EXAMPLES: usize = 20;

/// How many, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// The first ones, at most [`MAX_EXAMPLES`].
    pub examples: Vec<Example>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// A blob's key, or a folder.
    pub key: String,
    /// Why it is here; empty if there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Tally {
    /// Counts one more.
    pub(crate) fn add(&mut self, key: &str, reason: impl Into<String>) {
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(Example { key: key.to_owned(), reason: reason.into() });
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Blobs and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// How many.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.blobs += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What a run did and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Copied by this run.
    pub copied: Amount,
    /// Found in the copy, with the same name and size.
    pub present: Amount,
    /// Found to be new by this run, but not copied: what the copy is behind.
    pub behind: Amount,
    /// The copy has another content under the name.
    pub conflicts: Tally,
    /// The source's blob is not what its name says, or cannot be read.
    pub damaged: Tally,
    /// Could not be copied; the next run tries again.
    pub failed: Tally,
    /// The target's policy forbids to store them.
    pub refused: Tally,
    /// Were listed and gone when they were to be copied.
    pub vanished: Tally,
    /// Repositories that were not copied to the end, and why.
    pub held_back: Tally,
    /// In the copy, but no longer in the source.
    pub missing: Tally,
    /// Removed from the copy.
    pub removed: Tally,
    /// Due to be removed, but the target does not allow it, or not yet: it is append-only, or its
    /// objects are locked.
    pub not_removed: Tally,
    /// Repositories and folders from which nothing was removed although removing is on, and why.
    pub kept: Tally,
    /// Whether it was stopped early.
    pub stopped: bool,
    /// How long it took.
    #[serde(with = "seconds")]
    pub duration: Duration,
}

impl Report {
    /// Whether the copy has everything that the source had, whole, and nothing is in doubt. Blobs
    /// that vanished were deleted, and what was deleted is not part of the copy's promise.
    pub fn is_complete(&self) -> bool {
        !self.stopped
            && self.conflicts.is_empty()
            && self.damaged.is_empty()
            && self.failed.is_empty()
            && self.refused.is_empty()
            && self.held_back.is_empty()
            && self.kept.is_empty()
    }

    /// Drops examples until each tally has at most this many.
    pub fn keep_examples(&mut self, most: usize) {
        let all = [
            &mut self.conflicts,
            &mut self.damaged,
            &mut self.failed,
            &mut self.refused,
            &mut self.vanished,
            &mut self.held_back,
            &mut self.missing,
            &mut self.removed,
            &mut self.not_removed,
            &mut self.kept,
        ];
        for tally in all {
            tally.examples.truncate(most);
        }
    }

    /// What a person has to look at, one line for each kind.
    pub fn concerns(&self) -> Vec<String> {
        let of = |tally: &Tally, what: &str| {
            let first = tally.examples.first()?;
            let reason = if first.reason.is_empty() { "" } else { ": " };
            let more = match tally.count {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            // A key may hold a line break.
            let key = first.key.escape_debug();
            Some(format!("{what} {key}{reason}{}{more}", first.reason))
        };
        let concerns = [
            of(&self.damaged, "damaged in the source:"),
            of(&self.conflicts, "another content in the copy:"),
            of(&self.failed, "cannot copy"),
            of(&self.refused, "refused by the target:"),
            of(&self.held_back, "not copied to the end:"),
            of(&self.kept, "nothing was removed from"),
        ];
        let stopped = self.stopped.then(|| "stopped before the end".to_owned());
        stopped.into_iter().chain(concerns.into_iter().flatten()).collect()
    }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_all_and_keeps_few() {
        let mut report = Report::default();
        assert!(report.is_complete() && report.concerns().is_empty());
        for at in 0..1000 {
            report.damaged.add(&format!("data/{at}"), "wrong");
        }
        assert_eq!((report.damaged.count, report.damaged.examples.len()), (1000, MAX_EXAMPLES));
        assert!(!report.is_complete());
        assert_eq!(
            report.concerns(),
            ["damaged in the source: data/0: wrong (and 999 more)"].map(str::to_owned)
        );
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}

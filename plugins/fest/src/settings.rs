//! The mount's settings. If you add a key here, add it to the README.

use std::time::Duration;

use keepgate_sdk::HumanDuration;
use keepgate_sdk::retention::Policy;
use serde::Deserialize;

const DAY: Duration = Duration::from_secs(86_400);

/// The mount's settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether a file counts as available to a user only after that user has uploaded it once.
    pub(crate) strict_sharing: bool,
    /// How long a file is kept that no manifest names.
    grace: Option<HumanDuration>,
    /// How long what has come of a file is kept.
    partial: Option<HumanDuration>,
    /// Which versions of a manifest stay; without it, all of them.
    pub(crate) keep: Option<Policy>,
    /// Whether the bytes of a file are compared with its hash while it is downloaded.
    verify_downloads: Option<bool>,
    /// Whether users may remove versions of their manifests.
    pub(crate) deletes: bool,
    max_manifest: Option<u64>,
    max_file: Option<u64>,
}

impl Settings {
    /// Says what is wrong, and what to write instead.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.max_manifest() > 1 << 30 {
            return Err("max_manifest: at most 1 GiB, because it is read into memory".to_owned());
        }
        Ok(())
    }

    pub(crate) fn verify_downloads(&self) -> bool {
        self.verify_downloads.unwrap_or(true)
    }

    pub(crate) fn grace(&self) -> Duration {
        self.grace.map_or(7 * DAY, |HumanDuration(grace)| grace)
    }

    pub(crate) fn partial(&self) -> Duration {
        self.partial.map_or(7 * DAY, |HumanDuration(partial)| partial)
    }

    /// The longest manifest in bytes.
    pub(crate) fn max_manifest(&self) -> u64 {
        self.max_manifest.unwrap_or(64 << 20)
    }

    /// The longest file in bytes.
    pub(crate) fn max_file(&self) -> u64 {
        self.max_file.unwrap_or(1 << 40)
    }
}

//! The mount's settings and their checks. If you add a key here, add it to the README.

use std::time::Duration;

use keepgate_sdk::HumanDuration;
use keepgate_sdk::retention::Policy;
use serde::{Deserialize, Serialize};

/// How many backups are kept by default.
const ROTATE: u32 = 14;
const WAIT: Duration = Duration::from_secs(60);
/// A job that has nothing to wait for begins within this time.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LEVEL: u8 = 6;

/// The mount's settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many backups are kept.
    rotate: Option<i64>,
    keep: Option<Policy>,
    pub(crate) format: Format,
    /// The level of gzip.
    level: Option<u8>,
    /// How long a POST waits for its turn.
    wait: Option<HumanDuration>,
}

/// The format of stored backups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Format {
    /// A compressed tar archive with the snapshot as its one member.
    #[default]
    #[serde(rename = "tar.gz")]
    TarGz,
    /// The snapshot itself, compressed.
    #[serde(rename = "db.gz")]
    DbGz,
}

impl Format {
    /// The suffix of names.
    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::TarGz => ".tar.gz",
            Self::DbGz => ".db.gz",
        }
    }
}

impl Settings {
    /// Says what is wrong, and what to write instead.
    pub(crate) fn check(&self) -> Result<(), String> {
        match (self.rotate, &self.keep) {
            (Some(_), Some(_)) => {
                let same = "`rotate = 14` is the same as `keep = { last = 14 }`";
                return Err(format!("rotate and keep: write one of them; {same}"));
            }
            (Some(count), None) if u32::try_from(count).ok().is_none_or(|count| count == 0) => {
                let advice = "write 1 or more, which includes the newest one";
                return Err(format!("rotate: cannot keep {count} backups; {advice}"));
            }
            _ => {}
        }
        if self.level() > 9 {
            let advice = "write 1 (fastest) to 9 (smallest), or 0 to not compress";
            return Err(format!("level: gzip has no level {}; {advice}", self.level()));
        }
        if self.wait() < SHORTEST_WAIT {
            let why = "even a backup that has nothing to wait for takes a moment to begin";
            return Err(format!("wait: write 1s or more; {why}"));
        }
        Ok(())
    }

    pub(crate) fn policy(&self) -> Policy {
        let rotate = self.rotate.and_then(|count| u32::try_from(count).ok());
        self.keep.clone().unwrap_or_else(|| Policy::last(rotate.unwrap_or(ROTATE)))
    }

    /// The level of gzip, 0 to 9.
    pub(crate) fn level(&self) -> u8 {
        self.level.unwrap_or(LEVEL)
    }

    pub(crate) fn wait(&self) -> Duration {
        self.wait.map_or(WAIT, |HumanDuration(wait)| wait)
    }
}

#[cfg(test)]
mod tests {
    use keepgate_sdk::testing::check_settings;
    use serde_json::json;

    use super::*;
    use crate::Etcd;

    fn parse(settings: &serde_json::Value) -> Settings {
        check_settings::<Etcd>(settings).unwrap();
        serde_json::from_value(settings.clone()).unwrap()
    }

    #[test]
    fn without_settings_the_newest_fourteen_stay() {
        let settings = parse(&json!({}));
        assert_eq!(settings.policy(), Policy::last(14));
        assert_eq!((settings.level(), settings.wait()), (6, Duration::from_secs(60)));
        assert_eq!(settings.format, Format::TarGz);
        assert_eq!(parse(&json!({"rotate": 3})).policy(), Policy::last(3));
    }

    #[test]
    fn everything_can_be_set() {
        let settings = parse(&json!({
            "keep": {"last": 1, "within": "7d", "daily": 2, "weekly": 3, "monthly": 4, "yearly": 5},
            "format": "db.gz", "level": 9, "wait": "1m30s",
        }));
        let within = Some(Duration::from_secs(7 * 86_400));
        let policy = Policy { last: 1, within, daily: 2, weekly: 3, monthly: 4, yearly: 5 };
        assert_eq!(settings.policy(), policy);
        assert_eq!((settings.level(), settings.wait()), (9, Duration::from_secs(90)));
        assert_eq!(settings.format, Format::DbGz);
    }

    #[test]
    fn errors_name_the_key() {
        for (settings, words) in [
            (json!({"rotate": 0}), "rotate: cannot keep 0 "),
            (json!({"rotate": -3}), "rotate: cannot keep -3 "),
            (json!({"rotate": 5_000_000_000_u64}), "rotate: "),
            (json!({"rotate": 3, "keep": {"last": 2}}), "rotate and keep"),
            (json!({"keep": {}}), "keep: no rule"),
            (json!({"keep": {"daily": 0}}), "keep: no rule"),
            (json!({"keep": {"within": "0s"}}), "keep.within: \"0s\""),
            (json!({"keep": {"hourly": 3}}), "unknown field `hourly`"),
            (json!({"format": "zip"}), "`tar.gz` or `db.gz`"),
            (json!({"level": 10}), "level: gzip has no level 10"),
            (json!({"wait": "soon"}), "wait: \"soon\""),
            (json!({"wait": "5"}), "wait: \"5\""),
            (json!({"wait": "10ms"}), "wait: write 1s or more"),
            (json!({"backup-dir": "/etcd-backup"}), "unknown field `backup-dir`"),
        ] {
            let said = check_settings::<Etcd>(&settings).unwrap_err();
            assert!(said.contains(words), "{settings}: {said}");
        }
    }
}

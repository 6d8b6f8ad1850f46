//! The mount's settings, and what is wrong with them. A key that is added here is added to the
//! README as well.

use std::time::Duration;

use serde::Deserialize;

use crate::retain::Policy;

/// How many backups stay where nothing else is said.
const ROTATE: u32 = 14;
const WAIT: Duration = Duration::from_secs(60);
/// A job that has nothing to wait for begins within this time.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LEVEL: u8 = 6;

/// The mount's settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// So many backups stay, the newest.
    rotate: Option<i64>,
    keep: Option<Keep>,
    pub(crate) format: Format,
    /// Of gzip.
    level: Option<u8>,
    /// How long a POST waits for its turn.
    wait: Option<String>,
}

/// What a backup is stored as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Format {
    /// A compressed tar archive with the snapshot as its one member.
    #[default]
    #[serde(rename = "tar.gz")]
    TarGz,
    /// The snapshot itself, compressed.
    #[serde(rename = "db.gz")]
    DbGz,
}

/// Which backups stay: those that one of these rules keeps.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Keep {
    last: u32,
    within: Option<String>,
    daily: u32,
    weekly: u32,
    monthly: u32,
    yearly: u32,
}

impl Format {
    pub(crate) const ALL: [Self; 2] = [Self::TarGz, Self::DbGz];

    /// What names end with.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::TarGz => ".tar.gz",
            Self::DbGz => ".db.gz",
        }
    }

    /// As in the settings.
    pub(crate) fn name(self) -> &'static str {
        self.extension().trim_start_matches('.')
    }
}

impl Settings {
    /// Says what is wrong, and what to write instead.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.policy()?;
        self.level()?;
        self.wait().map(|_| ())
    }

    pub(crate) fn policy(&self) -> Result<Policy, String> {
        match (self.rotate, &self.keep) {
            (Some(_), Some(_)) => Err("rotate and keep: write one of them; `rotate = 14` is the \
                                       same as `keep = { last = 14 }`"
                .to_owned()),
            (None, Some(keep)) => keep.policy(),
            (None, None) => Ok(Policy { last: ROTATE, ..Policy::default() }),
            (Some(count), None) => match u32::try_from(count) {
                Ok(last) if last > 0 => Ok(Policy { last, ..Policy::default() }),
                _ => Err(format!(
                    "rotate: {count} backups cannot be kept; write 1 or more, which counts the \
                     newest one too"
                )),
            },
        }
    }

    /// gzip's, 0 to 9.
    pub(crate) fn level(&self) -> Result<u8, String> {
        match self.level.unwrap_or(LEVEL) {
            level @ 0..=9 => Ok(level),
            level => Err(format!(
                "level: {level} is none of gzip's; write 1 (fastest) to 9 (smallest), or 0 to not \
                 compress"
            )),
        }
    }

    pub(crate) fn wait(&self) -> Result<Duration, String> {
        let wait = self.wait.as_deref().map_or(Ok(WAIT), |text| duration("wait", text))?;
        if wait < SHORTEST_WAIT {
            return Err("wait: write 1s or more; a backup that nothing hinders takes a moment to \
                        begin, too"
                .to_owned());
        }
        Ok(wait)
    }
}

impl Keep {
    fn policy(&self) -> Result<Policy, String> {
        let within =
            self.within.as_deref().map(|text| duration("keep.within", text)).transpose()?;
        let Self { last, daily, weekly, monthly, yearly, .. } = *self;
        let policy = Policy { last, within, daily, weekly, monthly, yearly };
        if policy == Policy::default() {
            return Err(
                "keep: no rule keeps a backup; write `keep = { last = 14 }`, say".to_owned()
            );
        }
        Ok(policy)
    }
}

/// Takes Go's form, `1m30s`, and the gateway's, `7days`, which has all of it.
fn duration(key: &str, text: &str) -> Result<Duration, String> {
    let read = humantime::parse_duration(text).map_err(|error| error.to_string());
    let read = read.and_then(|read| {
        if read.is_zero() { Err("it must be longer than nothing".to_owned()) } else { Ok(read) }
    });
    read.map_err(|error| format!("{key}: {text:?} is no time: {error}; write `7d` or `1m30s`, say"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(settings: serde_json::Value) -> Result<Settings, String> {
        let settings: Settings = serde_json::from_value(settings).map_err(|e| e.to_string())?;
        settings.check().map(|()| settings)
    }

    #[test]
    fn without_settings_the_newest_fourteen_stay() {
        let settings = parse(json!({})).unwrap();
        assert_eq!(settings.policy().unwrap(), Policy { last: 14, ..Policy::default() });
        assert_eq!((settings.level(), settings.wait()), (Ok(6), Ok(Duration::from_secs(60))));
        assert_eq!(settings.format, Format::TarGz);
    }

    #[test]
    fn everything_can_be_said() {
        let settings = parse(json!({
            "keep": {"last": 1, "within": "7d", "daily": 2, "weekly": 3, "monthly": 4, "yearly": 5},
            "format": "db.gz", "level": 9, "wait": "1m30s",
        }));
        let settings = settings.unwrap();
        let within = Some(Duration::from_secs(7 * 86_400));
        let policy = Policy { last: 1, within, daily: 2, weekly: 3, monthly: 4, yearly: 5 };
        assert_eq!(settings.policy().unwrap(), policy);
        assert_eq!((settings.level(), settings.wait()), (Ok(9), Ok(Duration::from_secs(90))));
        assert_eq!(settings.format, Format::DbGz);
    }

    #[test]
    fn times_are_go_s_or_the_gateway_s() {
        let wait = |text: &str| parse(json!({ "wait": text })).unwrap().wait().unwrap();
        for (text, seconds) in
            [("60s", 60.0), ("1m30s", 90.0), ("1h 30m", 5400.0), ("1.5s", 1.5), ("2min", 120.0)]
        {
            assert!((wait(text).as_secs_f64() - seconds).abs() < f64::EPSILON, "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_by_key() {
        for (settings, words) in [
            (json!({"rotate": 0}), "rotate: 0 "),
            (json!({"rotate": -3}), "rotate: -3 "),
            (json!({"rotate": 5_000_000_000_u64}), "rotate: "),
            (json!({"rotate": 3, "keep": {"last": 2}}), "rotate and keep"),
            (json!({"keep": {}}), "keep: no rule"),
            (json!({"keep": {"daily": 0}}), "keep: no rule"),
            (json!({"keep": {"within": "0s"}}), "keep.within: \"0s\""),
            (json!({"keep": {"hourly": 3}}), "unknown field `hourly`"),
            (json!({"format": "zip"}), "`tar.gz` or `db.gz`"),
            (json!({"level": 10}), "level: 10 "),
            (json!({"wait": "soon"}), "wait: \"soon\""),
            (json!({"wait": "5"}), "wait: \"5\""),
            (json!({"wait": "10ms"}), "wait: write 1s or more"),
            (json!({"backup-dir": "/etcd-backup"}), "unknown field `backup-dir`"),
        ] {
            let said = parse(settings.clone()).unwrap_err();
            assert!(said.contains(words), "{settings}: {said}");
        }
    }
}

//! Durations as people write them in settings.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A duration in settings, in Go's format (`1m30s`) or that of the gateway's configuration (`7days`). It is
/// longer than zero.
///
/// ```
/// use std::time::Duration;
///
/// use keepgate_sdk::HumanDuration;
///
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     wait: HumanDuration,
/// }
///
/// let settings: Settings = serde_json::from_str(r#"{"wait": "1m30s"}"#)?;
/// assert_eq!(settings.wait.0, Duration::from_secs(90));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &dyn fmt::Display| {
            format!("{text:?} is not a duration: {why}; write it as in `7d` or `1m30s`")
        };
        match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => Err(wrong(&"it must be longer than zero")),
            Ok(duration) => Ok(Self(duration)),
            Err(error) => Err(wrong(&error)),
        }
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        for (text, seconds) in [
            ("60s", 60.0),
            ("1m30s", 90.0),
            ("1h 30m", 5400.0),
            ("1.5s", 1.5),
            ("2min", 120.0),
            ("7d", 604_800.0),
        ] {
            let HumanDuration(duration) = text.parse().unwrap();
            assert!((duration.as_secs_f64() - seconds).abs() < f64::EPSILON, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_an_example() {
        for text in ["", "soon", "5", "0s", "-1s", "1 fortnight"] {
            let error = text.parse::<HumanDuration>().unwrap_err();
            assert!(error.starts_with(&format!("{text:?} is not a duration: ")), "{error}");
            assert!(error.ends_with("`7d` or `1m30s`"), "{error}");
        }
    }
}

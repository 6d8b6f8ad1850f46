//! Human-readable sizes and durations: `64MiB`, `2TB`, `10s`, `1h 30m`.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// The maximum duration. Longer ones could overflow when they are added to a time.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Bytes: a number, or a string with a unit (`kB` is 1000, `KiB` is 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// A duration with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) Duration);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// Like bytesize's own, with an example in its errors.
struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"64MiB\" or \"2TB\", or a number of bytes")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
        Ok(Size(bytes))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
        let invalid = |_| E::invalid_value(Unexpected::Signed(bytes), &self);
        u64::try_from(bytes).map(Size).map_err(invalid)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        let invalid = |_| E::invalid_value(Unexpected::Str(text), &self);
        text.parse().map(|size: ByteSize| Size(size.as_u64())).map_err(invalid)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let interval: Duration = humantime_serde::deserialize(deserializer)?;
        if interval.is_zero() {
            return Err(de::Error::custom("must be longer than zero"));
        }
        if interval > LONGEST {
            return Err(de::Error::custom("must be shorter than 100 years"));
        }
        Ok(Self(interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Quota {
        quota: Size,
    }

    #[test]
    fn sizes_are_numbers_or_have_units() {
        for (text, bytes) in
            [("4096", 4096), ("\"64MiB\"", 64 << 20), ("\"2 kB\"", 2000), ("\"7\"", 7)]
        {
            let read: Quota = toml::from_str(&format!("quota = {text}")).unwrap();
            assert_eq!(read.quota, Size(bytes), "{text}");
        }
    }

    #[test]
    fn an_error_shows_what_a_size_looks_like() {
        for text in ["\"lots\"", "-1", "\"\"", "true", "1.5"] {
            let error =
                toml::from_str::<Quota>(&format!("quota = {text}")).unwrap_err().to_string();
            assert!(error.contains("expected a size such as \"64MiB\""), "{text}: {error}");
        }
    }
}

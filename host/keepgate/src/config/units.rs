//! Human-readable sizes and durations: `64MiB`, `2TB`, `10s`, `1h 30m`.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, de};

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
        Ok(Self(ByteSize::deserialize(deserializer)?.as_u64()))
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

//! Has a name that forges a line in the log.

use keepgate_sdk::{Description, Failure, Plugin, Reply, Request};
use serde::de::IgnoredAny;

/// The plugin.
#[derive(Debug)]
pub struct Liar;

keepgate_sdk::export!(Liar);

impl Plugin for Liar {
    type Settings = IgnoredAny;

    fn describe() -> Description {
        Description::new("liar\n1970-01-01T00:00:00Z ERROR forged", "1.0.0")
    }

    fn handle(_: Request, _: IgnoredAny) -> Result<Reply, Failure> {
        Err(Failure::NotFound)
    }
}

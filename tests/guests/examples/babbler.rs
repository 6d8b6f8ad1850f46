//! Describes itself with far too many stores.

use keepgate_sdk::{Description, Failure, Plugin, Reply, Request};
use serde::de::IgnoredAny;

/// The plugin.
#[derive(Debug)]
pub struct Babbler;

keepgate_sdk::export!(Babbler);

impl Plugin for Babbler {
    type Settings = IgnoredAny;

    fn describe() -> Description {
        let described = Description::new("babbler", "1.0.0");
        (0..10_000).fold(described, |described, n| described.store(&format!("store-{n}")))
    }

    fn handle(_: Request, _: IgnoredAny) -> Result<Reply, Failure> {
        Err(Failure::NotFound)
    }
}

//! Never returns from `describe`.

use keepgate_sdk::{Description, Failure, Plugin, Reply, Request};
use serde::de::IgnoredAny;

/// The plugin.
#[derive(Debug)]
pub struct Mute;

keepgate_sdk::export!(Mute);

impl Plugin for Mute {
    type Settings = IgnoredAny;

    fn describe() -> Description {
        loop {
            std::hint::black_box(());
        }
    }

    fn handle(_: Request, _: IgnoredAny) -> Result<Reply, Failure> {
        Err(Failure::NotFound)
    }
}

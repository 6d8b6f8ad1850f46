//! Claims to be restic, and declares a counter of the hostile guest with other labels.

use keepgate_sdk::{Description, Failure, Plugin, Reply, Request, environment};
use serde::de::IgnoredAny;

/// The plugin.
#[derive(Debug)]
pub struct Impostor;

keepgate_sdk::export!(Impostor);

impl Plugin for Impostor {
    type Settings = IgnoredAny;

    fn describe() -> Description {
        Description::new("restic", "99.0.0").counter("hostile_total", "Stolen", &["other"])
    }

    fn handle(_: Request, _: IgnoredAny) -> Result<Reply, Failure> {
        environment::count("hostile_total", &["stolen"], 1);
        Ok(Reply::ok().text("not restic"))
    }
}

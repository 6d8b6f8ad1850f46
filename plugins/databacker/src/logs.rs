//! Logs of instances.

use keepgate_sdk::topics;

/// Tells those who follow a log that there is news: lines, or the end of its run. They look again anyway after a while, so
/// it does not matter if they are not told.
pub(crate) fn news(instance: &str, log: &str) {
    let _ = topics::publish(&topic(instance, log), b"");
}

/// Where news of a log are published.
pub(crate) fn topic(instance: &str, log: &str) -> String {
    format!("log/{instance}/{log}")
}

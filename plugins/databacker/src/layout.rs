//! Where everything is: the keys of records and of blobs. Nothing else in the plugin writes a key.
//!
//! | record | holds |
//! | --- | --- |
//! | `i/INSTANCE` | an instance with its keys ([`crate::instance`]) |
//! | `k/SPKI` | the instance that has this public key; in the same commit as the instance |
//! | `n/INSTANCE` | when the instance and its keys were last seen |
//! | `c/INSTANCE/REVISION` | a revision of its configuration: who wrote it, and where it is |
//! | `t/KID` | a key that signs access tokens, sealed |
//! | `j/INSTANCE/HASH` | an assertion that was used, until it expires |
//! | `s/INSTANCE/TRACE/HASH` | spans that came together |
//! | `r/INSTANCE/TIME/RUN` | a run, newest first |
//! | `R/RUN` | the key of a run |
//! | `T/INSTANCE/TRACE` | the run of a trace |
//! | `g/INSTANCE/LOG` | a log: its size, its pieces |
//! | `G/LOG` | the instance of a log |
//! | `b/INSTANCE/HASH` | a body of log lines that was received, for a day |
//! | `q/INSTANCE` | what is expected of an instance by its schedule |
//! | `w/WEBHOOK` | a webhook, its secret sealed |
//! | `v/TIME/DELIVERY` | a delivery of a webhook |
//! | `a/TIME/…` | what an administrator did |
//!
//! | blob of `main` | holds |
//! | --- | --- |
//! | `configs/INSTANCE/REVISION-RANDOM` | a revision of a configuration, sealed |
//! | `logs/INSTANCE/LOG/PIECE` | log lines that came together |
//!
//! Times in keys are descending: seconds before the end of 64 bits, so that scans begin with the newest.

use keepgate_sdk::Timestamp;

/// The store.
pub(crate) const STORE: &str = "main";

pub(crate) fn instance(id: &str) -> String {
    format!("i/{id}")
}

pub(crate) const INSTANCES: &str = "i/";

pub(crate) fn key(spki_sha256: &str) -> String {
    format!("k/{spki_sha256}")
}

pub(crate) fn activity(instance: &str) -> String {
    format!("n/{instance}")
}

pub(crate) fn configs(instance: &str) -> String {
    format!("c/{instance}/")
}

/// With as many digits as there are, so that the order of keys is that of numbers.
pub(crate) fn config(instance: &str, revision: u64) -> String {
    format!("c/{instance}/{revision:020}")
}

pub(crate) const CONFIG_BLOBS: &str = "configs";

pub(crate) fn config_blob(instance: &str, name: &str) -> String {
    format!("{CONFIG_BLOBS}/{instance}/{name}")
}

pub(crate) const SIGNING_KEYS: &str = "t/";

pub(crate) fn signing_key(kid: &str) -> String {
    format!("t/{kid}")
}

pub(crate) fn assertion(instance: &str, hash: &str) -> String {
    format!("j/{instance}/{hash}")
}

pub(crate) const ASSERTIONS: &str = "j/";

pub(crate) fn audit(time: Timestamp, id: &str) -> String {
    format!("a/{}/{id}", descending(time))
}

pub(crate) const AUDIT: &str = "a/";

/// A time as a segment of a key, the newest first.
pub(crate) fn descending(time: Timestamp) -> String {
    format!("{:016x}", u64::MAX - time.as_secs())
}

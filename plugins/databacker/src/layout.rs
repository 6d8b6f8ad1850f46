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
//! | `l/INSTANCE` | its newest run |
//! | `q/INSTANCE` | what is expected of an instance by its schedule |
//! | `w/WEBHOOK` | a webhook, its secret sealed |
//! | `o/TIME/EVENT` | an event whose deliveries are not made yet, the oldest first |
//! | `v/WEBHOOK/TIME/EVENT` | the delivery of an event to a webhook |
//! | `p/WEBHOOK/TIME/EVENT` | the key of a delivery that is to be tried at this time, the next one first |
//! | `a/TIME/…` | what an administrator did |
//!
//! | blob of `main` | holds |
//! | --- | --- |
//! | `configs/INSTANCE/REVISION-RANDOM` | a revision of a configuration, sealed |
//! | `logs/INSTANCE/LOG/PIECE` | log lines that came together |
//!
//! Times in keys are descending, unless it says otherwise: seconds before the end of 64 bits, so that scans begin with the
//! newest. Ascending ones, and those of what is listed in the order of its times, are nanoseconds.

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
    format!("a/{}/{id}", newest_first(time))
}

pub(crate) const AUDIT: &str = "a/";

pub(crate) fn last_run(instance: &str) -> String {
    format!("l/{instance}")
}

pub(crate) fn expected(instance: &str) -> String {
    format!("q/{instance}")
}

pub(crate) const EXPECTED: &str = "q/";

pub(crate) fn webhook(id: &str) -> String {
    format!("w/{id}")
}

pub(crate) const WEBHOOKS: &str = "w/";

pub(crate) fn outbox(time: Timestamp, event: &str) -> String {
    format!("o/{}/{event}", ascending(time))
}

pub(crate) const OUTBOX: &str = "o/";

pub(crate) fn delivery(webhook: &str, time: Timestamp, event: &str) -> String {
    format!("v/{webhook}/{}/{event}", newest_first(time))
}

pub(crate) fn deliveries(webhook: &str) -> String {
    format!("v/{webhook}/")
}

pub(crate) const DELIVERIES: &str = "v/";

pub(crate) fn pending(webhook: &str, time: Timestamp, event: &str) -> String {
    format!("p/{webhook}/{}/{event}", ascending(time))
}

pub(crate) fn pending_of(webhook: &str) -> String {
    format!("p/{webhook}/")
}

pub(crate) const PENDING: &str = "p/";

/// When a delivery is to be tried, by the key of its record below [`PENDING`].
pub(crate) fn pending_time(key: &str) -> Option<Timestamp> {
    u64::from_str_radix(key.split('/').nth(2)?, 16).ok().map(Timestamp)
}

/// A time as a segment of a key, the newest first also within a second.
fn newest_first(time: Timestamp) -> String {
    format!("{:016x}", u64::MAX - time.0)
}

/// A time as a segment of a key, the oldest first.
fn ascending(time: Timestamp) -> String {
    format!("{:016x}", time.0)
}

/// A time as a segment of a key, the newest first.
pub(crate) fn descending(time: Timestamp) -> String {
    format!("{:016x}", u64::MAX - time.as_secs())
}

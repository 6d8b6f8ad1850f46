//! Where everything is: the keys of records and of blobs. Nothing else in the plugin writes a key.
//!
//! | record | holds |
//! | --- | --- |
//! | `i/INSTANCE` | an instance with its keys ([`crate::instance`]) |
//! | `x/INSTANCE` | an instance that was removed, whose runs and logs are still kept |
//! | `k/SPKI` | the instance that has this public key; in the same commit as the instance |
//! | `n/INSTANCE` | when the instance and its keys were last seen |
//! | `c/INSTANCE/REVISION` | a revision of its configuration: who wrote it, and where it is |
//! | `t/KID` | a key that signs access tokens, sealed |
//! | `j/INSTANCE/HASH` | an assertion that was used, until it expires |
//! | `s/INSTANCE/TRACE/HASH` | spans that came together |
//! | `sx/TIME/INSTANCE/TRACE` | when the first spans of a trace came |
//! | `r/INSTANCE/TIME/RUN` | a run, newest first |
//! | `R/RUN`, `R/TRACE` | the key of a run, by its own id and by that of its trace |
//! | `T/INSTANCE/TRACE` | the run of a trace |
//! | `l/INSTANCE` | the newest run of an instance |
//! | `g/INSTANCE/TIME/LOG` | a log: its size, its pieces; newest first |
//! | `G/LOG` | the key of a log |
//! | `gp/INSTANCE/LOG/PIECE` | a piece of a log: where its lines are, and how many |
//! | `gu/INSTANCE` | how much the logs of an instance hold, and what was dropped |
//! | `gd/INSTANCE/LOG` | a log that is being removed |
//! | `b/DAY/INSTANCE/HASH` | a body of log lines that was received, for a day |
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
//! | `logs/INSTANCE/LOG/PIECE-HASH` | log lines that came together |
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

pub(crate) fn removed_instance(id: &str) -> String {
    format!("x/{id}")
}

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

/// The spans of a trace.
pub(crate) fn spans(instance: &str, trace: &str) -> String {
    format!("s/{instance}/{trace}/")
}

pub(crate) fn received_trace(time: Timestamp, instance: &str, trace: &str) -> String {
    format!("sx/{}/{instance}/{trace}", descending(time))
}

pub(crate) const RECEIVED_TRACES: &str = "sx/";

pub(crate) fn trace(instance: &str, trace: &str) -> String {
    format!("T/{instance}/{trace}")
}

pub(crate) const RUNS: &str = "r/";

/// The runs of an instance.
pub(crate) fn runs(instance: &str) -> String {
    format!("{RUNS}{instance}/")
}

pub(crate) fn run(instance: &str, start: Timestamp, run: &str) -> String {
    format!("{RUNS}{instance}/{}/{run}", newest_first(start))
}

/// By the id of a run or of its trace.
pub(crate) fn run_index(id: &str) -> String {
    format!("R/{id}")
}

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
pub(crate) fn newest_first(time: Timestamp) -> String {
    format!("{:016x}", u64::MAX - time.0)
}

/// A time as a segment of a key, the oldest first.
fn ascending(time: Timestamp) -> String {
    format!("{:016x}", time.0)
}

pub(crate) const LOGS: &str = "g/";

/// The logs of an instance.
pub(crate) fn logs(instance: &str) -> String {
    format!("{LOGS}{instance}/")
}

pub(crate) fn log(instance: &str, created: Timestamp, log: &str) -> String {
    format!("{LOGS}{instance}/{}/{log}", descending(created))
}

pub(crate) fn log_index(log: &str) -> String {
    format!("G/{log}")
}

/// The pieces of a log.
pub(crate) fn pieces(instance: &str, log: &str) -> String {
    format!("gp/{instance}/{log}/")
}

pub(crate) fn piece(instance: &str, log: &str, number: u64) -> String {
    format!("gp/{instance}/{log}/{number:010}")
}

pub(crate) fn log_usage(instance: &str) -> String {
    format!("gu/{instance}")
}

pub(crate) const LEAVING_LOGS: &str = "gd/";

pub(crate) fn leaving_log(instance: &str, log: &str) -> String {
    format!("{LEAVING_LOGS}{instance}/{log}")
}

/// The folder of a log's blobs.
pub(crate) fn log_blobs(instance: &str, log: &str) -> String {
    format!("logs/{instance}/{log}")
}

pub(crate) fn log_blob(instance: &str, log: &str, number: u64, hash: &str) -> String {
    format!("logs/{instance}/{log}/{number:010}-{hash}")
}

/// The days since 1970.
pub(crate) fn received_log(day: u64, instance: &str, hash: &str) -> String {
    format!("{RECEIVED_LOGS}{day:08}/{instance}/{hash}")
}

pub(crate) const RECEIVED_LOGS: &str = "b/";

/// A time as a segment of a key, the newest first.
pub(crate) fn descending(time: Timestamp) -> String {
    format!("{:016x}", u64::MAX - time.as_secs())
}

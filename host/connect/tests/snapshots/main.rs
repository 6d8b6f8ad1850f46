//! Snapshots of real members, if etcd is installed, and of a fake one that misbehaves on demand.
//! `member` and `fake` are the servers; the other files are the cases.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy allows them in test functions only, not in what these functions share"
)]

mod broken;
mod fake;
mod faults;
mod login;
mod member;
mod quorum;
mod reading;
mod tls;
mod unreachable;

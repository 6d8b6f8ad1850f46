//! What the end-to-end tests share: the real `keepgate` program started and stopped, a client
//! that sees what goes over the wire, generated data. The tests themselves are in `tests/e2e`.
//!
//! `cargo xtask test` builds what they run and says where it is, by environment variables; see
//! [`tools`].
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`gateway`] | a configuration in a folder of its own, and the gateway that serves it |
//! | [`program`] | a process with its output, ended by its own id |
//! | [`client`] | where a server is: TCP, TLS, a Unix socket |
//! | [`connection`] | HTTP/1.1 by hand |
//! | [`conformance`] | the cases of restic's REST backend; the engine is `keepgate-harness` |
//! | [`data`] | bytes that follow from a seed |
//! | [`tree`] | folders to back up, and to compare |
//! | [`restic`] | the restic client |
//! | [`signing`] | keys and signatures of minisign's |
//! | [`etcd`] | etcd members, and a gate before them |
//! | [`fault`] | full disks, failing system calls, and other things that go wrong |
//! | [`component`] | variants of a component: same behaviour, another digest; broken ones |
//! | [`tools`] | where things are, what is skipped, figures |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this crate is tests: a failed expectation ends one, with its place"
)]

pub mod client;
pub mod component;
pub mod conformance;
pub mod connection;
pub mod data;
pub mod etcd;
pub mod fault;
pub mod gateway;
pub mod program;
pub mod restic;
pub mod signing;
pub mod tools;
pub mod tree;

//! The contract's host side: what a plugin may ask for, one file for each interface.
//!
//! An import that waits is an ordinary async function: the guest is suspended meanwhile, holds no
//! thread, and its CPU clock stands still (see `cpu`).

pub(crate) mod blobs;
pub(crate) mod environment;
pub(crate) mod etcd;
pub(crate) mod http;
pub(crate) mod jobs;
pub(crate) mod pipes;
pub(crate) mod types;

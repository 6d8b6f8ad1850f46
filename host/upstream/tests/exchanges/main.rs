//! Upstreams against real sockets: servers that answer, are silent, cut at a byte, and send what is not HTTP; over TCP,
//! TLS, Unix sockets, HTTP/1.1 and 2.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod addresses;
mod answers;
mod bodies;
mod limits;
mod resumed;
mod server;
mod tls;

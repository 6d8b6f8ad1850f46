//! The real server on loopback, with native handlers instead of plugins. Each file tests one aspect;
//! `support` has the server, the handlers and the clients.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy allows them in test functions only, not in what these functions share"
)]

mod abuse;
mod access;
mod base;
mod bearer;
mod client_certificates;
mod cors;
mod departed;
mod handed_over;
mod heads;
mod http2;
mod limits;
mod metrics_page;
mod operations;
mod operators_jobs;
mod operators_log;
mod proxy_header;
mod rate_limits;
mod refusal_forms;
mod replies;
mod support;
mod uploads;

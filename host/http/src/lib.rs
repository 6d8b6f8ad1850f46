//! The HTTP server: listeners, TLS, routing, responses. The only crate that names axum, hyper and
//! rustls.
//!
//! It knows mounts only as [`Handler`]s, which the runtime implements and tests replace; it knows
//! neither WebAssembly nor configuration files nor disks. Start at [`Gateway`], the path of every
//! request, and [`Server`], which owns sockets and connections.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`access_log`] | one entry per request, and a file in Apache's combined format |
//! | [`admin`] | liveness, readiness, metrics, status and jobs for operators |
//! | [`gateway`] | the path of a request, from its head to the last byte of the response |
//! | [`listen`] | addresses and sockets |
//! | [`metrics`] | counters and timers |
//! | [`offline`] | paths and refusals without a connection, for tools that call plugins |
//! | [`recording`] | exchanges as files, to be replayed |
//! | [`server`] | a listener with its connections, from bind to graceful shutdown |
//! | [`shutdown`] | graceful and immediate shutdown |
//! | [`site`] | the routing table, swapped as a whole |
//! | [`tls`] | certificate and key, and their replacement while serving |
//! | `connection` | the state of a connection, and when it has been silent for too long |
//! | `peer`, `public_url`, `timeouts`, `request_id` | plain values that the other modules share |
//! | `proxies` | whose word on a client's address is taken |
//! | `refusal`, `reason_phrase` | failures as responses |
//! | `request_body`, `response_body` | bodies in both directions |
//! | `request_record` | what is known about a request until it ends |
//! | `target` | the path and query of a request, decoded |
//! | `transport` | one type for TCP, Unix sockets and TLS on either |
//!
//! Invariants: who a client is, is decided by `keepgate-auth` before a handler is called; which status
//! a failure has, by `keepgate-core`; and no header of a proxy is trusted unless an operator said so.

pub mod access_log;
pub mod admin;
mod connection;
pub mod gateway;
pub mod listen;
pub mod metrics;
pub mod offline;
mod peer;
mod proxies;
mod public_url;
mod reason_phrase;
pub mod recording;
mod refusal;
mod request_body;
mod request_id;
mod request_record;
mod response_body;
pub mod server;
pub mod shutdown;
pub mod site;
mod target;
mod timeouts;
pub mod tls;
mod transport;

pub use access_log::{AccessLog, AccessLogEntry, CombinedLog, LogError, LogTarget};
pub use admin::{Admin, JobsPage, JobsQuery, OperatorClient, OperatorError, Refusal};
pub use connection::{Connection, Exchange};
pub use gateway::{
    Cors, CorsError, CountedRequests, Gateway, RateLimitBy, RateLimitError, RateLimitOptions,
    RateLimits,
};
pub use keepgate_core::Handler;
pub use listen::{Address, AddressError, BindError, HandedOverError, LocalAddress};
pub use metrics::{Metrics, MetricsPage};
pub use peer::Peer;
pub use proxies::{ClientAddress, Proxies};
pub use public_url::{PublicUrl, PublicUrlError};
pub use recording::{RecordError, RecordLimits, Recorder};
pub use response_body::ResponseBody;
pub use server::{Application, ListenerConfig, Server};
pub use shutdown::Shutdown;
pub use site::{Site, SiteError, SiteMount, is_mount_path};
pub use timeouts::Timeouts;
pub use tls::{Tls, TlsError, TlsFiles};

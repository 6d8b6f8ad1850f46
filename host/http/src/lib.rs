//! The way in: listeners, TLS, authentication, routing, replies. The only crate that names axum,
//! hyper and rustls.
//!
//! It knows mounts only as [`Handler`]s, which the wiring brings; it does not know
//! WebAssembly, configuration files or disks. Start at [`Gateway`], the one path of a request,
//! and [`Server`], which owns sockets and connections.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`access`] | who may come in to a mount |
//! | [`admin`] | liveness, readiness, metrics, status and jobs for operators |
//! | [`combined_log`] | a log of requests in a file, as Apache writes it |
//! | [`htpasswd`] | users and password hashes in a file |
//! | [`listen`] | addresses and sockets |
//! | [`metrics`] | what is counted and timed |
//! | [`offline`] | paths and refusals without a connection, for tools that call plugins |
//! | [`recording`] | exchanges kept as files, to be replayed |
//! | [`server`] | a listener with its connections, from bind to graceful shutdown |
//! | [`service`] | the one path of a request, from its head to the last byte of the reply |
//! | [`shutdown`] | asking servers to end |
//! | [`site`] | the table of mounts, swapped as a whole |
//! | [`tls`] | certificate and key, and their replacement while serving |
//! | `connection` | what is known of a connection, and when it has been silent for too long |
//! | `reply` | bodies on their way to a client |
//! | `status` | the one place that turns a failure into a status and a text |
//! | `stream` | one type for TCP, Unix sockets and TLS on either |
//! | `target` | the path and query of a request, decoded |
//! | `upload` | bodies on their way from a client |

pub mod access;
pub mod admin;
pub mod combined_log;
mod connection;
pub mod htpasswd;
pub mod listen;
pub mod metrics;
pub mod offline;
pub mod recording;
mod reply;
pub mod server;
pub mod service;
pub mod shutdown;
pub mod site;
mod status;
mod stream;
mod target;
pub mod tls;
mod upload;

pub use access::{Access, Method, ProxyHeader, ProxyHeaderError};
pub use admin::{Admin, JobsPage, JobsQuery, OperatorClient, OperatorError, Refusal};
pub use combined_log::{CombinedLog, LogError, LogTarget};
pub use connection::{Connection, Exchange, Peer};
pub use htpasswd::Htpasswd;
pub use ipnet::IpNet;
pub use keepgate_core::Handler;
pub use listen::{Address, BindError, HandedOverError, LocalAddress};
pub use metrics::{Metrics, MetricsPage};
pub use recording::{RecordError, RecordLimits, Recorder};
pub use reply::ReplyBody;
pub use server::{Application, ListenerConfig, Server, Timeouts};
pub use service::{AccessLog, Gateway, PublicUrl, PublicUrlError, Visit};
pub use shutdown::Shutdown;
pub use site::{Site, SiteError};
pub use tls::{Tls, TlsError, TlsFiles};

//! Authentication: who a client is. Every way to authenticate lives here as native code, so that no
//! plugin ever sees a credential.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`access`] | the access rules of a mount: methods, tried in order, and their outcome |
//! | [`bearer`] | tokens of external issuers, and the issuers' keys |
//! | [`certificate`] | certificates of clients: lists of fingerprints, authorities |
//! | `challenge` | what clients without valid credentials are asked for |
//! | [`htpasswd`] | users and password hashes in a file |
//! | [`proxy_header`] | users that a proxy in front has authenticated |
//! | `list_file` | files that are read again when they change |
//! | `network` | what counts as one client where addresses tell clients apart |
//!
//! Invariants: without a configured method nobody is admitted, and a client's identity never depends on
//! load. This crate knows heads of requests, but no connections of clients and no mounts.

pub mod access;
pub mod bearer;
pub mod certificate;
mod challenge;
pub mod htpasswd;
mod list_file;
mod network;
pub mod proxy_header;

pub use access::{Access, Client, Decision, Method, Refused};
pub use bearer::Issuer;
pub use certificate::{Certificates, FingerprintList, PresentedCertificate};
pub use challenge::{BASIC_CHALLENGE, Challenges, TokenError};
pub use htpasswd::Htpasswd;
pub use ipnet::IpNet;
pub use network::client_network;
pub use proxy_header::{ProxyHeader, ProxyHeaderError};

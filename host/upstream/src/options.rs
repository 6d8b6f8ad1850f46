//! The operator's settings for an upstream. What they mean together is checked when an [`Upstream`] is made of them.
//!
//! [`Upstream`]: crate::Upstream

use std::path::PathBuf;
use std::time::Duration;

use keepgate_certificates::Fingerprint;

use crate::metrics::UpstreamMetrics;

/// Why an upstream cannot be made of its settings; names the setting or the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(pub String);

/// Settings of an upstream.
#[derive(Clone, Debug)]
pub struct UpstreamOptions {
    /// Its name in the configuration, for messages.
    pub name: String,
    /// Where it is.
    pub destination: Destination,
    /// Certificates. Without them, the system's authorities are trusted.
    pub tls: TlsFiles,
    /// Who the gateway is.
    pub login: Option<Login>,
    /// Further headers of each request, by name, with the files of their values.
    pub header_files: Vec<(String, PathBuf)>,
    /// The methods that plugins may use.
    pub methods: Vec<String>,
    /// Prefixes of the paths that plugins may ask for, below the URL of the upstream. Empty allows all.
    pub paths: Vec<String>,
    /// Limits in time.
    pub timeouts: Timeouts,
    /// Other limits.
    pub limits: Limits,
    /// The path to ask for when somebody wants to know whether it works.
    pub check: Option<String>,
    /// Where requests are counted.
    pub metrics: Option<UpstreamMetrics>,
}

impl UpstreamOptions {
    /// Settings that a configuration starts from.
    pub fn new(name: impl Into<String>, destination: Destination) -> Self {
        let methods: &[&str] = match destination {
            Destination::Addresses(_) => &["POST"],
            _ => &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        };
        Self {
            name: name.into(),
            destination,
            tls: TlsFiles::default(),
            login: None,
            header_files: Vec::new(),
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            paths: Vec::new(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            check: None,
            metrics: None,
        }
    }
}

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An `http://` or `https://` URL; its path comes before the path of each request.
    Url {
        /// The URL.
        url: String,
        /// What requests call the host, if that is not the one in the URL.
        host: Option<String>,
    },
    /// A Unix socket.
    Socket {
        /// The file.
        path: PathBuf,
        /// What requests call the host.
        host: Option<String>,
    },
    /// Wherever a request says, if it begins with one of these. Empty allows nothing.
    Addresses(Vec<Address>),
}

/// Addresses that clients may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// How their URLs begin: scheme, host and port are the same, and the path is this one or below it.
    pub prefix: String,
    /// Whether they may be in the gateway's own network.
    pub private: bool,
}

/// Files for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities for the upstream's certificate. None: the system's.
    pub ca: Option<PathBuf>,
    /// The only certificate to trust. Not together with `ca`.
    pub fingerprint: Option<Fingerprint>,
    /// The client certificate with its chain, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Who the gateway is for an upstream, in the header `authorization`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// A token in a file.
    Bearer(PathBuf),
    /// A user, and the file of the password.
    Basic(String, PathBuf),
}

/// Limits in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until there is a connection, TLS included.
    pub connect: Duration,
    /// From the last byte of the request to the head of the response.
    pub answer: Duration,
    /// While the upstream neither takes nor sends a byte of a body.
    pub silence: Duration,
    /// For a turn, if as many requests as allowed are under way.
    pub turn: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            silence: Duration::from_secs(60),
            turn: Duration::from_secs(10),
        }
    }
}

/// Limits other than those in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests at once; a request ends with its response's body.
    pub requests: usize,
    /// Bytes of a response's head.
    pub head: usize,
    /// Bytes of a response's body, if they are limited.
    pub body: Option<u64>,
    /// How often the body of one response may be read on after it broke off.
    pub resumes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests: 16, head: 64 * 1024, body: None, resumes: 5 }
    }
}

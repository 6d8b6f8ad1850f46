//! etcd clusters, over gRPC.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `url` | validated endpoints |
//! | `credentials` | files and secrets, read again for each snapshot |
//! | `connect` | one connection to one member, signed in |
//! | `probe` | a member's status, whether its data is current, and the start of a snapshot |
//! | `stream` | the bytes |
//! | `turns` | locks that several gateways share; no snapshots |
//! | `verify` | whether the bytes are a whole snapshot |
//! | `explain` | error messages that say what to do |
//!
//! Each member has a client of its own, because etcd-client spreads the calls of one client over all
//! of its endpoints, and here it must be known which member answered.

mod connect;
mod credentials;
mod explain;
mod probe;
mod stream;
mod turns;
mod url;
mod verify;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio_util::task::AbortOnDropHandle;

use self::connect::Limits;
use self::credentials::{CredentialFiles, Credentials};
use self::probe::Member;
pub use self::turns::{HeldTurn, Turns};
use self::url::Url;
use crate::{ConnectError, EndpointStatus, MemberStatus, Snapshot, Snapshots};

/// The default of [`ClusterOptions::stall_timeout`].
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The operator's settings for a cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Its name in the configuration, for messages.
    pub name: String,
    /// Client URLs of members, `http://` or `https://`, in the order in which they are asked.
    pub endpoints: Vec<String>,
    /// Certificates. Without them, `https://` endpoints are checked against the system's authorities.
    pub tls: Option<TlsFiles>,
    /// The user to sign in as, if the cluster requires that. It needs the role `root`.
    pub user: Option<Login>,
    /// The time limit for connecting to one endpoint, including TLS, for signing in there, and for its status. None: 2
    /// seconds for connecting, 5 for each answer.
    pub timeout: Option<Duration>,
    /// How long a member may take for the next bytes of a snapshot.
    pub stall_timeout: Duration,
    /// Whether members may deliver that cannot confirm, with a majority of their cluster, that their data is current.
    /// They are the second choice, and [`Facts::stale`](crate::Facts::stale) marks what they deliver.
    pub allow_stale: bool,
}

/// Files for TLS, all in PEM format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities for the members' certificates. None: the system's.
    pub ca: Option<PathBuf>,
    /// The client certificate with its chain. Only together with `key`.
    pub certificate: Option<PathBuf>,
    /// The private key of `certificate`.
    pub key: Option<PathBuf>,
}

/// A user and a password.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user's name.
    pub user: Secret,
    /// Its password.
    pub password: Secret,
}

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The text itself.
    Text(String),
    /// A file that contains it, read at each connection. A line break at its end is ignored.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An etcd cluster. It is only connected while a snapshot is taken or its status is requested, and by [`Turns`].
pub struct Cluster {
    name: String,
    urls: Vec<Url>,
    files: CredentialFiles,
    limits: Limits,
    allow_stale: bool,
}

impl Cluster {
    /// Validates the options and reads all files once, which blocks. Does not connect.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Invalid`] names the value or the file that cannot be used.
    pub fn new(options: ClusterOptions) -> Result<Self, ConnectError> {
        let ClusterOptions { name, endpoints, tls, user, timeout, stall_timeout, allow_stale } =
            options;
        let invalid =
            |what: String| ConnectError::Invalid(format!("etcd cluster {name:?}: {what}"));
        if endpoints.is_empty() {
            return Err(invalid("it has no endpoints".to_owned()));
        }
        if timeout.is_some_and(|timeout| timeout.is_zero()) || stall_timeout.is_zero() {
            return Err(invalid("a timeout of zero lets nothing happen".to_owned()));
        }
        let urls: Vec<Url> = endpoints
            .iter()
            .map(|text| Url::parse(text))
            .collect::<Result<_, _>>()
            .map_err(&invalid)?;
        if let (Some(_), Some(url)) = (&tls, urls.iter().find(|url| !url.is_tls())) {
            return Err(invalid(format!(
                "TLS files are configured, but {url} does not use TLS: write https://, or remove them"
            )));
        }
        let files = CredentialFiles::new(tls, user).map_err(&invalid)?;
        let credentials = files.read().map_err(&invalid)?;
        let limits = Limits::new(timeout, stall_timeout);
        for url in &urls {
            // Builds a connection's settings, which checks certificate and key together.
            connect::endpoint(url, &credentials, limits).map_err(&invalid)?;
        }
        Ok(Self { name, urls, files, limits, allow_stale })
    }

    /// Reads the files, which may have been renewed.
    async fn credentials(&self) -> Result<Arc<Credentials>, String> {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        read.map_err(|error| format!("reading its files: {error}"))?.map(Arc::new)
    }

    /// Connects to all of these at once, each in a task of its own, so that none loses time while
    /// another one's snapshot is requested.
    fn probe(&self, urls: &[&Url], credentials: &Arc<Credentials>) -> Vec<(Url, Probe)> {
        let limits = self.limits;
        let begin = |url: &&Url| {
            let (url, credentials) = (Url::clone(url), Arc::clone(credentials));
            let probe = tokio::spawn({
                let url = url.clone();
                async move { Member::reach(url, credentials, limits).await }
            });
            (url, AbortOnDropHandle::new(probe))
        };
        urls.iter().map(begin).collect()
    }

    fn unavailable(&self, failed: &[String]) -> ConnectError {
        let failed = failed.join("; ");
        ConnectError::Unavailable(format!("no snapshot of etcd cluster {:?}: {failed}", self.name))
    }

    /// Begins a snapshot, or adds the reason for a failure to `failed`.
    async fn begin(&self, member: Member, failed: &mut Vec<String>) -> Option<Snapshot> {
        let url = member.url().clone();
        match member.begin().await {
            Ok(snapshot) => Some(snapshot),
            Err(error) => {
                self.record_failure(&url, &error, failed);
                None
            }
        }
    }

    fn how_to_allow_stale(&self) -> String {
        format!(
            "to keep old data rather than none, set `allow_stale = true` in [etcd.{}]",
            self.name
        )
    }

    fn record_failure(&self, url: &Url, error: &str, failed: &mut Vec<String>) {
        tracing::warn!(cluster = self.name, endpoint = %url, error, "cannot take a snapshot from this member");
        failed.push(format!("{url}: {error}"));
    }
}

type Probe = AbortOnDropHandle<Result<Member, String>>;

#[async_trait]
impl Snapshots for Cluster {
    async fn take(&self, except: &[String]) -> Result<Snapshot, ConnectError> {
        let urls: Vec<&Url> =
            self.urls.iter().filter(|url| !except.iter().any(|left| url.is(left))).collect();
        if urls.is_empty() {
            return Err(self.unavailable(&["no other endpoint is left to ask".to_owned()]));
        }
        let credentials = self.credentials().await.map_err(|what| {
            ConnectError::Invalid(format!("etcd cluster {:?}: {what}", self.name))
        })?;
        let mut failed = Vec::new();
        let mut stale = Vec::new();
        for (url, probe) in self.probe(&urls, &credentials) {
            match joined(probe).await {
                Ok(member) if member.stale().is_none() => {
                    if let Some(snapshot) = self.begin(member, &mut failed).await {
                        return Ok(snapshot);
                    }
                }
                Ok(member) => {
                    if !self.allow_stale {
                        let cause = member.stale().unwrap_or_default();
                        self.record_failure(&url, cause, &mut failed);
                    }
                    stale.push(member);
                }
                Err(cause) => self.record_failure(&url, &cause, &mut failed),
            }
        }
        if !self.allow_stale && !stale.is_empty() {
            failed.push(self.how_to_allow_stale());
            stale.clear();
        }
        for member in stale {
            let (url, reason) = (member.url().clone(), member.stale().map(str::to_owned));
            if let Some(snapshot) = self.begin(member, &mut failed).await {
                let cluster = &self.name;
                tracing::warn!(cluster, endpoint = %url, reason, "taking a snapshot that may be old");
                return Ok(snapshot);
            }
        }
        Err(self.unavailable(&failed))
    }

    async fn status(&self) -> Vec<EndpointStatus> {
        let urls: Vec<&Url> = self.urls.iter().collect();
        let credentials = match self.credentials().await {
            Ok(credentials) => credentials,
            Err(what) => {
                return urls.into_iter().map(|url| status(url, Err(what.clone()))).collect();
            }
        };
        let asked = self.probe(&urls, &credentials).into_iter().map(|(url, probe)| async move {
            let outcome = match joined(probe).await {
                Ok(member) => match member.stale().filter(|_| !self.allow_stale) {
                    Some(cause) => Err(format!("{cause}; {}", self.how_to_allow_stale())),
                    None => member.check_snapshot().await,
                },
                Err(cause) => Err(cause),
            };
            status(&url, outcome)
        });
        join_all(asked).await
    }
}

fn status(url: &Url, outcome: Result<MemberStatus, String>) -> EndpointStatus {
    EndpointStatus { endpoint: url.to_string(), outcome }
}

async fn joined(probe: Probe) -> Result<Member, String> {
    probe.await.unwrap_or_else(|error| Err(format!("asking it failed: {error}")))
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, urls, .. } = self;
        f.debug_struct("Cluster").field("name", name).field("urls", urls).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

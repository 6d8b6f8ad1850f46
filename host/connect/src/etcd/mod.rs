//! etcd clusters, over gRPC: where a snapshot is taken from.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `url` | endpoints, checked |
//! | `access` | files and secrets, read anew for each snapshot |
//! | `connect` | one connection to one member, signed in |
//! | `probe` | how a member is, and the beginning of a snapshot |
//! | `stream` | the bytes |
//! | `verify` | whether they are a whole snapshot |
//! | `explain` | what went wrong, in words to act on |
//!
//! Each member has a client of its own: etcd-client spreads the calls of one client over all of
//! its endpoints, and here it must be known who answered.

mod access;
mod connect;
mod explain;
mod probe;
mod stream;
mod url;
mod verify;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio_util::task::AbortOnDropHandle;

use self::access::{Access, AccessFiles};
use self::connect::Limits;
use self::probe::Member;
use self::url::Url;
use crate::{ConnectError, EndpointStatus, MemberStatus, Snapshot, Snapshots};

/// [`ClusterOptions::connect_timeout`] where nothing else is wanted.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// [`ClusterOptions::stall_timeout`] where nothing else is wanted.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What the operator wrote of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// What the configuration calls it, for messages.
    pub name: String,
    /// Client URLs of members, `http://` or `https://`, in the order in which they are asked.
    pub endpoints: Vec<String>,
    /// Certificates. None: `https://` endpoints are checked against the system's authorities.
    pub tls: Option<TlsFiles>,
    /// Whom to sign in as, where the cluster wants that. The user needs the role `root`.
    pub user: Option<Login>,
    /// To connect to one endpoint, TLS included.
    pub connect_timeout: Duration,
    /// How long a member may take for the next bytes of a snapshot.
    pub stall_timeout: Duration,
}

/// Files for TLS, all of them PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that sign the members' certificates. None: the system's.
    pub ca: Option<PathBuf>,
    /// The certificate to show, with its chain. Only together with `key`.
    pub certificate: Option<PathBuf>,
    /// The private key of `certificate`.
    pub key: Option<PathBuf>,
}

/// Whom to sign in as.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user's name.
    pub user: Secret,
    /// Its password.
    pub password: Secret,
}

/// A text that is nobody else's business.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The text itself.
    Text(String),
    /// A file that holds it, read at each connection. A line's end after it is no part of it.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An etcd cluster. It is connected only while a snapshot is taken or its members are asked.
pub struct Cluster {
    name: String,
    urls: Vec<Url>,
    files: AccessFiles,
    limits: Limits,
}

impl Cluster {
    /// Checks what was written, and reads all files once, which blocks. Nothing is connected.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Invalid`] that names the value or the file which cannot be used.
    pub fn new(options: ClusterOptions) -> Result<Self, ConnectError> {
        let ClusterOptions { name, endpoints, tls, user, connect_timeout, stall_timeout } = options;
        let invalid =
            |what: String| ConnectError::Invalid(format!("etcd cluster {name:?}: {what}"));
        if endpoints.is_empty() {
            return Err(invalid("it has no endpoints".to_owned()));
        }
        if connect_timeout.is_zero() || stall_timeout.is_zero() {
            return Err(invalid("a limit of no time at all lets nothing happen".to_owned()));
        }
        let urls: Vec<Url> = endpoints
            .iter()
            .map(|text| Url::parse(text))
            .collect::<Result<_, _>>()
            .map_err(&invalid)?;
        if let (Some(_), Some(url)) = (&tls, urls.iter().find(|url| !url.is_tls())) {
            return Err(invalid(format!(
                "there are certificates, but {url} is without TLS: write https://, or leave them out"
            )));
        }
        let files = AccessFiles::new(tls, user).map_err(&invalid)?;
        let access = files.read().map_err(&invalid)?;
        let limits = Limits { connect: connect_timeout, stall: stall_timeout };
        for url in &urls {
            // Builds what a connection would be made with, certificate and key together.
            connect::endpoint(url, &access, limits).map_err(&invalid)?;
        }
        Ok(Self { name, urls, files, limits })
    }

    /// Reads the files, which may have been renewed since.
    async fn access(&self) -> Result<Arc<Access>, String> {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        read.map_err(|error| format!("reading its files: {error}"))?.map(Arc::new)
    }

    /// Connects to these at once, each in a task of its own, so that none loses time while another
    /// is asked for its snapshot.
    fn probe(&self, urls: &[&Url], access: &Arc<Access>) -> Vec<(Url, Probe)> {
        let limits = self.limits;
        let begin = |url: &&Url| {
            let (url, access) = (Url::clone(url), Arc::clone(access));
            let probe = tokio::spawn({
                let url = url.clone();
                async move { Member::reach(url, access, limits).await }
            });
            (url, AbortOnDropHandle::new(probe))
        };
        urls.iter().map(begin).collect()
    }

    fn unavailable(&self, failed: &[String]) -> ConnectError {
        let failed = failed.join("; ");
        ConnectError::Unavailable(format!("no snapshot of etcd cluster {:?}: {failed}", self.name))
    }

    /// Begins a snapshot, or adds to `failed` why not.
    async fn begin(&self, member: Member, failed: &mut Vec<String>) -> Option<Snapshot> {
        let url = member.url().clone();
        match member.begin().await {
            Ok(snapshot) => Some(snapshot),
            Err(cause) => {
                self.pass_over(&url, &cause, failed);
                None
            }
        }
    }

    fn pass_over(&self, url: &Url, cause: &str, failed: &mut Vec<String>) {
        tracing::warn!(cluster = self.name, endpoint = %url, cause, "no snapshot from this member");
        failed.push(format!("{url}: {cause}"));
    }
}

type Probe = AbortOnDropHandle<Result<Member, String>>;

#[async_trait]
impl Snapshots for Cluster {
    async fn take(&self, except: &[String]) -> Result<Snapshot, ConnectError> {
        let urls: Vec<&Url> =
            self.urls.iter().filter(|url| !except.iter().any(|left| url.is(left))).collect();
        if urls.is_empty() {
            return Err(self.unavailable(&["all of its endpoints were tried before".to_owned()]));
        }
        let access = self.access().await.map_err(|what| {
            ConnectError::Invalid(format!("etcd cluster {:?}: {what}", self.name))
        })?;
        let mut failed = Vec::new();
        let mut second_choice = Vec::new();
        for (url, probe) in self.probe(&urls, &access) {
            match joined(probe).await {
                Ok(member) if member.is_current() => {
                    if let Some(snapshot) = self.begin(member, &mut failed).await {
                        return Ok(snapshot);
                    }
                }
                Ok(member) => second_choice.push(member),
                Err(cause) => self.pass_over(&url, &cause, &mut failed),
            }
        }
        // They deliver as well, but what they have may be old.
        for member in second_choice {
            if let Some(snapshot) = self.begin(member, &mut failed).await {
                return Ok(snapshot);
            }
        }
        Err(self.unavailable(&failed))
    }

    async fn status(&self) -> Vec<EndpointStatus> {
        let urls: Vec<&Url> = self.urls.iter().collect();
        let access = match self.access().await {
            Ok(access) => access,
            Err(what) => {
                return urls.into_iter().map(|url| status(url, Err(what.clone()))).collect();
            }
        };
        let asked = self.probe(&urls, &access).into_iter().map(|(url, probe)| async move {
            let outcome = match joined(probe).await {
                Ok(member) => member.try_out().await,
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

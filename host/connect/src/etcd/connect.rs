//! Connects to one member and signs in. Each step has a time limit and an error message of its own. The operator's
//! limit for connecting holds for each step up to the first answer, so that no other limit is hidden behind it.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions};
use tokio::time::timeout;
use tonic::transport::Endpoint;

use super::credentials::Credentials;
use super::explain::{self, Peer, Stage};
use super::url::Url;

/// How long connecting may take, unless the operator has set a limit.
const CONNECT: Duration = Duration::from_secs(2);

/// How long a member may take for an answer that needs no work, unless the operator has set a limit. Signing in checks
/// a slow hash and is written to the disks of a majority.
const ANSWER: Duration = Duration::from_secs(5);

/// How long it may take to confirm with a majority of its cluster that its data is current. When a leader has just gone,
/// etcd 3.4 answers such a read after 7 seconds, with an error.
const AGREEMENT: Duration = Duration::from_secs(10);

/// How long it may take for the first bytes of a snapshot.
const FIRST_BYTES: Duration = Duration::from_secs(10);

/// Bytes that a member may send ahead of the reader. This is all the memory that a slow reader costs,
/// and it is enough for 100 MiB/s over 10 ms.
const WINDOW: u32 = 1024 * 1024;

/// Time limits.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// For connecting, including TLS, and for each answer that needs no work.
    timeout: Option<Duration>,
    /// For the next bytes of a snapshot.
    pub(super) stall: Duration,
}

impl Limits {
    pub(super) fn new(timeout: Option<Duration>, stall: Duration) -> Self {
        Self { timeout, stall }
    }

    /// For connecting, including TLS.
    pub(super) fn connect(self) -> Duration {
        self.timeout.unwrap_or(CONNECT)
    }

    /// For an answer that needs no work.
    pub(super) fn answer(self) -> Duration {
        self.timeout.unwrap_or(ANSWER)
    }

    /// For an answer on which a majority of the cluster has to agree.
    pub(super) fn agreement(self) -> Duration {
        AGREEMENT.max(self.answer()).min(self.stall)
    }

    /// For the first bytes of a snapshot.
    pub(super) fn first_bytes(self) -> Duration {
        FIRST_BYTES.min(self.stall)
    }
}

/// The settings of a connection. Blocks, because the system's authorities are files.
pub(super) fn endpoint(
    url: &Url,
    credentials: &Credentials,
    limits: Limits,
) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from(url.uri().clone())
        .connect_timeout(limits.connect())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    if !url.is_tls() {
        return Ok(endpoint);
    }
    // tonic cannot be given one.
    keepgate_certificates::install_provider();
    let tls = credentials.tls.clone();
    let with_tls = match &credentials.trust {
        Some(trust) => endpoint.tls_config_with_verifier(tls, trust.clone()),
        None => endpoint.tls_config(tls),
    };
    with_tls.map_err(|error| {
        explain::broken_files(&error, &Peer { url, credentials, stage: Stage::Connecting })
    })
}

/// Connects to this member alone.
pub(super) async fn connect(
    url: &Url,
    credentials: &Arc<Credentials>,
    limits: Limits,
) -> Result<Client, String> {
    let endpoint = {
        let (url, credentials) = (url.clone(), Arc::clone(credentials));
        tokio::task::spawn_blocking(move || endpoint(&url, &credentials, limits)).await
    };
    let endpoint = endpoint.map_err(|error| format!("preparing the connection: {error}"))??;
    let peer = Peer { url, credentials, stage: Stage::Connecting };
    let channel = match timeout(limits.connect(), endpoint.connect()).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) if !explain::is_timeout(&error) => {
            return Err(explain::transport(&error, &peer));
        }
        _ => return Err(format!("no connection within {:?}", limits.connect())),
    };
    let peer = Peer { stage: Stage::Connected, ..peer };
    sign_in(Channel::Tonic(channel), &peer, limits).await
}

async fn sign_in(channel: Channel, peer: &Peer<'_>, limits: Limits) -> Result<Client, String> {
    let options = peer.credentials.login.clone().map(|(user, password)| {
        // The token is valid for minutes and used once.
        ConnectOptions::new().with_user(user, password)
    });
    let signing_in = Client::from_channel(channel.clone(), options);
    let error = match timeout(limits.answer(), signing_in).await {
        Ok(Ok(client)) => return Ok(client),
        Ok(Err(error)) => error,
        Err(_) => {
            let limit = limits.answer();
            return Err(format!(
                "it did not sign the user in within {limit:?}; a member without quorum cannot"
            ));
        }
    };
    if !explain::needs_no_login(&error) {
        return Err(explain::error(&error, peer));
    }
    // Like etcd's own clients: credentials may be configured before the cluster requires them.
    Client::from_channel(channel, None).await.map_err(|error| explain::error(&error, peer))
}

//! One connection to one member, signed in. Each step has a limit, and each failure words of its
//! own.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions};
use tokio::time::timeout;
use tonic::transport::Endpoint;

use super::access::Access;
use super::explain::{self, Peer, Stage};
use super::url::Url;

/// How long a member may take for an answer that needs no work.
const ANSWER: Duration = Duration::from_secs(5);

/// How long it may take for the first bytes of a snapshot.
const FIRST_BYTES: Duration = Duration::from_secs(10);

/// Bytes that a member may send ahead of who reads. As memory this is all that a reader who is
/// slow costs; as speed, it suffices for 100 MiB a second over 10 ms.
const WINDOW: u32 = 1024 * 1024;

/// How long things may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// To connect, TLS included.
    pub(super) connect: Duration,
    /// For the next bytes of a snapshot.
    pub(super) stall: Duration,
}

impl Limits {
    /// For an answer that needs no work.
    pub(super) fn answer(self) -> Duration {
        ANSWER.min(self.stall)
    }

    /// For the first bytes of a snapshot.
    pub(super) fn first_bytes(self) -> Duration {
        FIRST_BYTES.min(self.stall)
    }
}

/// What a connection is made with. Blocks: the system's authorities are files.
pub(super) fn endpoint(url: &Url, access: &Access, limits: Limits) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from(url.uri().clone())
        .connect_timeout(limits.connect)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    if !url.is_tls() {
        return Ok(endpoint);
    }
    endpoint.tls_config(access.tls.clone()).map_err(|error| {
        explain::broken_files(&error, &Peer { url, access, stage: Stage::Connecting })
    })
}

/// A client of this member alone.
pub(super) async fn connect(
    url: &Url,
    access: &Arc<Access>,
    limits: Limits,
) -> Result<Client, String> {
    let endpoint = {
        let (url, access) = (url.clone(), Arc::clone(access));
        tokio::task::spawn_blocking(move || endpoint(&url, &access, limits)).await
    };
    let endpoint = endpoint.map_err(|error| format!("preparing the connection: {error}"))??;
    let peer = Peer { url, access, stage: Stage::Connecting };
    let channel = match timeout(limits.connect, endpoint.connect()).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) if !explain::is_timeout(&error) => {
            return Err(explain::transport(&error, &peer));
        }
        _ => return Err(format!("no connection within {:?}", limits.connect)),
    };
    let peer = Peer { stage: Stage::Unheard, ..peer };
    sign_in(Channel::Tonic(channel), &peer, limits).await
}

async fn sign_in(channel: Channel, peer: &Peer<'_>, limits: Limits) -> Result<Client, String> {
    let options = peer.access.login.clone().map(|(user, password)| {
        // The token lives for minutes, and is asked for once.
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
    // As etcd's own clients do: credentials may be configured before they are asked for.
    Client::from_channel(channel, None).await.map_err(|error| explain::error(&error, peer))
}

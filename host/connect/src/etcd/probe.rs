//! A member's status, and the start of a snapshot. This file decides whether a member's data is current: etcd sends
//! snapshots without asking the cluster, so a member that has lost its quorum sends one that may be days old.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Error, GetOptions, KvClient, MaintenanceClient, ResponseHeader, SnapshotResponse,
    SnapshotStreaming, StatusResponse,
};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::connect::{Limits, connect};
use super::credentials::Credentials;
use super::explain::{self, Peer, Stage};
use super::stream::{self, Origin};
use super::url::Url;
use super::verify;
use crate::{Facts, MemberStatus, Snapshot};

/// How long counting keys may take. A backup should neither fail nor wait for a number.
const COUNTING: Duration = Duration::from_secs(3);

/// The pause before a member is asked again whether its data is current.
const RETRY: Duration = Duration::from_millis(300);

/// A member that answered.
pub(super) struct Member {
    kv: KvClient,
    maintenance: MaintenanceClient,
    url: Url,
    credentials: Arc<Credentials>,
    limits: Limits,
    status: MemberStatus,
}

/// A snapshot whose first bytes have arrived.
struct Opened {
    messages: SnapshotStreaming,
    first: SnapshotResponse,
    size: u64,
}

impl Member {
    /// Connects, signs in and requests the status.
    pub(super) async fn reach(
        url: Url,
        credentials: Arc<Credentials>,
        limits: Limits,
    ) -> Result<Self, String> {
        let client = connect(&url, &credentials, limits).await?;
        // Keep only the clients that are used, out of a dozen.
        let (mut kv, mut maintenance) = (client.kv_client(), client.maintenance_client());
        let peer = Peer { url: &url, credentials: &credentials, stage: Stage::Connected };
        let status = match timeout(limits.answer(), maintenance.status()).await {
            Ok(answer) => answer.map_err(|error| explain::error(&error, &peer))?,
            Err(_) => return Err(format!("no answer within {:?}", limits.answer())),
        };
        let mut status = read(&status)?;
        let confirmed = match status.learner {
            true => Err("it is a learner, which has no vote".to_owned()),
            false => confirm(&mut kv, &peer, limits.agreement()).await,
        };
        match confirmed {
            Ok(revision) => status.revision = status.revision.max(revision),
            Err(why) => {
                status.stale = Some(format!(
                    "its data may be old, because it could not confirm with a majority of its cluster that it is \
                     current ({why})"
                ));
            }
        }
        Ok(Self { kv, maintenance, url, credentials, limits, status })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Why its data may be old; none if it is current.
    pub(super) fn stale(&self) -> Option<&str> {
        self.status.stale.as_deref()
    }

    /// Begins a snapshot that is to be read to its end.
    pub(super) async fn begin(mut self) -> Result<Snapshot, String> {
        let keys = self.count_keys().await;
        let Opened { messages, first, size } = self.open().await?;
        let MemberStatus { version, cluster_id, member_id, revision, stale, .. } = self.status;
        let (endpoint, stale) = (self.url.to_string(), stale.is_some());
        let facts = Facts { endpoint, version, cluster_id, member_id, revision, stale, keys, size };
        let Self { maintenance, url, credentials, limits, .. } = self;
        let origin = Origin { _client: maintenance, url, credentials, stall: limits.stall };
        let (body, sha256) = stream::body(messages, first, size, origin)?;
        Ok(Snapshot { facts, body, sha256 })
    }

    /// Begins a snapshot and abandons it, to find out whether this user may take one.
    pub(super) async fn check_snapshot(mut self) -> Result<MemberStatus, String> {
        self.open().await?;
        Ok(self.status)
    }

    async fn count_keys(&mut self) -> Option<u64> {
        let options = GetOptions::new()
            .with_all_keys()
            .with_count_only()
            .with_revision(self.status.revision)
            // Answered by this member, which may have no leader to ask.
            .with_serializable();
        let counted = timeout(COUNTING, self.kv.get("", Some(options))).await;
        let counted = counted.ok()?.ok()?;
        u64::try_from(counted.count()).ok()
    }

    async fn open(&mut self) -> Result<Opened, String> {
        let peer = Peer { url: &self.url, credentials: &self.credentials, stage: Stage::Answered };
        let (messages, first) =
            match timeout(self.limits.first_bytes(), first_bytes(&mut self.maintenance)).await {
                Ok(Ok(Some(begun))) => begun,
                Ok(Ok(None)) => return Err("it sent an empty snapshot".to_owned()),
                Ok(Err(error)) => return Err(explain::error(&error, &peer)),
                Err(_) => {
                    let limit = self.limits.first_bytes();
                    return Err(format!("it sent nothing of a snapshot within {limit:?}"));
                }
            };
        let size = verify::size(first.blob().len() as u64, first.remaining_bytes())
            .map_err(|wrong| wrong.to_string())?;
        Ok(Opened { messages, first, size })
    }
}

/// Makes the member confirm with a majority of its cluster that it has applied everything that was written until now: a
/// linearizable read of one key, which need not exist. Returns the revision then, or why there is no confirmation.
async fn confirm(kv: &mut KvClient, peer: &Peer<'_>, limit: Duration) -> Result<i64, String> {
    let (end, mut failed) = (Instant::now() + limit, None);
    while Instant::now() < end {
        let options = GetOptions::new().with_count_only();
        match timeout_at(end, kv.get("\0", Some(options))).await {
            Ok(Ok(answer)) => return Ok(answer.header().map_or(0, ResponseHeader::revision)),
            // etcd agrees with its cluster first, and then looks at the rights of the user. Who may not take a
            // snapshot either is told so when it begins.
            Ok(Err(error)) if explain::is_about_rights(&error) => return Ok(0),
            // A new leader may be elected soon.
            Ok(Err(error)) => failed = Some(explain::error(&error, peer)),
            Err(_) => break,
        }
        sleep_until(end.min(Instant::now() + RETRY)).await;
    }
    Err(failed.unwrap_or_else(|| format!("no answer within {limit:?}")))
}

async fn first_bytes(
    maintenance: &mut MaintenanceClient,
) -> Result<Option<(SnapshotStreaming, SnapshotResponse)>, Error> {
    let mut messages = maintenance.snapshot().await?;
    while let Some(message) = messages.message().await? {
        if !message.blob().is_empty() {
            return Ok(Some((messages, message)));
        }
    }
    Ok(None)
}

fn read(status: &StatusResponse) -> Result<MemberStatus, String> {
    let Some(header) = status.header() else {
        return Err("its answer does not say which member it is".to_owned());
    };
    Ok(MemberStatus {
        version: explain::one_line(status.version()),
        cluster_id: header.cluster_id(),
        member_id: header.member_id(),
        leader: Some(status.leader()).filter(|leader| *leader != 0),
        stale: None,
        learner: status.is_learner(),
        revision: header.revision(),
        db_size: u64::try_from(status.db_size()).unwrap_or_default(),
        errors: status.errors().iter().map(|error| explain::one_line(error)).collect(),
    })
}

//! Turns that several gateways take: locks with names, each a key that exists as long as somebody holds it.
//!
//! All keys of a process belong to one lease of etcd, which is kept alive while the process runs. If the process dies,
//! the lease runs out and etcd removes its keys. How long that takes at least is known to the holder by the last
//! confirmation of its lease, so it can stop in time if it cannot reach the cluster any more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use etcd_client::{Client, Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::Cluster;
use super::connect;

/// How long somebody else's turn is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause before the second look at a turn that somebody has; later ones are longer, up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(200);
/// Parts of a lease after which it is renewed.
const RENEWALS: u32 = 10;

/// Locks with names, in a cluster.
#[derive(Debug)]
pub struct Turns {
    cluster: Cluster,
    /// What the keys of all locks begin with.
    prefix: String,
    /// How long a lock outlives its holder.
    lease: Duration,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    /// Distinguishes the locks of this process from each other.
    holders: std::sync::atomic::AtomicU64,
}

/// A connection with a lease.
struct Session {
    client: Client,
    lease: i64,
    /// Until when the lease certainly lasts. In the past once it is lost.
    until: Arc<Mutex<Instant>>,
    _renewal: AbortOnDropHandle<()>,
}

/// A lock that is held. Dropping it releases it in the background.
pub struct HeldTurn {
    session: Arc<Session>,
    key: String,
    holder: String,
    released: bool,
}

impl Turns {
    /// Locks below `prefix`, which whoever signs in must be allowed to read and write. A lock outlives its holder for
    /// `lease`. Connects to nothing yet.
    pub fn new(cluster: Cluster, prefix: &str, lease: Duration) -> Self {
        let (prefix, session) = (prefix.to_owned(), tokio::sync::Mutex::new(None));
        Self { cluster, prefix, lease, session, holders: 0.into() }
    }

    /// Waits for the lock of a name, up to a minute.
    ///
    /// # Errors
    ///
    /// A line that says why: the cluster cannot be reached, or somebody else holds the lock all the time.
    pub async fn turn(&self, name: &str) -> Result<HeldTurn, String> {
        let key = format!("{}{name}", self.prefix);
        let number = self.holders.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let begun = Instant::now();
        let (mut pause, mut failed) = (PAUSE, None);
        while begun.elapsed() < PATIENCE {
            let session = match self.session().await {
                Ok(session) => session,
                Err(reason) => return Err(failed.unwrap_or(reason)),
            };
            let holder = format!("{:x} {number}", session.lease);
            let held = HeldTurn { session, key: key.clone(), holder, released: false };
            match held.take(self.cluster.limits.agreement()).await {
                Ok(true) => return Ok(held),
                Ok(false) => {
                    // Somebody has it; nothing is to be released.
                    held.forget();
                    failed = None;
                }
                Err(reason) => {
                    // The answer may have been lost, so dropping `held` releases what was perhaps taken.
                    self.leave(&held.session).await;
                    if failed.is_some() {
                        return Err(reason);
                    }
                    failed = Some(reason);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        Err(failed.unwrap_or_else(|| format!("somebody else holds {key:?} for a minute")))
    }

    /// The session of this process. Begins one if there is none, or if its lease is about to run out.
    async fn session(&self) -> Result<Arc<Session>, String> {
        let mut session = self.session.lock().await;
        if let Some(session) = session.as_ref().filter(|session| session.left() > self.lease / 2) {
            return Ok(Arc::clone(session));
        }
        let new = Arc::new(self.begin().await?);
        *session = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Makes no further use of a session.
    async fn leave(&self, failed: &Arc<Session>) {
        let mut session = self.session.lock().await;
        if session.as_ref().is_some_and(|session| Arc::ptr_eq(session, failed)) {
            *session = None;
        }
    }

    async fn begin(&self) -> Result<Session, String> {
        let Cluster { urls, limits, .. } = &self.cluster;
        let credentials = self.cluster.credentials().await?;
        let mut reasons = Vec::new();
        for url in urls {
            let begun = Instant::now();
            let granted = async {
                let mut client = connect::connect(url, &credentials, *limits).await?;
                let seconds = i64::try_from(self.lease.as_secs()).unwrap_or(i64::MAX);
                let granted = client.lease_grant(seconds, None);
                let granted = timeout(limits.agreement(), granted).await;
                let granted = granted.map_err(|_| "no answer in time".to_owned())?;
                let granted = granted.map_err(|error| error.to_string())?;
                Ok::<_, String>((client, granted.id()))
            };
            match granted.await {
                Ok((client, lease)) => {
                    let until = Arc::new(Mutex::new(begun + self.lease));
                    let renewal = renew(client.clone(), lease, self.lease, Arc::clone(&until));
                    let renewal = AbortOnDropHandle::new(tokio::spawn(renewal));
                    return Ok(Session { client, lease, until, _renewal: renewal });
                }
                Err(reason) => reasons.push(format!("{url}: {reason}")),
            }
        }
        Err(reasons.join("; "))
    }
}

/// Keeps a lease alive, until it is lost.
async fn renew(mut client: Client, lease: i64, length: Duration, until: Arc<Mutex<Instant>>) {
    let set = |time| *until.lock().unwrap_or_else(PoisonError::into_inner) = time;
    loop {
        let Ok((mut keeper, mut answers)) = client.lease_keep_alive(lease).await else {
            sleep(length / RENEWALS).await;
            continue;
        };
        loop {
            sleep(length / RENEWALS).await;
            let begun = Instant::now();
            if keeper.keep_alive().await.is_err() {
                break;
            }
            match timeout(length / RENEWALS, answers.message()).await {
                Ok(Ok(Some(answer))) if answer.ttl() > 0 => set(begun + length),
                Ok(Ok(Some(_))) => {
                    tracing::warn!("etcd has forgotten the lease of this gateway");
                    return set(begun);
                }
                // The connection is lost; the lease is not yet.
                _ => break,
            }
        }
    }
}

impl Session {
    /// How long the lease certainly lasts.
    fn left(&self) -> Duration {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.saturating_duration_since(Instant::now())
    }
}

impl HeldTurn {
    /// How long nobody else gets it, whatever happens to this process.
    pub fn left(&self) -> Duration {
        self.session.left()
    }

    /// Releases it. If the cluster cannot be reached, it is released with the lease.
    pub async fn release(mut self) {
        self.released = true;
        release(self.session.client.clone(), self.key.clone(), self.holder.clone()).await;
    }

    /// True if the lock is this one's now.
    async fn take(&self, limit: Duration) -> Result<bool, String> {
        let (key, holder) = (self.key.as_str(), self.holder.as_str());
        let options = PutOptions::new().with_lease(self.session.lease);
        let take = Txn::new()
            .when([Compare::version(key, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key, holder, Some(options))])
            .or_else([TxnOp::get(key, None)]);
        let mut client = self.session.client.clone();
        let taken = timeout(limit, client.txn(take)).await;
        let taken = taken.map_err(|_| "no answer in time".to_owned())?;
        let taken = taken.map_err(|error| error.to_string())?;
        // An answer that was lost: the key is ours already.
        let ours = taken.op_responses().iter().any(|response| match response {
            TxnOpResponse::Get(got) => got.kvs().iter().any(|kv| kv.value() == holder.as_bytes()),
            _ => false,
        });
        Ok(taken.succeeded() || ours)
    }

    fn forget(mut self) {
        self.released = true;
    }
}

impl Drop for HeldTurn {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let (client, key, holder) =
            (self.session.client.clone(), self.key.clone(), self.holder.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(release(client, key, holder));
        }
    }
}

async fn release(mut client: Client, key: String, holder: String) {
    let ours = Compare::value(key.as_str(), CompareOp::Equal, holder);
    let release = Txn::new().when([ours]).and_then([TxnOp::delete(key.as_str(), None)]);
    let released = timeout(Duration::from_secs(10), client.txn(release)).await;
    if !matches!(released, Ok(Ok(_))) {
        tracing::warn!(
            key,
            "cannot release a lock in etcd; it is released when its lease runs out"
        );
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("left", &self.left()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for HeldTurn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldTurn").field("key", &self.key).finish_non_exhaustive()
    }
}

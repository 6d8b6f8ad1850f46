//! Users and password hashes in a file, as Apache's `htpasswd` writes it.
//!
//! bcrypt is slow on purpose. Three things keep that from hurting: valid logins are cached for a while,
//! concurrent requests with the same login share one check, and checks wait in a bounded queue in front
//! of a few blocking threads. Unknown users cost the same work as known ones.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `cache` | recently verified logins |
//! | `file` | parsing the file |
//! | `hash` | bcrypt and `{SHA}` |
//! | `queue` | the queue of checks, shared fairly between clients |

mod cache;
mod file;
mod hash;
mod queue;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::sync::watch;

pub use crate::list_file::Problem;
pub use file::{HtpasswdError, is_user_name};

use cache::{Cache, Key};
use file::{Users, read};
use hash::Hash;
use queue::Queue;

use crate::list_file::{self, Watch, Watched};

/// How often a file is checked for changes, and limits of password checks.
#[derive(Clone, Debug)]
pub struct Options {
    /// Logins check at most this often whether the file has changed.
    pub check_every: Duration,
    /// How long a valid login is remembered after its last use.
    pub remember: Duration,
    /// How many logins are remembered.
    pub remembered: usize,
    /// How many passwords are checked concurrently, each on its own thread.
    pub checks: usize,
    /// How many checks may wait in total.
    pub waiting: usize,
    /// How many checks may wait per client address.
    pub waiting_per_address: usize,
}

impl Default for Options {
    /// Half of the processors check passwords, so that a flood of wrong ones leaves the other half to
    /// authenticated clients.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            check_every: Duration::from_secs(3),
            remember: Duration::from_secs(300),
            remembered: 10_000,
            checks: (processors / 2).max(1),
            waiting: 128,
            waiting_per_address: 32,
        }
    }
}

/// A file of users that verifies passwords.
pub struct Htpasswd {
    path: PathBuf,
    options: Options,
    /// Keys the hashes in the cache; new in each process.
    secret: Hmac<Sha256>,
    loaded: ArcSwap<Loaded>,
    queue: Queue,
    watch: Mutex<Watch>,
    bcrypt_checks: Arc<AtomicU64>,
}

/// The content of the file and everything derived from it, so that a reload discards all of it at once.
struct Loaded {
    users: Users,
    logins: Mutex<Logins>,
}

struct Logins {
    cache: Cache,
    in_progress: HashMap<Key, watch::Receiver<Option<bool>>>,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The user has this password.
    Accepted,
    /// Unknown user or wrong password.
    Rejected,
    /// Not checked: too many checks are waiting.
    Busy,
}

impl Htpasswd {
    /// Reads a file. Invalid lines are logged and listed by [`problems`](Self::problems). An empty file
    /// is valid and admits nobody.
    pub fn load(path: impl Into<PathBuf>, options: Options) -> Result<Arc<Self>, HtpasswdError> {
        let path = path.into();
        let (users, stamp) = read(&path)?;
        Ok(Arc::new(Self {
            secret: Hmac::new(&secret(&path)?.into()),
            loaded: ArcSwap::from_pointee(Loaded::new(users, &options)),
            queue: Queue::new(&options),
            watch: Mutex::new(Watch::new(stamp, options.check_every)),
            bcrypt_checks: Arc::default(),
            path,
            options,
        }))
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Invalid lines, which are ignored.
    pub fn problems(&self) -> Vec<Problem> {
        self.loaded.load().users.problems.clone()
    }

    /// The number of users.
    pub fn users(&self) -> usize {
        self.loaded.load().users.hashes.len()
    }

    /// How many bcrypt hashes have been computed.
    pub fn bcrypt_checks(&self) -> u64 {
        self.bcrypt_checks.load(Ordering::Relaxed)
    }

    /// Reads the file again and forgets all remembered logins. If the file is invalid, that is logged and
    /// the current users stay active. Blocks: do not call it on asynchronous threads.
    pub fn reload(&self) -> Result<(), HtpasswdError> {
        let mut watch = lock(&self.watch);
        self.reload_with(&mut watch)
    }

    /// Checks a user's password. `from` is the client's address, by which the queue is shared fairly.
    pub async fn verify(
        self: &Arc<Self>,
        user: &str,
        password: &[u8],
        from: Option<IpAddr>,
    ) -> Verdict {
        list_file::check_for_changes(self).await;
        let loaded = self.loaded.load_full();
        let hash = loaded.users.hashes.get(user);
        if let Some(Hash::Sha1(_)) = hash
            && hash.is_some_and(|hash| hash.verify(password))
        {
            return Verdict::Accepted;
        }
        // A wrong password of a `{SHA}` user takes as long as an unknown user.
        let hash = match (hash, &loaded.users.nobody) {
            (Some(hash @ Hash::Bcrypt { .. }), _) | (_, Some(hash)) => hash.clone(),
            _ => return Verdict::Rejected,
        };
        let key = self.key(user, password);
        let mut outcome = {
            let mut logins = lock(&loaded.logins);
            if logins.cache.hit(&key, Instant::now()) {
                return Verdict::Accepted;
            }
            match logins.in_progress.get(&key) {
                Some(outcome) => outcome.clone(),
                None => {
                    let Some(slot) = self.queue.enter(from) else {
                        return Verdict::Busy;
                    };
                    let (sender, outcome) = watch::channel(None);
                    logins.in_progress.insert(key, outcome.clone());
                    let check = self.check(loaded.clone(), key, hash, password.to_vec(), slot);
                    tokio::spawn(async move { sender.send(Some(check.await)) });
                    outcome
                }
            }
        };
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(true)) => Verdict::Accepted,
            Ok(_) => Verdict::Rejected,
            // The async runtime is shutting down.
            Err(_) => Verdict::Busy,
        }
    }

    /// One check, from the queue to the cache. It outlives the request that started it, because others
    /// may wait for its result.
    fn check(
        self: &Arc<Self>,
        loaded: Arc<Loaded>,
        key: Key,
        hash: Hash,
        password: Vec<u8>,
        slot: queue::Slot,
    ) -> impl Future<Output = bool> + Send + 'static {
        let counter = self.bcrypt_checks.clone();
        async move {
            let turn = slot.turn().await;
            let check = tokio::task::spawn_blocking(move || {
                counter.fetch_add(1, Ordering::Relaxed);
                hash.verify(&password)
            });
            let accepted = check.await.unwrap_or(false);
            drop(turn);
            let mut logins = lock(&loaded.logins);
            if accepted {
                logins.cache.insert(key, Instant::now());
            }
            logins.in_progress.remove(&key);
            accepted
        }
    }

    fn key(&self, user: &str, password: &[u8]) -> Key {
        let mut mac = self.secret.clone();
        // The length keeps pairs of name and password unambiguous.
        mac.update(&user.len().to_le_bytes());
        mac.update(user.as_bytes());
        mac.update(password);
        mac.finalize().into_bytes().into()
    }

    fn reload_with(&self, watch: &mut Watch) -> Result<(), HtpasswdError> {
        let (users, stamp) = match read(&self.path) {
            Ok(read) => read,
            Err(error) => {
                if watch.failed() {
                    tracing::error!(%error, "cannot reload users, the current ones stay active");
                }
                return Err(error);
            }
        };
        tracing::info!(file = %self.path.display(), users = users.hashes.len(), "users reloaded");
        watch.read(stamp);
        self.loaded.store(Arc::new(Loaded::new(users, &self.options)));
        Ok(())
    }
}

impl Watched for Htpasswd {
    const CONTENT: &'static str = "users";

    fn file(&self) -> Option<(&Path, &Mutex<Watch>)> {
        Some((&self.path, &self.watch))
    }

    fn read_again(&self, _: &Path, watch: &mut Watch) {
        // Errors are logged there.
        let _ = self.reload_with(watch);
    }
}

impl Loaded {
    fn new(users: Users, options: &Options) -> Self {
        let cache = Cache::new(options.remember, options.remembered);
        Self { users, logins: Mutex::new(Logins { cache, in_progress: HashMap::new() }) }
    }
}

fn secret(path: &Path) -> Result<[u8; 64], HtpasswdError> {
    let mut secret = [0; 64];
    match getrandom::fill(&mut secret) {
        Ok(()) => Ok(secret),
        Err(error) => Err(HtpasswdError::Read {
            path: path.to_owned(),
            source: io::Error::other(format!("no random bytes: {error}")),
        }),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Htpasswd").field("path", &self.path).finish_non_exhaustive()
    }
}

//! Users and password hashes in a file, as Apache's `htpasswd` writes it.
//!
//! Three things keep a slow hash from hurting: right logins are remembered for a while
//! (`cache`), clients that send the same login at once share one check, and checks wait in a
//! queue of bounded length, in front of a few blocking threads. Users that do not exist cost the
//! same work as those that do.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `cache` | logins that were right a short while ago |
//! | `file` | reading the file |
//! | `hash` | bcrypt and `{SHA}` |
//! | `queue` | room for waiting checks, shared fairly |

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

pub use file::{HtpasswdError, Problem, is_user_name};

use cache::{Cache, Key};
use file::{Stamp, Users, read};
use hash::Hash;
use queue::Queue;

/// How a file of users is watched and its checks are bounded.
#[derive(Clone, Debug)]
pub struct Options {
    /// Logins look at most this often whether the file has changed.
    pub check_every: Duration,
    /// A right login is remembered for so long after its last use.
    pub remember: Duration,
    /// At most so many logins are remembered.
    pub remembered: usize,
    /// So many passwords are checked at once, each on a thread of its own.
    pub checks: usize,
    /// So many checks may wait, all together.
    pub waiting: usize,
    /// So many checks may wait for clients at one address.
    pub waiting_per_address: usize,
}

impl Default for Options {
    /// Half of the processors check passwords, so that a flood of wrong ones leaves the other
    /// half to those who are in.
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

/// A file of users, and the checks of their passwords.
pub struct Htpasswd {
    path: PathBuf,
    options: Options,
    /// Keys of the cache are made with it; new in each process.
    secret: Hmac<Sha256>,
    loaded: ArcSwap<Loaded>,
    queue: Queue,
    watch: Mutex<Watch>,
    bcrypt_checks: Arc<AtomicU64>,
}

/// One reading of the file. Whatever follows from it is in here, so that a reload forgets all of
/// it at once.
struct Loaded {
    users: Users,
    logins: Mutex<Logins>,
}

struct Logins {
    cache: Cache,
    under_way: HashMap<Key, watch::Receiver<Option<bool>>>,
}

/// When to look at the file again, and what it looked like.
struct Watch {
    next: Instant,
    loaded: Option<Stamp>,
    /// Seen once, not loaded: whoever writes it may not be done yet.
    unsettled: Option<Stamp>,
    /// The last complaint has been logged.
    complained: bool,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The user has this password.
    Accepted,
    /// No such user, or another password.
    Rejected,
    /// Not checked: too many others wait.
    Busy,
}

impl Htpasswd {
    /// Reads a file. Lines that do not count are logged and kept in
    /// [`problems`](Self::problems); an empty file is fine and lets nobody in.
    pub fn load(path: impl Into<PathBuf>, options: Options) -> Result<Arc<Self>, HtpasswdError> {
        let path = path.into();
        let (users, stamp) = read(&path)?;
        let next = Instant::now() + options.check_every;
        Ok(Arc::new(Self {
            secret: Hmac::new(&secret(&path)?.into()),
            loaded: ArcSwap::from_pointee(Loaded::new(users, &options)),
            queue: Queue::new(&options),
            watch: Mutex::new(Watch {
                next,
                loaded: Some(stamp),
                unsettled: None,
                complained: false,
            }),
            bcrypt_checks: Arc::default(),
            path,
            options,
        }))
    }

    /// Which file this is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lines that do not count.
    pub fn problems(&self) -> Vec<Problem> {
        self.loaded.load().users.problems.clone()
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.loaded.load().users.hashes.len()
    }

    /// How many times a bcrypt hash has been computed.
    pub fn bcrypt_checks(&self) -> u64 {
        self.bcrypt_checks.load(Ordering::Relaxed)
    }

    /// Reads the file again and forgets all logins. Where it cannot be used, which is logged,
    /// the users stay as they were. Reads a file: not for asynchronous threads.
    pub fn reload(&self) -> Result<(), HtpasswdError> {
        let mut watch = lock(&self.watch);
        self.reload_with(&mut watch)
    }

    /// Whether a user has a password. `from` is where the client is, to share the queue fairly.
    pub async fn verify(
        self: &Arc<Self>,
        user: &str,
        password: &[u8],
        from: Option<IpAddr>,
    ) -> Verdict {
        self.look_for_changes().await;
        let loaded = self.loaded.load_full();
        let hash = loaded.users.hashes.get(user);
        if let Some(Hash::Sha1(_)) = hash
            && hash.is_some_and(|hash| hash.verify(password))
        {
            return Verdict::Accepted;
        }
        // A `{SHA}` user with a wrong password also takes as long as somebody unknown.
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
            match logins.under_way.get(&key) {
                Some(outcome) => outcome.clone(),
                None => {
                    let Some(place) = self.queue.enter(from) else {
                        return Verdict::Busy;
                    };
                    let (sender, outcome) = watch::channel(None);
                    logins.under_way.insert(key, outcome.clone());
                    let check = self.check(loaded.clone(), key, hash, password.to_vec(), place);
                    tokio::spawn(async move { sender.send(Some(check.await)) });
                    outcome
                }
            }
        };
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(true)) => Verdict::Accepted,
            Ok(_) => Verdict::Rejected,
            // The runtime is ending.
            Err(_) => Verdict::Busy,
        }
    }

    /// One check, from the queue to the cache. It does not end with the request that began it:
    /// others may wait for it by then.
    fn check(
        self: &Arc<Self>,
        loaded: Arc<Loaded>,
        key: Key,
        hash: Hash,
        password: Vec<u8>,
        place: queue::Place,
    ) -> impl Future<Output = bool> + Send + 'static {
        let counter = self.bcrypt_checks.clone();
        async move {
            let turn = place.turn().await;
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
            logins.under_way.remove(&key);
            accepted
        }
    }

    fn key(&self, user: &str, password: &[u8]) -> Key {
        let mut mac = self.secret.clone();
        // With its length, so that no other pair of name and password reads the same.
        mac.update(&user.len().to_le_bytes());
        mac.update(user.as_bytes());
        mac.update(password);
        mac.finalize().into_bytes().into()
    }

    /// Reads the file again where it has changed and the last look was long enough ago.
    async fn look_for_changes(self: &Arc<Self>) {
        {
            // Whoever holds it is looking already, maybe at a slow disk.
            let Ok(mut watch) = self.watch.try_lock() else { return };
            let now = Instant::now();
            if now < watch.next {
                return;
            }
            watch.next = now + self.options.check_every;
        }
        // The file may be on a disk that takes its time.
        let this = self.clone();
        let look = tokio::task::spawn_blocking(move || this.reload_if_changed());
        if look.await.is_err() {
            tracing::error!(file = %self.path.display(), "looking at the file of users broke down");
        }
    }

    fn reload_if_changed(&self) {
        let stamp = std::fs::metadata(&self.path).map(|metadata| Stamp::of(&metadata)).ok();
        let mut watch = lock(&self.watch);
        if stamp == watch.loaded && stamp.is_some() {
            watch.unsettled = None;
            return;
        }
        // A file that is written in place may be half written: it is read once it looks the same
        // twice. One that was renamed into place is whole.
        let replaced = stamp.map(|stamp| stamp.inode) != watch.loaded.map(|stamp| stamp.inode);
        if !replaced && watch.unsettled != stamp {
            watch.unsettled = stamp;
            return;
        }
        // The error has been logged.
        let _ = self.reload_with(&mut watch);
    }

    fn reload_with(&self, watch: &mut Watch) -> Result<(), HtpasswdError> {
        watch.next = Instant::now() + self.options.check_every;
        let (users, stamp) = match read(&self.path) {
            Ok(read) => read,
            Err(error) => {
                if !std::mem::replace(&mut watch.complained, true) {
                    tracing::error!(%error, "the users stay as they were");
                }
                return Err(error);
            }
        };
        tracing::info!(file = %self.path.display(), users = users.hashes.len(), "users reloaded");
        *watch = Watch { loaded: Some(stamp), unsettled: None, complained: false, ..*watch };
        self.loaded.store(Arc::new(Loaded::new(users, &self.options)));
        Ok(())
    }
}

impl Loaded {
    fn new(users: Users, options: &Options) -> Self {
        let cache = Cache::new(options.remember, options.remembered);
        Self { users, logins: Mutex::new(Logins { cache, under_way: HashMap::new() }) }
    }
}

fn secret(path: &Path) -> Result<[u8; 64], HtpasswdError> {
    let mut secret = [0; 64];
    match getrandom::fill(&mut secret) {
        Ok(()) => Ok(secret),
        Err(error) => Err(HtpasswdError::Read {
            path: path.to_owned(),
            source: io::Error::other(format!("no random numbers: {error}")),
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

//! The keys of an issuer, kept up to date: from a file that is looked at when tokens are verified, or over HTTP.
//!
//! Over HTTP nothing happens unless tokens are verified, and a token hardly ever waits:
//!
//! | age of the keys | what a token gets |
//! | --- | --- |
//! | up to their lifetime, which the issuer says, from a minute to an hour | these keys |
//! | up to twice that | these keys; newer ones are fetched meanwhile |
//! | up to [`KEEP`] | newer keys, which it waits for; these if they cannot be fetched |
//! | more, or none were ever fetched | newer keys, which it waits for, or none |
//!
//! A token that no known key has signed may have been signed by a new one, so it causes a fetch, too. However many tokens
//! ask for one, there is one at a time, and none sooner than [`PAUSE`] after the one before began.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::clock::{Clock, Now};
use super::fetch::{Fetched, Remote};
use super::key_set::KeySet;
use super::source::KeySource;
use crate::list_file::{self, Watch, Watched};

/// How often a file is checked for changes: at most so often.
const CHECK_EVERY: Duration = Duration::from_secs(3);
/// How often keys are fetched: at most so often.
pub const PAUSE: Duration = Duration::from_secs(10);
/// How long keys are used while newer ones cannot be fetched.
pub const KEEP: Duration = Duration::from_secs(24 * 60 * 60);
/// The lifetime of keys if the issuer says none.
const LIFETIME: Duration = Duration::from_secs(10 * 60);
/// The shortest lifetime.
const SHORTEST: Duration = Duration::from_secs(60);
/// The longest lifetime: for so long a key that the issuer withdrew is still accepted.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The keys of an issuer.
pub struct Keys {
    /// The name of its table in the configuration, for messages.
    name: String,
    source: KeySource,
    origin: Origin,
    clock: Clock,
    state: Mutex<State>,
}

enum Origin {
    File(PathBuf, Mutex<Watch>),
    Remote(Remote),
}

#[derive(Default)]
struct State {
    set: Option<Arc<KeySet>>,
    /// When it was fetched.
    fetched: Option<Now>,
    lifetime: Duration,
    /// When the last fetch began.
    begun: Option<Duration>,
    /// Closed when the fetch is over.
    under_way: Option<watch::Receiver<()>>,
    /// Why the last fetch failed, if it did.
    failing: Option<String>,
}

/// How the keys of an issuer are, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysStatus {
    /// Where they are.
    pub source: String,
    /// How many there are.
    pub keys: usize,
    /// When they were read or fetched, in seconds since 1970.
    pub fetched: Option<u64>,
    /// Why there are no newer ones, if there should be.
    pub failing: Option<String>,
}

impl Keys {
    /// Reads a file of keys, or a file of authorities, which blocks. Fetches nothing yet.
    ///
    /// # Errors
    ///
    /// Names the file and says why it cannot be used, or what is wrong with the URL.
    pub fn open(name: &str, source: KeySource, clock: Clock) -> Result<Arc<Self>, String> {
        let mut state = State::default();
        let origin = match &source {
            KeySource::File(path) => {
                let (set, stamp) = read(path)?;
                report_ignored(name, &set);
                state.set = Some(Arc::new(set));
                state.fetched = Some(clock.now());
                Origin::File(path.clone(), Mutex::new(Watch::new(stamp, CHECK_EVERY)))
            }
            KeySource::Url { url, ca } => Origin::Remote(Remote::at(name, url, ca.clone())?),
            KeySource::Discovery { issuer, ca } => {
                Origin::Remote(Remote::of(name, issuer, ca.clone())?)
            }
        };
        let state = Mutex::new(state);
        Ok(Arc::new(Self { name: name.to_owned(), source, origin, clock, state }))
    }

    /// Where they are.
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// Fetches keys in the background, if none were fetched yet. Must be called within a runtime.
    pub fn prefetch(self: &Arc<Self>) {
        let mut state = self.state();
        if state.set.is_none() {
            self.begin(&mut state);
        }
    }

    /// Reads a file again, which blocks, or fetches keys in the background, for which it must be called within a
    /// runtime. What cannot be used is logged, and the keys before stay.
    pub fn reload(self: &Arc<Self>) {
        match &self.origin {
            Origin::File(path, watch) => {
                self.read_again(path, &mut watch.lock().unwrap_or_else(PoisonError::into_inner));
            }
            Origin::Remote(_) => {
                let mut state = self.state();
                self.begin(&mut state);
            }
        }
    }

    /// How they are.
    pub fn status(&self) -> KeysStatus {
        let state = self.state();
        KeysStatus {
            source: self.source.to_string(),
            keys: state.set.as_ref().map_or(0, |set| set.len()),
            fetched: state.fetched.map(|fetched| fetched.unix),
            failing: state.failing.clone(),
        }
    }

    /// Fetches or reads the keys, and says in one line what they are.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub async fn probe(self: &Arc<Self>) -> Result<String, String> {
        if let Origin::Remote(remote) = &self.origin {
            let fetched = remote.fetch().await;
            let lifetime = self.store(fetched)?;
            let set = self.state().set.clone().ok_or("no keys were fetched")?;
            let ignored = shown_ignored(&set);
            return Ok(format!(
                "{set} from {}, fetched again after {lifetime:?}{ignored}",
                self.source
            ));
        }
        let set = self.get().await.ok_or("no keys were read")?;
        Ok(format!("{set} from {}{}", self.source, shown_ignored(&set)))
    }

    /// The keys to verify a token with; none if there are none that are not too old.
    pub(super) async fn get(self: &Arc<Self>) -> Option<Arc<KeySet>> {
        if let Origin::File(..) = self.origin {
            list_file::check_for_changes(self).await;
            return self.state().set.clone();
        }
        let pending = {
            let mut state = self.state();
            let age = state.age(self.clock.now());
            match age {
                Some(age) if age < state.lifetime => None,
                Some(age) => {
                    // Only the first one waits for an issuer that is away.
                    let waits =
                        age >= KEEP || (age >= state.lifetime * 2 && state.failing.is_none());
                    self.begin(&mut state).filter(|_| waits)
                }
                None => self.begin(&mut state),
            }
        };
        finished(pending).await;
        let state = self.state();
        let is_fresh = state.age(self.clock.now()).is_some_and(|age| age < KEEP);
        state.set.clone().filter(|_| is_fresh)
    }

    /// Newer keys than these, if there are any: a token was signed by none of these.
    pub(super) async fn newer(self: &Arc<Self>, than: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        if let Origin::Remote(_) = self.origin {
            let pending = {
                let mut state = self.state();
                match &state.set {
                    // Somebody else was faster.
                    Some(set) if !Arc::ptr_eq(set, than) => None,
                    _ => self.begin(&mut state),
                }
            };
            finished(pending).await;
        }
        self.state().set.clone().filter(|set| !set.is_same(than))
    }

    /// Begins to fetch keys, unless that has just been tried. Returns what to wait for.
    fn begin(self: &Arc<Self>, state: &mut State) -> Option<watch::Receiver<()>> {
        let Origin::Remote(_) = &self.origin else { return None };
        if let Some(under_way) = state.under_way.as_ref().filter(|it| it.has_changed().is_ok()) {
            return Some(under_way.clone());
        }
        let now = self.clock.now().running;
        if state.begun.is_some_and(|begun| now.saturating_sub(begun) < PAUSE) {
            return None;
        }
        state.begun = Some(now);
        let (done, under_way) = watch::channel(());
        state.under_way = Some(under_way.clone());
        let this = Arc::clone(self);
        // It outlives the request that began it, because others wait for it, too.
        tokio::spawn(async move {
            if let Origin::Remote(remote) = &this.origin {
                let fetched = remote.fetch().await;
                // Logged there.
                let _ = this.store(fetched);
            }
            drop(done);
        });
        Some(under_way)
    }

    /// Goes over to keys that were fetched. Returns their lifetime.
    fn store(&self, fetched: Result<Fetched, String>) -> Result<Duration, String> {
        let now = self.clock.now();
        let read = fetched.and_then(|fetched| {
            let set = KeySet::parse(&fetched.text);
            let set = set.map_err(|why| format!("{}: {why}", self.source))?;
            Ok((set, fetched.max_age.map_or(LIFETIME, |age| age.clamp(SHORTEST, LONGEST))))
        });
        let mut state = self.state();
        match read {
            Ok((set, lifetime)) => {
                state.fetched = Some(now);
                state.lifetime = lifetime;
                let was_failing = state.failing.take().is_some();
                let is_known = state.set.as_ref().is_some_and(|known| known.is_same(&set));
                if !is_known {
                    tracing::info!(auth = self.name, keys = %set, "keys of the issuer fetched");
                    report_ignored(&self.name, &set);
                    state.set = Some(Arc::new(set));
                } else if was_failing {
                    tracing::info!(auth = self.name, "keys of the issuer can be fetched again");
                }
                Ok(lifetime)
            }
            Err(error) => {
                let (auth, is_new) = (&self.name, state.failing.as_ref() != Some(&error));
                state.failing = Some(error.clone());
                let usable = state.age(now).and_then(|age| KEEP.checked_sub(age));
                match usable {
                    _ if !is_new => {}
                    Some(rest) => {
                        let hours = rest.as_secs() / 3600;
                        tracing::warn!(
                            auth,
                            error,
                            hours,
                            "keys of the issuer cannot be fetched; the ones before stay active"
                        );
                    }
                    None => {
                        tracing::error!(
                            auth,
                            error,
                            "keys of the issuer cannot be fetched; its tokens are refused with 503"
                        );
                    }
                }
                Err(error)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched for Keys {
    const CONTENT: &'static str = "keys";

    fn file(&self) -> Option<(&Path, &Mutex<Watch>)> {
        match &self.origin {
            Origin::File(path, watch) => Some((path, watch)),
            Origin::Remote(_) => None,
        }
    }

    fn read_again(&self, path: &Path, watch: &mut Watch) {
        let read = read(path);
        let mut state = self.state();
        match read {
            Ok((set, stamp)) => {
                tracing::info!(auth = self.name, keys = %set, "keys of the issuer reloaded");
                report_ignored(&self.name, &set);
                watch.read(stamp);
                state.set = Some(Arc::new(set));
                state.fetched = Some(self.clock.now());
                state.failing = None;
            }
            Err(error) => {
                if watch.failed() {
                    tracing::error!(
                        auth = self.name,
                        error,
                        "cannot reload keys of the issuer, the current ones stay active"
                    );
                }
                state.failing = Some(error);
            }
        }
    }
}

impl State {
    /// How long ago the keys were fetched.
    fn age(&self, now: Now) -> Option<Duration> {
        self.set.as_ref()?;
        self.fetched.map(|fetched| now.running.saturating_sub(fetched.running))
    }
}

/// Waits for a fetch.
async fn finished(pending: Option<watch::Receiver<()>>) {
    if let Some(mut pending) = pending {
        // Nothing is ever sent: it ends with an error when the fetch is over.
        let _ = pending.changed().await;
    }
}

/// Reads a file of keys. Blocks.
fn read(path: &Path) -> Result<(KeySet, list_file::Stamp), String> {
    let read = list_file::read(path);
    let (text, stamp) =
        read.map_err(|error| format!("cannot read keys from {}: {error}", path.display()))?;
    let set = KeySet::parse(&text).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok((set, stamp))
}

fn report_ignored(auth: &str, set: &KeySet) {
    for why in set.ignored() {
        tracing::debug!(auth, why, "key of the issuer ignored");
    }
}

/// `; ignored: …`.
fn shown_ignored(set: &KeySet) -> String {
    match set.ignored() {
        [] => String::new(),
        ignored => format!("; ignored: {}", ignored.join("; ")),
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("name", &self.name)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

//! Rate limits of a mount: how many requests a client may make in some time, and how many that fail.
//!
//! Limits by address are asked before authentication, so that a client beyond its limit costs no password check; limits
//! by principal after it. Both are asked before the plugin, which sees none of this. The counts are in memory: they
//! survive a reload if the limit stays the same, and not a restart.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `clients` | the clients that a limit has counted, in bounded memory |
//! | `filter` | which requests a limit is about |
//! | `gcra` | the arithmetic |

mod clients;
mod filter;
mod gcra;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use keepgate_core::Principal;

use self::clients::{ClientKey, Clients, MAX_CLIENTS, TooEarly};
use self::filter::Filter;
use self::gcra::{Rate, nanos};

/// The most requests in a period or a burst.
const MOST: u32 = 1_000_000;

/// Bounds of a period. Longer ones promise too much, because counts do not survive a restart.
const PERIODS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// A rate limit as an operator writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitOptions {
    /// For messages, logs and metrics.
    pub name: String,
    /// Who is counted separately.
    pub by: RateLimitBy,
    /// How many requests are allowed in each `per`: from 1 to 1,000,000.
    pub requests: u32,
    /// The period, from a second to a day. Requests are allowed evenly over it, and not from its start.
    pub per: Duration,
    /// How many requests may come at once, from a client that made none for a while; `requests` by default.
    pub burst: Option<u32>,
    /// The methods that the limit is about, in upper case; all by default.
    pub methods: Option<Vec<String>>,
    /// Patterns of the paths below the mount that the limit is about; all by default. `*` and `?` do not match `/`.
    pub paths: Option<Vec<String>>,
    /// Which requests count.
    pub count: CountedRequests,
}

/// Who is counted separately by a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitBy {
    /// Each authenticated user. Where nobody authenticates, each address.
    Principal,
    /// Each address of a peer; an IPv6 /64 network is one. All peers on Unix sockets are one.
    Address,
}

/// Which requests count for a rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CountedRequests {
    /// Each one that is not refused by a limit.
    #[default]
    All,
    /// Those answered with 400, 401 or 403, except for the 401 or 403 that asks a client without credentials for them.
    Failed,
}

/// What is wrong with a rate limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateLimitError {
    /// `requests` is out of its bounds.
    #[error("expected a number from 1 to {MOST}, found {0}")]
    Requests(u32),
    /// `burst` is out of its bounds.
    #[error("expected a number from 1 to {MOST}, found {0}")]
    Burst(u32),
    /// `per` is out of its bounds.
    #[error("expected a duration from \"1s\" to \"24h\", found {}", humantime::format_duration(*.0))]
    Per(Duration),
    /// The list of methods is empty.
    #[error(
        "no method is listed; list methods such as \"GET\", or remove the key to limit all of them"
    )]
    NoMethod,
    /// Not a method.
    #[error("expected a method in upper case such as \"GET\", found {0:?}")]
    Method(String),
    /// The list of paths is empty.
    #[error(
        "no path is listed; list patterns such as \"/config/*\", or remove the key to limit all paths"
    )]
    NoPath,
    /// Not a pattern.
    #[error("pattern {pattern:?}: {why}")]
    Path {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The rate limits of a mount.
#[derive(Debug, Default)]
pub struct RateLimits(Vec<Arc<RateLimit>>);

/// A clock: the time since a moment that does not change.
type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

struct RateLimit {
    options: RateLimitOptions,
    filter: Filter,
    clients: Clients,
    clock: Clock,
}

impl RateLimitOptions {
    /// Everything that is wrong with it.
    pub fn problems(&self) -> Vec<RateLimitError> {
        let mut problems = Vec::new();
        if !(1..=MOST).contains(&self.requests) {
            problems.push(RateLimitError::Requests(self.requests));
        }
        problems.extend(
            self.burst.filter(|burst| !(1..=MOST).contains(burst)).map(RateLimitError::Burst),
        );
        if !PERIODS.contains(&self.per) {
            problems.push(RateLimitError::Per(self.per));
        }
        if let Some(methods) = &self.methods {
            problems.extend(methods.is_empty().then_some(RateLimitError::NoMethod));
            problems.extend(methods.iter().filter_map(|method| filter::method(method).err()));
        }
        if let Some(paths) = &self.paths {
            problems.extend(paths.is_empty().then_some(RateLimitError::NoPath));
            problems.extend(paths.iter().filter_map(|path| filter::glob(path).err()));
        }
        problems
    }
}

impl RateLimits {
    /// These limits. Those that are in `before`, too, continue to count where they are.
    ///
    /// # Errors
    ///
    /// Fails if a limit has [problems](RateLimitOptions::problems).
    pub fn new(
        limits: impl IntoIterator<Item = RateLimitOptions>,
        before: Option<&Self>,
    ) -> Result<Self, RateLimitError> {
        let start = Instant::now();
        Self::with_clock(limits, before, move || start.elapsed())
    }

    /// The same with a clock of the caller's: the time since some moment, for tests.
    ///
    /// # Errors
    ///
    /// Fails if a limit has [problems](RateLimitOptions::problems).
    pub fn with_clock(
        limits: impl IntoIterator<Item = RateLimitOptions>,
        before: Option<&Self>,
        clock: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Result<Self, RateLimitError> {
        let (clock, mut all): (Clock, _) = (Arc::new(clock), Vec::new());
        for options in limits {
            let known = before.and_then(|before| before.0.iter().find(|it| it.options == options));
            all.push(match known {
                Some(known) => known.clone(),
                None => Arc::new(RateLimit::new(options, clock.clone())?),
            });
        }
        Ok(Self(all))
    }

    /// The names of the limits.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|limit| limit.options.name.as_str())
    }
}

impl RateLimit {
    fn new(options: RateLimitOptions, clock: Clock) -> Result<Self, RateLimitError> {
        if let Some(problem) = options.problems().into_iter().next() {
            return Err(problem);
        }
        let burst = options.burst.unwrap_or(options.requests);
        let rate = Rate::new(options.requests, options.per, burst);
        let filter = Filter::new(options.methods.as_deref(), options.paths.as_deref())?;
        Ok(Self { filter, clients: Clients::new(rate, MAX_CLIENTS), clock, options })
    }

    fn counts_all(&self) -> bool {
        self.options.count == CountedRequests::All
    }

    fn now(&self) -> u64 {
        nanos((self.clock)())
    }
}

/// A request on its way through the limits of its mount.
pub(super) struct Passage<'a> {
    limits: &'a [Arc<RateLimit>],
    address: ClientKey,
    principal: ClientKey,
    /// Limits that count the request if it fails.
    if_failed: Vec<&'a RateLimit>,
}

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Exceeded<'a> {
    limit: &'a RateLimit,
    wait: Duration,
    /// Whether the client is counted together with others, because there are too many.
    pub(super) shared: bool,
    /// Whether the refusal should be logged; not each one is.
    pub(super) log: bool,
}

impl<'a> Passage<'a> {
    /// A request from this address; `None` if nothing limits it.
    pub(super) fn new(limits: Option<&'a RateLimits>, address: Option<IpAddr>) -> Option<Self> {
        let limits = limits.map(|limits| limits.0.as_slice()).filter(|all| !all.is_empty())?;
        let address = ClientKey::of_address(address);
        Some(Self { limits, address, principal: address, if_failed: Vec::new() })
    }

    /// Sets who sends the request.
    pub(super) fn identify(&mut self, principal: Option<&Principal>) {
        if let Some(principal) = principal {
            self.principal = ClientKey::of_user(&principal.name);
        }
    }

    /// Asks the limits of one kind, and counts the request if none refuses it; `path` is its path below the mount.
    pub(super) fn admit(
        &mut self,
        by: RateLimitBy,
        method: &Method,
        path: &[String],
    ) -> Result<(), Exceeded<'a>> {
        let (limits, key) = (self.limits, self.key(by));
        let meant =
            |limit: &&Arc<RateLimit>| limit.options.by == by && limit.filter.is_match(method, path);
        for (index, limit) in limits.iter().enumerate().filter(|(_, limit)| meant(limit)) {
            let now = limit.now();
            let admitted = match limit.options.count {
                CountedRequests::All => limit.clients.admit(key, now),
                CountedRequests::Failed => limit.clients.peek(key, now),
            };
            if let Err(TooEarly { wait, shared, log }) = admitted {
                // A client that one limit slows down must not use up what another allows.
                let before = limits.iter().take(index).filter(meant);
                before.filter(|limit| limit.counts_all()).for_each(|it| it.clients.uncount(key));
                return Err(Exceeded { limit, wait, shared, log });
            }
            if !limit.counts_all() {
                self.if_failed.push(limit);
            }
        }
        Ok(())
    }

    /// Counts the request for the limits of failed requests, if its response has a status of those.
    pub(super) fn answered(&self, status: StatusCode) {
        let failed = [StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
        if failed.contains(&status) {
            self.failed();
        }
    }

    /// Counts the request for the limits of failed requests.
    ///
    /// Requests that are under way at the same time may together exceed such a limit. What exceeds it is counted, too,
    /// so the client waits longer, and the rate holds in the long run.
    pub(super) fn failed(&self) {
        for limit in &self.if_failed {
            limit.clients.count(self.key(limit.options.by), limit.now());
        }
    }

    fn key(&self, by: RateLimitBy) -> ClientKey {
        match by {
            RateLimitBy::Principal => self.principal,
            RateLimitBy::Address => self.address,
        }
    }
}

impl Exceeded<'_> {
    /// The name of the limit.
    pub(super) fn name(&self) -> &str {
        &self.limit.options.name
    }

    /// When to try again: in this many seconds, at least 1.
    pub(super) fn seconds(&self) -> u64 {
        let partial = u64::from(self.wait.subsec_nanos() > 0);
        (self.wait.as_secs() + partial).max(1)
    }
}

/// For the client.
impl fmt::Display for Exceeded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RateLimitOptions { name, by, requests, per, count, .. } = &self.limit.options;
        let who = match by {
            RateLimitBy::Principal => "user",
            RateLimitBy::Address => "address",
        };
        let what = match (count, requests) {
            (CountedRequests::All, 1) => "request",
            (CountedRequests::All, _) => "requests",
            (CountedRequests::Failed, 1) => "failed request",
            (CountedRequests::Failed, _) => "failed requests",
        };
        let per = humantime::format_duration(*per);
        let (seconds, plural) = match self.seconds() {
            1 => (1, ""),
            seconds => (seconds, "s"),
        };
        write!(
            f,
            "rate limit exceeded: {name:?} allows each {who} {requests} {what} in {per}; try again in {seconds} \
             second{plural}"
        )
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

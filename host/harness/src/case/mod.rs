//! The form of case files, field by field. A field that is added here is also described in this
//! crate's README, and looked at where cases are played or judged. A name that is not here is a
//! mistake in the file, and said so with its line.

mod content;
mod read;
mod rules;
mod values;
mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

pub use content::Content;
pub use read::{Broken, CaseFile, read};
pub use rules::{After, CounterRule, Expect, GaugeRule, HeaderRule, JobRule, Kept, Rule};
pub use values::Values;
pub use words::{Clock, FromShort, Json, Many, Pattern, RequestLine, Short, Span};

/// One promise of a plugin: a world, what is asked of the plugin in it, and what must come of that.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique within the file: words joined by `-`.
    pub name: toml::Spanned<String>,
    /// Where the promise is made, and to what end.
    pub why: Option<String>,
    /// What is there before; laid over the file's own.
    #[serde(default)]
    pub world: World,
    /// The settings must be refused: a pattern of what is said. There are no steps then.
    pub refuses: Option<Pattern>,
    /// What may happen without being expected.
    #[serde(default)]
    pub allow: Vec<Allow>,
    /// In order. The first that fails ends the case.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
    /// What there is in the end; nothing else may have changed.
    #[serde(default)]
    pub after: After,
}

/// What a case does not look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allow {
    /// Changed blobs.
    Blobs,
    /// Jobs.
    Jobs,
    /// Warnings and errors in the log.
    Log,
    /// Faults that did not happen.
    Faults,
    /// Calls to the host for what the world does not grant.
    Calls,
}

/// What is there before anything is asked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct World {
    /// The mount's.
    pub settings: Option<serde_json::Map<String, serde_json::Value>>,
    /// The time of day at the start; it goes on as the case waits, and no faster.
    pub clock: Option<Clock>,
    /// Of what is random.
    pub seed: Option<u64>,
    /// Who asks, where a step says nothing else.
    pub user: Option<Short<User>>,
    /// In the store `main`.
    pub blobs: BTreeMap<String, Short<Content>>,
    /// Empty folders in the store `main`.
    pub folders: Vec<String>,
    /// Of the store `main`.
    pub policy: Option<Policy>,
    /// Further stores.
    pub store: BTreeMap<String, StoreWorld>,
    /// Clusters of etcd, by the names under which they are granted.
    pub cluster: BTreeMap<String, Vec<Member>>,
    /// What goes wrong in stores.
    pub fault: Vec<Fault>,
    /// What a call may use.
    pub limits: Option<Limits>,
    /// Instances serve several requests.
    pub warm: Option<bool>,
    /// The largest body that may be spooled, in bytes; without it there is no spool.
    pub spool: Option<u64>,
    /// False: the mount has no jobs, whatever the plugin says of itself.
    pub jobs: Option<bool>,
}

/// A store besides `main`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreWorld {
    /// By their keys.
    pub blobs: BTreeMap<String, Short<Content>>,
    /// Empty folders.
    pub folders: Vec<String>,
    /// What may be done with it.
    pub policy: Option<Policy>,
}

/// What may be done with a store.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Nothing is deleted or replaced.
    pub append_only: bool,
    /// Nothing is changed.
    pub read_only: bool,
    /// Keys that `append_only` does not protect.
    pub except: Vec<String>,
}

/// Who asks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Empty: nobody was authenticated.
    pub name: String,
    /// What else is known of them.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
}

impl FromShort for User {
    fn from_text(text: &str) -> Self {
        Self { name: text.to_owned(), claims: BTreeMap::new() }
    }
}

/// A member of a cluster of etcd, and what it does when it is asked for a snapshot.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its URL.
    pub endpoint: String,
    /// The bytes of its snapshot.
    #[serde(default)]
    pub sends: Short<Content>,
    /// It cannot be asked: why.
    pub refuses: Option<String>,
    /// It breaks off after so many bytes.
    pub breaks: Option<u64>,
    /// It is silent after so many bytes; after a minute that counts as broken off.
    pub stalls: Option<u64>,
    /// `breaks` and `stalls` happen so many times; always, where nothing is said.
    pub times: Option<u32>,
    /// Of etcd.
    #[serde(default = "version")]
    pub version: String,
    /// Of the snapshot.
    #[serde(default = "one")]
    pub revision: i64,
    /// In the snapshot.
    pub keys: Option<u64>,
}

fn version() -> String {
    "3.5.0".to_owned()
}

fn one() -> i64 {
    1
}

/// Something that goes wrong in a store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which store.
    #[serde(default = "main_store")]
    pub store: String,
    /// In which call.
    pub on: Operation,
    /// A pattern of keys, as in `data/**`; without it any. Of a listing, the folder.
    pub key: Option<String>,
    /// How it fails.
    pub fails: Failing,
    /// So many bytes of the body pass before.
    pub after: Option<u64>,
    /// So many calls pass before.
    #[serde(default)]
    pub skip: u32,
    /// So many calls fail; 0: all.
    #[serde(default = "once")]
    pub times: u32,
}

pub(crate) fn main_store() -> String {
    "main".to_owned()
}

fn once() -> u32 {
    1
}

/// A call to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names of the calls")]
pub enum Operation {
    Head,
    Get,
    Put,
    Concat,
    Delete,
    List,
    Prepare,
}

/// How a store's call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failing {
    /// No such blob.
    NotFound,
    /// Another blob holds the key.
    AlreadyExists,
    /// The blob is another one by now.
    PreconditionFailed,
    /// The bytes are others; by default after all of them.
    ChecksumMismatch,
    /// The disk is full.
    NoSpace,
    /// A quota is full.
    Quota,
    /// A policy forbids it.
    Denied,
    /// The disk is broken.
    Io,
    /// The body ends too early.
    Truncated,
    /// Nothing comes any more.
    Stall,
}

/// What a call may use. What is left out is as in a configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Computing.
    pub cpu: Option<Span>,
    /// From request to reply.
    pub time: Option<Span>,
    /// Of one attempt of a job.
    pub job_time: Option<Span>,
}

/// Something that is asked of the plugin, or done meanwhile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// So much time passes first.
    pub advance: Option<Span>,
    /// Blobs put into `main` behind the plugin's back, or removed (`false`).
    pub place: BTreeMap<String, Short<Kept>>,
    /// `METHOD /path?query`.
    pub send: Option<RequestLine>,
    /// Of the request.
    pub headers: BTreeMap<String, Many<String>>,
    /// Who asks.
    pub user: Option<Short<User>>,
    /// The mount as the client reaches it; else what the header `host` says, or `http://localhost`.
    pub base: Option<String>,
    /// IP address of the client.
    pub address: Option<IpAddr>,
    /// Of the request.
    pub body: Option<Short<Content>>,
    /// The body's length is not said beforehand.
    pub unsized_body: bool,
    /// The client breaks off after so many bytes of the body.
    pub cut: Option<u64>,
    /// The client sends nothing any more after so many bytes.
    pub stall: Option<u64>,
    /// The client goes away.
    pub leaves: Option<Leaves>,
    /// Instead of `send`: a job of this kind, as a schedule starts it, is run to its end.
    pub run: Option<String>,
    /// What the job is given.
    pub input: Option<Json>,
    /// Waits until no job is left that waits or runs.
    pub settle: bool,
    /// Named parts of the reply, for `{name}` in what follows: a pointer into its JSON as in
    /// `/job`, or `header NAME`.
    pub save: BTreeMap<String, String>,
    /// What must come of it. Without it nothing is right, and `--update` writes what came.
    pub expect: Option<Expect>,
}

/// When a client goes away.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Leaves {
    /// After it sent so many bytes of the body.
    pub sent: Option<u64>,
    /// After so many bytes of the reply's body.
    pub received: Option<u64>,
    /// After so much time.
    pub after: Option<Span>,
}

impl World {
    /// This world with another laid over it.
    #[must_use]
    pub fn with(&self, over: &Self) -> Self {
        let mut world = self.clone();
        let over = over.clone();
        world.settings = over.settings.or(world.settings);
        world.clock = over.clock.or(world.clock);
        world.seed = over.seed.or(world.seed);
        world.user = over.user.or(world.user);
        world.blobs.extend(over.blobs);
        world.folders.extend(over.folders);
        world.policy = over.policy.or(world.policy);
        world.store.extend(over.store);
        world.cluster.extend(over.cluster);
        world.fault.extend(over.fault);
        world.limits = over.limits.or(world.limits);
        world.warm = over.warm.or(world.warm);
        world.spool = over.spool.or(world.spool);
        world.jobs = over.jobs.or(world.jobs);
        world
    }
}

impl Fault {
    /// The next call of this kind fails so, in the store `main`, under whatever key.
    pub fn new(on: Operation, fails: Failing) -> Self {
        Self { store: main_store(), on, key: None, fails, after: None, skip: 0, times: once() }
    }
}

impl Member {
    /// A member that sends these bytes.
    pub fn new(endpoint: &str, snapshot: &[u8]) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            sends: Short(Content::of(snapshot)),
            refuses: None,
            breaks: None,
            stalls: None,
            times: None,
            version: version(),
            revision: one(),
            keys: None,
        }
    }
}

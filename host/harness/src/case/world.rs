//! What is there before anything is asked: the `world` of a case.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Clock, Content, FromShort, Short, Span};
use crate::double::Doubles;

/// What is there before anything is asked.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The mount's.
    pub settings: Option<serde_json::Map<String, serde_json::Value>>,
    /// The time of day at the start; it goes on as the case waits, and no faster.
    pub clock: Option<Clock>,
    /// Of what is random.
    pub seed: Option<u64>,
    /// Who asks if a step says nothing else.
    pub user: Option<Short<User>>,
    /// The login of every step that has none of its own: `NAME:PASSWORD` for HTTP Basic.
    pub login: Option<String>,
    /// In the store `main`.
    pub blobs: BTreeMap<String, Short<Content>>,
    /// Empty folders in the store `main`.
    pub folders: Vec<String>,
    /// Of the store `main`.
    pub policy: Option<Policy>,
    /// Further stores.
    pub store: BTreeMap<String, StoreWorld>,
    /// What stands in for things outside the host, each by its own key.
    pub doubles: Doubles,
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

/// The keys of `world` besides those of the doubles.
const KEYS: [&str; 14] = [
    "settings", "clock", "seed", "user", "login", "blobs", "folders", "policy", "store", "fault",
    "limits", "warm", "spool", "jobs",
];

/// A key of `world`. An unknown one is refused here, so that the error has its place.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let all = || KEYS.iter().chain(Doubles::KEYS);
        if all().any(|known| *known == name) {
            return Ok(Self(name));
        }
        let known = all().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
        Err(D::Error::custom(format!("unknown field `{name}`, expected one of {known}")))
    }
}

// By hand, because the doubles bring keys of their own.
impl<'de> Deserialize<'de> for World {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = World;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<World, A::Error> {
                let mut world = World::default();
                while let Some(Name(name)) = map.next_key()? {
                    match name.as_str() {
                        "settings" => world.settings = map.next_value()?,
                        "clock" => world.clock = map.next_value()?,
                        "seed" => world.seed = map.next_value()?,
                        "user" => world.user = map.next_value()?,
                        "login" => world.login = map.next_value()?,
                        "blobs" => world.blobs = map.next_value()?,
                        "folders" => world.folders = map.next_value()?,
                        "policy" => world.policy = map.next_value()?,
                        "store" => world.store = map.next_value()?,
                        "fault" => world.fault = map.next_value()?,
                        "limits" => world.limits = map.next_value()?,
                        "warm" => world.warm = map.next_value()?,
                        "spool" => world.spool = map.next_value()?,
                        "jobs" => world.jobs = map.next_value()?,
                        double => world.doubles.read(double, &mut map)?,
                    }
                }
                Ok(world)
            }
        }

        deserializer.deserialize_map(Fields)
    }
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
        world.login = over.login.or(world.login);
        world.blobs.extend(over.blobs);
        world.folders.extend(over.folders);
        world.policy = over.policy.or(world.policy);
        world.store.extend(over.store);
        world.fault.extend(over.fault);
        world.limits = over.limits.or(world.limits);
        world.warm = over.warm.or(world.warm);
        world.spool = over.spool.or(world.spool);
        world.jobs = over.jobs.or(world.jobs);
        world.doubles.extend(over.doubles);
        world
    }
}

impl Fault {
    /// The next call of this kind fails so, in the store `main`, under whatever key.
    pub fn new(on: Operation, fails: Failing) -> Self {
        Self { store: main_store(), on, key: None, fails, after: None, skip: 0, times: once() }
    }
}

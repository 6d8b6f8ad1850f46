//! The `world` of a case: its initial state.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Clock, Content, FromShort, Short, Span};
use crate::double::Doubles;

/// The initial state.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The mount's settings.
    pub settings: Option<serde_json::Map<String, serde_json::Value>>,
    /// The time at the start. It advances only as far as the case waits.
    pub clock: Option<Clock>,
    /// The seed of random values.
    pub seed: Option<u64>,
    /// The user of steps that name none.
    pub user: Option<Short<User>>,
    /// The login of steps that have none: `NAME:PASSWORD` for HTTP Basic.
    pub login: Option<String>,
    /// Blobs in the store `main`.
    pub blobs: BTreeMap<String, Short<Content>>,
    /// Empty folders in the store `main`.
    pub folders: Vec<String>,
    /// The policy of the store `main`.
    pub policy: Option<Policy>,
    /// Further stores.
    pub store: BTreeMap<String, StoreWorld>,
    /// Test doubles for what is outside the host, each under its own key.
    pub doubles: Doubles,
    /// Faults of stores.
    pub fault: Vec<Fault>,
    /// The limits of a call.
    pub limits: Option<Limits>,
    /// Whether instances serve several requests.
    pub warm: Option<bool>,
    /// The largest body that may be spooled, in bytes. Without it, spooling is refused.
    pub spool: Option<u64>,
    /// `false` if the mount must not have jobs, whatever the plugin exports.
    pub jobs: Option<bool>,
}

/// A store besides `main`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreWorld {
    /// Blobs by key.
    pub blobs: BTreeMap<String, Short<Content>>,
    /// Empty folders.
    pub folders: Vec<String>,
    /// The store's policy.
    pub policy: Option<Policy>,
}

/// The policy of a store.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Blobs cannot be deleted or replaced.
    pub append_only: bool,
    /// Nothing can be changed.
    pub read_only: bool,
    /// Keys that `append_only` does not protect.
    pub except: Vec<String>,
}

/// An authenticated user.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name; empty for an anonymous request.
    pub name: String,
    /// The user's claims.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
}

impl FromShort for User {
    fn from_text(text: &str) -> Self {
        Self { name: text.to_owned(), claims: BTreeMap::new() }
    }
}

/// A fault of a store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The store.
    #[serde(default = "main_store")]
    pub store: String,
    /// The operation that fails.
    pub on: Operation,
    /// A pattern for keys, such as `data/**`; without it, any key. For a list, the folder.
    pub key: Option<String>,
    /// How it fails.
    pub fails: Failing,
    /// The number of bytes of the body that are transferred before the failure.
    pub after: Option<u64>,
    /// The number of calls that succeed first.
    #[serde(default)]
    pub skip: u32,
    /// The number of calls that then fail; 0 for all.
    #[serde(default = "once")]
    pub times: u32,
}

pub(crate) fn main_store() -> String {
    "main".to_owned()
}

fn once() -> u32 {
    1
}

/// An operation of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names of the calls")]
pub enum Operation {
    Head,
    Get,
    Put,
    Concat,
    Rename,
    Delete,
    List,
    Prepare,
}

/// The way in which an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failing {
    /// The blob does not exist.
    NotFound,
    /// Another blob exists under the key.
    AlreadyExists,
    /// The blob has been replaced.
    PreconditionFailed,
    /// The bytes have another checksum; by default detected at their end.
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
    /// No more data arrives.
    Stall,
}

/// The limits of a call. Those that are not set are as in a configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// CPU time.
    pub cpu: Option<Span>,
    /// Time from the request to the reply.
    pub time: Option<Span>,
    /// Time for one attempt of a job.
    pub job_time: Option<Span>,
}

/// The keys of `world`, without those of test doubles.
const KEYS: [&str; 14] = [
    "settings", "clock", "seed", "user", "login", "blobs", "folders", "policy", "store", "fault",
    "limits", "warm", "spool", "jobs",
];

/// A key of `world`. Unknown ones are rejected here, so that the error has a position.
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

// Written by hand, because test doubles bring keys of their own.
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
    /// This world, with the fields of another one taking precedence.
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
    /// A fault of the next operation of this kind in the store `main`, whatever the key.
    pub fn new(on: Operation, fails: Failing) -> Self {
        Self { store: main_store(), on, key: None, fails, after: None, skip: 0, times: once() }
    }
}

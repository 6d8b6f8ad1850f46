//! The test kit: a plugin with its surroundings, for `cargo test`. It can do whatever cases can; see
//! [`Harness`]. Calls block until they are finished, so tests need not be async.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keepgate_jobs::Job;
use tokio::runtime::{Builder, Runtime};

use crate::case::{self, Clock, Content, Fault, Limits, Policy, Short, StoreWorld, User};
use crate::case::{FromShort as _, Values};
use crate::fixture::{Call, Count, Fixture, Gauge, MAIN, NoFixture, Response, Sending, principal};
use crate::plugin::{PluginError, PluginUnderTest};

/// A plugin, and the description of its world. A clone shares the compiled plugin.
///
/// ```no_run
/// use keepgate_harness::{Harness, component};
///
/// let harness = Harness::load(&component("hello")?)?;
/// let world = harness.clone().user("ann").blob("notes/old", b"old").start()?;
///
/// let reply = world.post("/notes/new", b"new");
/// assert_eq!(reply.status, 201);
/// assert_eq!(world.get("/notes/new").text(), "new");
/// assert_eq!(world.blob("notes/new").as_deref(), Some(&b"new"[..]));
/// assert_eq!(world.changed(), ["notes/new"]);
/// assert!(world.calls().iter().any(|call| call.import == "blobs.put"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Harness {
    plugin: Arc<PluginUnderTest>,
    pub(crate) world: case::World,
}

/// Why a world cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The plugin or the host refuses the mount, for example because of its settings.
    #[error("{0}")]
    Refused(String),
    /// The description is contradictory or incomplete.
    #[error("{0}")]
    Invalid(String),
}

impl Harness {
    /// Loads and compiles a component. To use it several times, load it once and clone it.
    ///
    /// # Errors
    ///
    /// Why the server would refuse the file.
    pub fn load(file: &Path) -> Result<Self, PluginError> {
        Ok(Self { plugin: Arc::new(PluginUnderTest::load(file, None)?), world: Default::default() })
    }

    /// Sets the mount's settings. Anything but an object means none.
    #[must_use]
    pub fn settings(mut self, settings: serde_json::Value) -> Self {
        self.world.settings = match settings {
            serde_json::Value::Object(settings) => Some(settings),
            _ => None,
        };
        self
    }

    /// Adds a blob to the store `main`.
    #[must_use]
    pub fn blob(mut self, key: &str, bytes: &[u8]) -> Self {
        self.world.blobs.insert(key.to_owned(), Short(Content::of(bytes)));
        self
    }

    /// Adds an empty folder to the store `main`.
    #[must_use]
    pub fn folder(mut self, folder: &str) -> Self {
        self.world.folders.push(folder.to_owned());
        self
    }

    /// Adds another store.
    #[must_use]
    pub fn store(mut self, name: &str, store: StoreWorld) -> Self {
        self.world.store.insert(name.to_owned(), store);
        self
    }

    /// Makes the store `main` append-only, except for keys that match these patterns.
    #[must_use]
    pub fn append_only(mut self, except: &[&str]) -> Self {
        let except = except.iter().map(|&pattern| pattern.to_owned()).collect();
        self.world.policy = Some(Policy { append_only: true, except, ..Policy::default() });
        self
    }

    /// Sets the user of requests that name none.
    #[must_use]
    pub fn user(mut self, name: &str) -> Self {
        self.world.user = Some(Short(User::from_text(name)));
        self
    }

    /// Sets the time at the start.
    #[must_use]
    pub fn clock(mut self, start: std::time::SystemTime) -> Self {
        self.world.clock = Some(Clock(start));
        self
    }

    /// Sets the seed of random values.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.world.seed = Some(seed);
        self
    }

    /// Adds a fault of a store.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.world.fault.push(fault);
        self
    }

    /// Sets the limits of a call.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.world.limits = Some(limits);
        self
    }

    /// Lets instances serve several requests.
    #[must_use]
    pub fn warm(mut self) -> Self {
        self.world.warm = Some(true);
        self
    }

    /// Starts the world.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the plugin refuses it or the description is invalid.
    pub fn start(self) -> Result<Running, StartError> {
        let invalid = |error: &dyn std::fmt::Display| StartError::Invalid(error.to_string());
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| invalid(&error))?;
        let values = Values::default();
        let world = runtime.block_on(async {
            let world = Fixture::start(&self.plugin, &self.world, Path::new("."), &values).await;
            let world = world.map_err(|error| match error {
                NoFixture::Refused(why) => StartError::Refused(why),
                NoFixture::Invalid(why) => StartError::Invalid(why),
            })?;
            let before = world.blobs().await.map_err(|error| invalid(&error))?;
            Ok::<_, StartError>((world, before))
        });
        let (world, before) = world?;
        let before = before.into_iter().map(|(name, blobs)| {
            (name, blobs.into_iter().map(|(key, (_, bytes))| (key, bytes.to_vec())).collect())
        });
        Ok(Running { world, before: before.collect(), user: self.world.user, runtime })
    }
}

/// Blobs of all stores, by store and key.
type Stores = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// A plugin in its world. The clock stands still while anything works, and jumps ahead when everything waits,
/// so no test sleeps.
pub struct Running {
    // Dropped before the runtime, because its timers belong to that.
    world: Fixture,
    before: Stores,
    user: Option<Short<User>>,
    runtime: Runtime,
}

impl Running {
    /// Sends a `GET`.
    pub fn get(&self, target: &str) -> Response {
        self.send(self.request("GET", target, b""))
    }

    /// Sends a `HEAD`.
    pub fn head(&self, target: &str) -> Response {
        self.send(self.request("HEAD", target, b""))
    }

    /// Sends a `DELETE`.
    pub fn delete(&self, target: &str) -> Response {
        self.send(self.request("DELETE", target, b""))
    }

    /// Sends a `POST`.
    pub fn post(&self, target: &str, body: &[u8]) -> Response {
        self.send(self.request("POST", target, body))
    }

    /// Sends a `PUT`.
    pub fn put(&self, target: &str, body: &[u8]) -> Response {
        self.send(self.request("PUT", target, body))
    }

    /// A request of this world's user, to be changed before it is sent.
    ///
    /// ```no_run
    /// # let world = keepgate_harness::Harness::load("x.wasm".as_ref())?.start()?;
    /// let mut upload = world.request("PUT", "/archive", b"all of it");
    /// upload.headers.push(("x-tag".to_owned(), "daily".to_owned()));
    /// upload.cut = Some(3);
    /// assert_eq!(world.send(upload).status, 400);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn request(&self, method: &str, target: &str, body: &[u8]) -> Sending {
        Sending {
            method: method.to_owned(),
            target: target.to_owned(),
            principal: self.user.as_ref().and_then(|user| principal(&user.0)),
            body: body.to_vec(),
            ..Sending::default()
        }
    }

    /// Sends a request. If the target is not a path, the reply is 400, as from the server.
    pub fn send(&self, sending: Sending) -> Response {
        let sent = self.runtime.block_on(self.world.send(sending));
        sent.unwrap_or_else(|why| Response {
            status: 400,
            body: why.into_bytes(),
            ..Response::default()
        })
    }

    /// Runs a job to its end, as a schedule would.
    ///
    /// # Errors
    ///
    /// Why it could not be started, for example because the plugin rejects its input.
    pub fn run_job(&self, kind: &str, input: &[u8]) -> Result<Job, String> {
        self.runtime.block_on(self.world.run(kind, input))
    }

    /// Waits until no job is queued or running, and returns all jobs in the order in which they were started.
    ///
    /// # Errors
    ///
    /// If they do not end within a week of the world's clock.
    pub fn jobs(&self) -> Result<Vec<Job>, String> {
        self.runtime.block_on(async {
            self.world.settle().await?;
            self.world.jobs().await
        })
    }

    /// Lets this much time pass.
    pub fn advance(&self, span: Duration) {
        self.runtime.block_on(tokio::time::advance(span));
    }

    /// A blob of the store `main` in its current state.
    pub fn blob(&self, key: &str) -> Option<Vec<u8>> {
        self.blobs().get(key).cloned()
    }

    /// All blobs of the store `main`.
    pub fn blobs(&self) -> BTreeMap<String, Vec<u8>> {
        self.stores().remove(MAIN).unwrap_or_default()
    }

    /// All blobs of all stores.
    pub fn stores(&self) -> Stores {
        let stores = self.runtime.block_on(self.world.blobs()).unwrap_or_default();
        let plain = stores.into_iter().map(|(name, blobs)| {
            (name, blobs.into_iter().map(|(key, (_, bytes))| (key, bytes.to_vec())).collect())
        });
        plain.collect()
    }

    /// All blobs of all stores at the start.
    pub fn before(&self) -> &Stores {
        &self.before
    }

    /// Keys of the store `main` that were added, changed or removed since the start, in order.
    pub fn changed(&self) -> Vec<String> {
        let (now, nothing) = (self.blobs(), BTreeMap::new());
        let before = self.before.get(MAIN).unwrap_or(&nothing);
        let mut keys: Vec<String> = before.keys().chain(now.keys()).cloned().collect();
        keys.sort();
        keys.dedup();
        keys.retain(|key| before.get(key) != now.get(key));
        keys
    }

    /// The calls that the plugin made to its host, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.world.recorder.recorded().calls.clone()
    }

    /// The lines that it logged, such as `warn: text`.
    pub fn log(&self) -> Vec<String> {
        self.world.recorder.recorded().log.clone()
    }

    /// What it added to its counters.
    pub fn counts(&self) -> Vec<Count> {
        self.world.recorder.recorded().counts.clone()
    }

    /// The values that it set its gauges to, in order.
    pub fn gauges(&self) -> Vec<Gauge> {
        self.world.recorder.recorded().gauges.clone()
    }

    /// Faults that never occurred, usually because of a mistake in the test.
    pub fn unmet_faults(&self) -> Vec<String> {
        self.world.unmet_faults()
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("calls", &self.calls().len()).finish_non_exhaustive()
    }
}

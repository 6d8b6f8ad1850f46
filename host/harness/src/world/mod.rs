//! A world: a mount of the real runtime with a plugin in it, and around it stores in memory, told
//! clusters, a clock and a client. What is told here is read from cases or from the kit's builder;
//! nothing here knows what is expected.

mod client;
mod cluster;
mod ear;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use keepgate_jobs::{Filter, Job, Jobs, NewJob, Options, WhenBusy};
use keepgate_pipes::Spool;
use keepgate_runtime::capability::blobs::{self, Stores};
use keepgate_runtime::capability::etcd::Clusters;
use keepgate_runtime::capability::jobs::{self, JobQueue};
use keepgate_runtime::capability::pipes::SpoolFolder;
use keepgate_runtime::capability::stand_in;
use keepgate_runtime::{Faults, Grants, Hooks, JobRunner, Limits, Mount, MountSpec, Principal};
use keepgate_store::guard::Policy;
use keepgate_store::{BlobStore, Fields, Folder, Info, Key, PutOptions};
use tokio::sync::oneshot;

use crate::case::{self, Content, Short, Values};
use crate::plugin::PluginUnderTest;
use store::{ArmedFault, WorldStore};

pub use client::{Response, Sending};
pub use ear::{Call, Count, Gauge};
pub(crate) use ear::{Ear, Heard, WorldClock};

/// The store that a case means where it names none.
pub(crate) const MAIN: &str = "main";
/// Where the plugin is mounted.
const MOUNT: &str = "/";
/// The time of day where a case says nothing.
const START: Duration = Duration::from_secs(1_800_000_000);
/// More than a server gives: a machine that tests is busy, and what waits for a processor is charged.
const CPU: Duration = Duration::from_secs(10);
/// So long is waited for jobs, by the case's clock.
const SETTLING: Duration = Duration::from_secs(7 * 24 * 3600);

/// Blobs by their keys.
pub(crate) type Blobs = BTreeMap<String, (Info, Bytes)>;

/// Why there is no world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoWorld {
    /// The plugin or the host refuses the mount, in words.
    Refused(String),
    /// What is told makes no sense.
    Told(String),
}

impl From<String> for NoWorld {
    fn from(why: String) -> Self {
        Self::Told(why)
    }
}

/// A mount and all around it.
pub(crate) struct World {
    pub(crate) ear: Arc<Ear>,
    mount: Arc<Mount>,
    stores: BTreeMap<String, Arc<WorldStore>>,
    faults: Vec<Arc<ArmedFault>>,
    jobs: Option<Arc<Jobs>>,
    /// Requests so far.
    requests: AtomicU64,
    _stop: Option<oneshot::Sender<()>>,
    _spool: Option<tempfile::TempDir>,
}

impl World {
    /// Makes it, inside a runtime whose clock is paused.
    pub(crate) async fn start(
        plugin: &PluginUnderTest,
        told: &case::World,
        folder: &Path,
        values: &Values,
    ) -> Result<Self, NoWorld> {
        let start = told.clock.map_or(SystemTime::UNIX_EPOCH + START, |clock| clock.0);
        let clock = WorldClock::new(start);
        let ear = Ear::new(clock.clone(), told.seed.unwrap_or(0));
        let faults = told.fault.iter().map(|told| ArmedFault::new(told).map(Arc::new));
        let faults = faults.collect::<Result<Vec<_>, _>>()?;
        let mut spec = MountSpec {
            path: MOUNT.to_owned(),
            plugin: plugin.name().to_owned(),
            settings: told.settings.clone().unwrap_or_default(),
            grants: Grants::default().with(Hooks(ear.clone())),
            limits: limits(told),
            warm: told.warm.unwrap_or(false),
        };
        let mut stores = BTreeMap::new();
        let mut granted = Stores::default();
        for name in names(plugin, told) {
            let armed = faults.iter().zip(&told.fault).filter(|(_, told)| told.store == name);
            let store =
                WorldStore::new(clock.clone(), armed.map(|(armed, _)| armed.clone()).collect());
            let policy = fill(&store, told, &name, folder, values).await?;
            let guarded: Arc<dyn BlobStore> = policy
                .guard(store.clone())
                .map_err(|error| format!("the policy of the store {name}: {error}"))?;
            granted.0.insert(name.clone(), Arc::new(guarded));
            stores.insert(name, store);
        }
        spec.grants.insert(granted);
        let mut clusters = Clusters::default();
        for (name, members) in &told.cluster {
            let members = members.iter().map(|member| {
                member.sends.0.bytes(folder, values).map(|bytes| (member.clone(), bytes))
            });
            let cluster = cluster::ToldCluster::new(members.collect::<Result<_, _>>()?);
            clusters.0.insert(name.clone(), Arc::new(cluster));
        }
        spec.grants.insert(clusters);
        // What the plugin says that it asks for is there, and answers nothing where nothing is told.
        stand_in(plugin.requests(), &mut spec.grants);
        let spool = spool(told, &mut spec)?;
        let runs_jobs = !plugin.requests().names(jobs::REQUESTS).is_empty();
        let mut jobs = None;
        if told.jobs.unwrap_or(runs_jobs) {
            let queue = Jobs::with_clock(None, Options::default(), Arc::new(clock));
            let queue = queue.map_err(|error| error.to_string())?;
            spec.grants.insert(JobQueue(queue.clone()));
            jobs = Some(queue);
        }
        let generation = plugin.generation(spec).await;
        let Some(mount) = generation.mounts.first().cloned() else {
            return Err(NoWorld::Told("there is no mount".to_owned()));
        };
        if let Err(why) = mount.serving() {
            return Err(NoWorld::Refused(why.to_owned()));
        }
        let stop = jobs.clone().map(|jobs| {
            let (stop, stopped) = oneshot::channel::<()>();
            let runner = Arc::new(JobRunner::new(move || generation.clone()));
            tokio::spawn(async move { jobs.run(runner, async { drop(stopped.await) }).await });
            stop
        });
        let requests = AtomicU64::new(0);
        Ok(Self { ear, mount, stores, faults, jobs, requests, _stop: stop, _spool: spool })
    }

    /// Sends a request, as a client does.
    pub(crate) async fn send(&self, sending: Sending) -> Result<Response, String> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        client::send(&self.mount, sending, format!("request-{number}")).await
    }

    /// Runs a job as a schedule does, to its end; `Err` where the plugin refuses it.
    pub(crate) async fn run(&self, kind: &str, input: &[u8]) -> Result<Job, String> {
        let jobs = self.jobs.as_ref().ok_or("this world has no jobs")?;
        let key = self.mount.check_job(kind, input).await.ok_or("nothing serves the mount")??;
        let new = NewJob {
            mount: MOUNT.to_owned(),
            kind: kind.to_owned(),
            key,
            origin: "operator".to_owned(),
            schedule: None,
            user: None,
            input: input.to_vec(),
            attempts: 1,
            backoff: Duration::ZERO,
            not_before: None,
            finally: None,
            when_busy: WhenBusy::Queue,
        };
        let id = jobs.start(new).await.map_err(|error| error.to_string())?;
        let wait = async {
            loop {
                let job = jobs.get(&id).await.map_err(|error| error.to_string())?;
                let job = job.ok_or("the job is not known any more")?;
                if job.state.is_over() {
                    return Ok(job);
                }
                let _ = jobs.wait(&id, job.state, SETTLING).await;
            }
        };
        let long = || Err("the job did not end within a week of the case's clock".to_owned());
        tokio::time::timeout(SETTLING, wait).await.unwrap_or_else(|_| long())
    }

    /// Waits until no job waits or runs.
    pub(crate) async fn settle(&self) -> Result<(), String> {
        let Some(jobs) = &self.jobs else { return Ok(()) };
        let wait = async {
            while let Some(job) = self.jobs().await?.into_iter().find(|job| !job.state.is_over()) {
                let waited = jobs.wait(&job.id, job.state, SETTLING).await;
                waited.map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        let long = || Err("jobs did not end within a week of the case's clock".to_owned());
        tokio::time::timeout(SETTLING, wait).await.unwrap_or_else(|_| long())
    }

    /// All jobs, in the order of their starts.
    pub(crate) async fn jobs(&self) -> Result<Vec<Job>, String> {
        let Some(jobs) = &self.jobs else { return Ok(Vec::new()) };
        let listed = jobs.list(Filter::default(), 10_000).await;
        let mut listed = listed.map_err(|error| error.to_string())?;
        listed.reverse();
        Ok(listed)
    }

    /// All blobs of all stores.
    pub(crate) async fn blobs(&self) -> Result<BTreeMap<String, Blobs>, String> {
        let mut all = BTreeMap::new();
        for (name, store) in &self.stores {
            let blobs = store.blobs().await.map_err(|error| error.to_string())?;
            all.insert(name.clone(), blobs);
        }
        Ok(all)
    }

    /// Whether the store `main` has a folder.
    pub(crate) async fn has_folder(&self, folder: &str) -> bool {
        match self.stores.get(MAIN) {
            Some(store) => store.has_folder(folder).await,
            None => false,
        }
    }

    /// Puts a blob into `main` behind the plugin's back, or takes it away.
    pub(crate) async fn place(
        &self,
        key: &str,
        content: Option<&Content>,
        folder: &Path,
        values: &Values,
    ) -> Result<(), String> {
        let store = self.stores.get(MAIN).ok_or("there is no store `main`")?;
        match content {
            Some(content) => place(store, key, content, folder, values).await,
            None => {
                let key = Key::new(key).map_err(|error| error.to_string())?;
                store.remove(&key).await.map_err(|error| error.to_string())
            }
        }
    }

    /// Faults that never happened, in words.
    pub(crate) fn unmet_faults(&self) -> Vec<String> {
        self.faults.iter().filter_map(|fault| fault.unmet()).collect()
    }
}

/// Somebody whom the host has authenticated; none where the name is empty.
pub(crate) fn principal(user: &case::User) -> Option<Principal> {
    let claims: Fields = user.claims.clone().into_iter().collect();
    let principal = || Principal { name: user.name.clone(), method: "test".into(), claims };
    (!user.name.is_empty()).then(principal)
}

/// Stores that the plugin says that it opens, and those that the world tells of.
fn names(plugin: &PluginUnderTest, told: &case::World) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = told.store.keys().cloned().collect();
    names.extend(plugin.requests().names(blobs::REQUESTS).iter().cloned());
    if !(told.blobs.is_empty() && told.folders.is_empty() && told.policy.is_none()) {
        names.insert(MAIN.to_owned());
    }
    names
}

fn limits(told: &case::World) -> Limits {
    let (standard, told) = (Limits::default(), told.limits.clone().unwrap_or_default());
    Limits {
        memory: told.memory.unwrap_or(standard.memory),
        cpu: told.cpu.map_or(CPU, |span| span.0),
        time: told.time.map_or(standard.time, |span| span.0),
        job_time: told.job_time.map_or(standard.job_time, |span| span.0),
        calls: standard.calls,
        // A case is about one plugin's breakdowns, not about what a gateway makes of many.
        faults: Faults { count: 0, ..standard.faults },
    }
}

/// Puts into a store what is there before; its policy.
async fn fill(
    store: &WorldStore,
    told: &case::World,
    name: &str,
    folder: &Path,
    values: &Values,
) -> Result<Policy, String> {
    let other = told.store.get(name).cloned().unwrap_or_default();
    let (blobs, folders, policy) = if name == MAIN {
        (&told.blobs, &told.folders, told.policy.clone())
    } else {
        (&other.blobs, &other.folders, other.policy.clone())
    };
    for (key, Short(content)) in blobs {
        place(store, &values.fill(key)?, content, folder, values).await?;
    }
    let named = folders.iter().map(|name| {
        Folder::new(name.as_str()).map_err(|error| format!("the folder {name:?}: {error}"))
    });
    let named = named.collect::<Result<Vec<_>, _>>()?;
    store.make(&named).await.map_err(|error| error.to_string())?;
    let policy = policy.unwrap_or_default();
    Ok(Policy {
        append_only: policy.append_only,
        read_only: policy.read_only,
        unverified: false,
        except: policy.except,
    })
}

async fn place(
    store: &WorldStore,
    key: &str,
    content: &Content,
    folder: &Path,
    values: &Values,
) -> Result<(), String> {
    let refused = |error: keepgate_store::StoreError| format!("the blob {key:?}: {error}");
    let bytes = content.bytes(folder, values)?;
    let options = PutOptions {
        content_type: content.content_type.clone(),
        metadata: content.metadata.clone().into_iter().collect(),
        ..PutOptions::default()
    };
    let key = Key::new(key).map_err(refused)?;
    let modified = content.modified.map(|clock| clock.0);
    store.place(&key, bytes, options, modified).await.map_err(refused)
}

fn spool(told: &case::World, spec: &mut MountSpec) -> Result<Option<tempfile::TempDir>, String> {
    let Some(limit) = told.spool else { return Ok(None) };
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    spec.grants.insert(SpoolFolder(Arc::new(Spool::new(folder.path().to_owned(), limit))));
    Ok(Some(folder))
}

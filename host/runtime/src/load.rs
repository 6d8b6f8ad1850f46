//! From a file's bytes to a plugin that can serve: is it a component, does it speak our contract,
//! does it compile, what does it say of itself. Every refusal says in words what is wrong, which
//! side it is on, and what to do; a raw linker message is the last resort.

mod error;
mod spoken;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::cache::CodeCache;
use crate::contract::bindings::PluginPre;
use crate::contract::bindings::worker::WorkerPre;
use crate::contract::{PACKAGE, VERSION, exported};
use crate::engine::Host;
use crate::inspect;
use crate::instance::{Bounds, Instance};
use crate::metrics::{MetricKind, MetricSpec, Metrics};
use crate::state::{Grants, State};
use crate::trust::Vetted;
use crate::voice::{shorten, shortened};
use crate::wasi_http;

pub use error::LoadError;
use spoken::{Spoken, check_contract, exports_job_runner};
pub(crate) use spoken::{check_framing, is_spoken, other_version};

/// What `describe` and `check-settings` may use. They run without grants.
const QUESTION: Bounds =
    Bounds { memory: 256 << 20, cpu: Duration::from_secs(2), time: Duration::from_secs(5) };

/// The longest text of a description, in bytes.
const MAX_TEXT: usize = 1024;
/// Most stores, kinds of job, and metrics of a plugin.
const MAX_NAMES: usize = 64;
/// Most labels of a metric.
const MAX_LABELS: usize = 8;
/// The largest file that is a plugin, in bytes.
pub(crate) const MAX_FILE: u64 = 256 << 20;

/// A compiled plugin that has described itself.
pub struct Plugin {
    /// The name that mounts use: the file's, without `.wasm`.
    pub name: String,
    /// Where it came from.
    pub file: PathBuf,
    /// SHA-256 of the file in lower-case hex.
    pub digest: String,
    /// Of the file, in bytes.
    pub size: u64,
    /// What it says of itself.
    pub description: Description,
    /// What it speaks with this host, as in `keepgate:plugin@0.1.0`.
    pub contract: String,
    pub(crate) world: World,
    metrics: Arc<Metrics>,
}

/// What a component exports, ready to be made instances of.
pub(crate) enum World {
    /// A plugin, and where it runs jobs, if it does.
    Plugin(PluginPre<State>, Option<WorkerPre<State>>),
    /// A service of `wasi:http`.
    Service(ProxyPre<State>),
}

/// What a plugin says of itself: the contract's `guest.description`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Its own name, which need not be the file's.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// One line for operators.
    pub summary: String,
    /// Where it is mounted when the operator says nothing.
    pub default_mount: String,
    /// Names that it opens stores by.
    pub stores: Vec<String>,
    /// Names that it takes snapshots of clusters by; none where it takes what it is granted.
    pub clusters: Vec<String>,
    /// Kinds of job that it runs.
    pub jobs: Vec<String>,
}

impl Description {
    /// Of a service, which says nothing of itself.
    fn of_service(name: &str, contract: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: String::new(),
            summary: format!("a service of {contract}"),
            default_mount: format!("/{name}"),
            stores: Vec::new(),
            clusters: Vec::new(),
            jobs: Vec::new(),
        }
    }
}

impl Plugin {
    /// Loads a plugin from the bytes of its file, which may be loaded. Compiling takes tens of milliseconds for a
    /// small plugin and seconds for a large one, on a blocking thread.
    pub(crate) async fn load(
        host: &Host,
        cache: &CodeCache,
        metrics: &Arc<Metrics>,
        file: &Path,
        vetted: Vetted,
    ) -> Result<Arc<Self>, LoadError> {
        let Vetted { bytes, digest, warrant: _ } = vetted;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let size = bytes.len() as u64;
        let (engine, cache) = (host.engine.clone(), cache.clone());
        let compiling = tokio::task::spawn_blocking(move || {
            check_framing(&bytes)?;
            let component = cache.compile(&engine, &bytes, &digest)?;
            Ok::<_, LoadError>((digest, component, bytes))
        });
        let (digest, component, bytes) =
            compiling.await.map_err(|error| LoadError::Compile(error.to_string()))??;
        let spoken = check_contract(host, &component)?;
        let mismatch = |error: wasmtime::Error| LoadError::Mismatch {
            // The linker's own words are the last resort.
            detail: inspect::explain(&bytes).unwrap_or_else(|| format!("{error:#}")),
        };
        let pre = host.linker.instantiate_pre(&component).map_err(mismatch)?;
        let file = file.to_owned();
        if let Spoken::WasiHttp(contract) = spoken {
            let description = Description::of_service(&name, &contract);
            let world = World::Service(ProxyPre::new(pre).map_err(mismatch)?);
            let metrics = metrics.clone();
            let plugin = Self { name, file, digest, size, description, contract, world, metrics };
            return Ok(Arc::new(plugin));
        }
        let runner = match exports_job_runner(host, &component) {
            true => Some(WorkerPre::new(pre.clone()).map_err(mismatch)?),
            false => None,
        };
        let pre = PluginPre::new(pre).map_err(mismatch)?;
        let (description, named) = describe(metrics, &pre, &name).await?;
        if let (None, Some(kind)) = (&runner, description.jobs.first()) {
            return Err(LoadError::Description(format!(
                "it names the kind of job {kind:?}, and does not export {PACKAGE}/job-runner@{VERSION}"
            )));
        }
        for metric in &named {
            metrics.own.declare(&name, metric).map_err(|why| {
                LoadError::Description(format!("its metric {:?}: {why}", metric.name))
            })?;
        }
        Ok(Arc::new(Self {
            name,
            file,
            digest,
            size,
            description,
            contract: format!("{PACKAGE}@{VERSION}"),
            world: World::Plugin(pre, runner),
            metrics: metrics.clone(),
        }))
    }

    /// Asks the plugin whether it can work with these settings. `Err` is the
    /// plugin's answer in words, or how it broke down.
    pub async fn check_settings(&self, settings: &Map<String, Value>) -> Result<(), String> {
        let pre = match &self.world {
            World::Plugin(pre, _) => pre,
            World::Service(_) => return wasi_http::environment(settings).map(drop),
        };
        let settings = Value::Object(settings.clone()).to_string();
        let grants = no_grants(&self.metrics, &self.name);
        let asked = async {
            let mut instance = Instance::new(pre, grants, QUESTION).await?;
            instance.check_settings(&settings).await
        };
        asked
            .await
            .map_err(|error| format!("the plugin broke down in `check-settings`: {error}"))?
            .map_err(|why| shortened(why, 4 * MAX_TEXT))
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plugin({} {})", self.name, self.digest.get(..12).unwrap_or_default())
    }
}

async fn describe(
    metrics: &Arc<Metrics>,
    pre: &PluginPre<State>,
    name: &str,
) -> Result<(Description, Vec<MetricSpec>), LoadError> {
    let asked = async {
        let mut instance = Instance::new(pre, no_grants(metrics, name), QUESTION).await?;
        instance.describe().await
    };
    let said = asked
        .await
        .map_err(|error| LoadError::BrokeDown { call: "describe", detail: error.to_string() })?;
    bounds_of(&said).map_err(LoadError::Description)?;
    let bad = |what: String| Err(LoadError::Description(what));
    if said.name.is_empty() {
        return bad("the name is empty".to_owned());
    }
    if !said.default_mount.starts_with('/') {
        return bad(format!("the default mount {:?} does not begin with /", said.default_mount));
    }
    let named = said.metrics.into_iter().map(|metric| MetricSpec {
        name: metric.name,
        kind: match metric.kind {
            exported::MetricKind::Counter => MetricKind::Counter,
            exported::MetricKind::Gauge => MetricKind::Gauge,
        },
        help: metric.help,
        labels: metric.labels,
    });
    let named = named.collect();
    let description = Description {
        name: said.name,
        version: said.version,
        summary: said.summary,
        default_mount: said.default_mount,
        stores: said.stores,
        clusters: said.clusters,
        jobs: said.jobs,
    };
    Ok((description, named))
}

/// What a plugin says of itself is kept, logged and shown for as long as it is loaded: it must be
/// short, and be one line.
fn bounds_of(said: &exported::Description) -> Result<(), String> {
    let many = [
        ("stores", said.stores.len()),
        ("clusters", said.clusters.len()),
        ("jobs", said.jobs.len()),
        ("metrics", said.metrics.len()),
    ];
    for (what, count) in many {
        if count > MAX_NAMES {
            return Err(format!("it names {count} {what}; {MAX_NAMES} are the most"));
        }
    }
    let metrics = said.metrics.iter().flat_map(|metric| {
        let labels = metric.labels.iter().map(|label| ("a label", label.as_str()));
        labels.chain([("a metric", &*metric.name), ("a metric's help", &*metric.help)])
    });
    if let Some(metric) = said.metrics.iter().find(|metric| metric.labels.len() > MAX_LABELS) {
        let (name, count) = (shorten(&metric.name, 40), metric.labels.len());
        return Err(format!("its metric {name:?} has {count} labels; {MAX_LABELS} are the most"));
    }
    let texts = [
        ("the name", &*said.name),
        ("the version", &*said.version),
        ("the summary", &*said.summary),
        ("the default mount", &*said.default_mount),
    ];
    let named = said.stores.iter().chain(&said.clusters).chain(&said.jobs);
    let named = named.map(|name| ("a store, a cluster or a job", &**name));
    for (what, text) in texts.into_iter().chain(named).chain(metrics) {
        if text.len() > MAX_TEXT || text.contains(char::is_control) {
            let shown = shorten(text, 40);
            return Err(format!(
                "{what} is {shown:?}...: {MAX_TEXT} bytes are the most, and no line breaks"
            ));
        }
    }
    Ok(())
}

pub(crate) fn no_grants(metrics: &Arc<Metrics>, plugin: &str) -> Arc<Grants> {
    Arc::new(Grants {
        mount: "(none)".to_owned(),
        plugin: plugin.to_owned(),
        settings: "{}".to_owned(),
        stores: Default::default(),
        services: Default::default(),
        moved: metrics.moved.with_label_values(&["(none)", plugin]),
        metrics: metrics.own.clone(),
        kinds: Vec::new(),
        voice: metrics.voice("(none)", plugin),
        environment: Vec::new(),
    })
}

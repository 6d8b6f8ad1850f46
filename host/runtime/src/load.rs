//! Loads a plugin from a file's bytes: checks that they are a component of the contract, compiles and
//! links it, and asks it to describe itself. Each refusal says what is wrong, on which side, and what to
//! do; a raw linker message is the last resort.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keepgate_core::RefusalForm;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::cache::CodeCache;
use crate::capability;
use crate::capability::jobs::{self, WorkerPre};
use crate::capability::requests::Requests;
use crate::compiler::Compiler;
use crate::component_kind::{ComponentKind, check_contract, check_framing, exports_job_runner};
use crate::contract::{PACKAGE, VERSION};
use crate::engine::Host;
use crate::error::LoadError;
use crate::folder::name_of;
use crate::guest::{GuestPre, exported};
use crate::guest_log::{on_one_line, shorten};
use crate::guest_state::{GuestState, MountContext};
use crate::inspect;
use crate::instance::Instance;
use crate::metrics::{self, MetricKind, MetricSpec, Metrics, MountMetrics};
use crate::needs::Needs;
use crate::shares::Shares;
use crate::spec::{Bounds, MountSpec};
use crate::trust::Vetted;
use crate::wasi_http;

/// What `describe` and `check-settings` may use. They run without grants.
const QUESTION: Bounds = Bounds {
    memory: 256 << 20,
    cpu: Duration::from_secs(2),
    time: Duration::from_secs(5),
    patience: Duration::ZERO,
};

/// The most plugins that describe themselves at once, so that those that compute without an end leave time to others.
const DESCRIBING: usize = 4;
/// The longest text of a description, in bytes.
const MAX_TEXT: usize = 1024;
/// The most names that a plugin requests of one capability, and the most metrics.
const MAX_NAMES: usize = 64;
/// The most labels of a metric.
const MAX_LABELS: usize = 8;

/// What loading a plugin needs.
#[derive(Clone)]
pub(crate) struct LoadContext {
    pub(crate) host: Host,
    pub(crate) cache: CodeCache,
    /// Compiles in a process of its own; `None` to compile in this one.
    pub(crate) compiler: Option<Compiler>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shares: Arc<Shares>,
    /// How many plugins may describe themselves at once. Each may compute for two seconds.
    describing: Arc<Semaphore>,
}

impl LoadContext {
    pub(crate) fn new(host: Host, cache: CodeCache, metrics: Arc<Metrics>) -> Self {
        let describing = Arc::new(Semaphore::new(DESCRIBING));
        let shares = Shares::new(metrics.clone(), None);
        Self { host, cache, compiler: None, metrics, shares, describing }
    }
}

/// A compiled plugin that has described itself.
pub struct Plugin {
    /// The name that mounts use: its file's name without `.wasm`.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// SHA-256 of the file in lower-case hex.
    pub digest: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// Its description.
    pub description: Description,
    /// The contract between it and the host, as in `keepgate:plugin@0.1.0`.
    pub contract: String,
    /// How its surface reports failures, if it declares that; for what the host refuses itself.
    pub refusal_form: Option<Arc<RefusalForm>>,
    pub(crate) world: World,
    /// What it needs of a mount besides what its description requests.
    pub(crate) needs: Needs,
    /// The metrics that it described.
    pub(crate) described: Vec<MetricSpec>,
    metrics: Arc<Metrics>,
}

/// A linked component, by what it exports.
pub(crate) enum World {
    /// A plugin, and its `job-runner` if it has one.
    Plugin(GuestPre<GuestState>, Option<WorkerPre<GuestState>>),
    /// A `wasi:http` service.
    Service(ProxyPre<GuestState>),
}

/// What a plugin says about itself: the contract's `guest.description`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Its own name, which need not be the file's.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// One line for operators.
    pub summary: String,
    /// Where it is mounted unless the operator says otherwise.
    pub default_mount: String,
    /// The names that it lists for each capability: stores that it opens, kinds of job that it runs.
    #[serde(flatten)]
    pub requests: Requests,
}

impl Description {
    /// That of a service, which does not describe itself.
    fn of_service(name: &str, contract: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: String::new(),
            summary: format!("a service of {contract}"),
            default_mount: format!("/{name}"),
            requests: capability::no_requests(),
        }
    }
}

impl Plugin {
    /// Loads a plugin from the bytes of its file. Compiling takes tens of milliseconds for a small plugin
    /// and seconds for a large one.
    pub(crate) async fn load(
        context: &LoadContext,
        file: &Path,
        vetted: Vetted,
    ) -> Result<Arc<Self>, LoadError> {
        let LoadContext { host, cache, compiler, metrics, shares: _, describing } = context;
        let Vetted { bytes, digest, decision: _ } = vetted;
        let name = name_of(file)?.to_owned();
        let size = bytes.len() as u64;
        check_framing(&bytes)?;
        let bytes = Bytes::from(bytes);
        let component = cache.compile(host, compiler.as_ref(), bytes.clone(), &digest).await?;
        let kind = check_contract(host, &component)?;
        let needs = Needs::of(host, &component, &bytes);
        let refusal_form = inspect::refusal_form(&bytes)?.map(Arc::new);
        let mismatch = |error: wasmtime::Error| LoadError::Mismatch {
            // The linker's message is the last resort.
            detail: inspect::explain(&bytes).unwrap_or_else(|| format!("{error:#}")),
        };
        let pre = host.linker.instantiate_pre(&component).map_err(mismatch)?;
        let file = file.to_owned();
        if let ComponentKind::WasiHttp(contract) = kind {
            let description = Description::of_service(&name, &contract);
            let world = World::Service(ProxyPre::new(pre).map_err(mismatch)?);
            let metrics = metrics.clone();
            return Ok(Arc::new(Self {
                name,
                file,
                digest,
                size,
                description,
                contract,
                refusal_form,
                world,
                needs,
                described: Vec::new(),
                metrics,
            }));
        }
        let runner = match exports_job_runner(host, &component) {
            true => Some(WorkerPre::new(pre.clone()).map_err(mismatch)?),
            false => None,
        };
        let pre = GuestPre::new(pre).map_err(mismatch)?;
        let (description, described) = {
            // The semaphore is never closed.
            let _slot = describing.acquire().await;
            describe(metrics, &pre, &name).await?
        };
        if let (None, Some(kind)) = (&runner, description.requests.names(jobs::REQUESTS).first()) {
            return Err(LoadError::Description(format!(
                "it names the kind of job {kind:?} but does not export {PACKAGE}/job-runner@{VERSION}"
            )));
        }
        metrics::check(&described).map_err(LoadError::Description)?;
        Ok(Arc::new(Self {
            name,
            file,
            digest,
            size,
            description,
            contract: format!("{PACKAGE}@{VERSION}"),
            refusal_form,
            world: World::Plugin(pre, runner),
            needs,
            described,
            metrics: metrics.clone(),
        }))
    }

    /// What the plugin imports and a mount does not grant, in words: hints for whoever configures the mount, because a
    /// plugin may import more than it uses.
    pub fn hints(&self, spec: &MountSpec) -> Vec<String> {
        self.needs.unmet_imports(&spec.grants)
    }

    /// Asks the plugin to validate settings. The error is the plugin's answer, or how it broke down.
    pub async fn check_settings(&self, settings: &Map<String, Value>) -> Result<(), String> {
        let pre = match &self.world {
            World::Plugin(pre, _) => pre,
            World::Service(_) => return wasi_http::environment(settings).map(drop),
        };
        let settings = Value::Object(settings.clone()).to_string();
        let grants = no_mount(&self.metrics, &self.name);
        let asked = async {
            let mut instance = Instance::new(pre, grants, QUESTION).await?;
            instance.check_settings(&settings).await
        };
        asked
            .await
            .map_err(|error| format!("the plugin broke down in `check-settings`: {error}"))?
            .map_err(|why| on_one_line(why, 4 * MAX_TEXT))
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plugin({} {})", self.name, self.digest.get(..12).unwrap_or_default())
    }
}

async fn describe(
    metrics: &Arc<Metrics>,
    pre: &GuestPre<GuestState>,
    name: &str,
) -> Result<(Description, Vec<MetricSpec>), LoadError> {
    let asked = async {
        let mut instance = Instance::new(pre, no_mount(metrics, name), QUESTION).await?;
        instance.describe().await
    };
    let said = asked
        .await
        .map_err(|error| LoadError::BrokeDown { call: "describe", detail: error.to_string() })?;
    let requests = capability::requests(&said);
    check_bounds(&said, &requests).map_err(LoadError::Description)?;
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
        requests,
    };
    Ok((description, named))
}

/// Checks that a description is short and has no line breaks: it is kept, logged and shown for as long as
/// the plugin is loaded.
fn check_bounds(said: &exported::Description, requests: &Requests) -> Result<(), String> {
    let counts = requests.fields().map(|(field, names)| (field, names.len()));
    for (what, count) in counts.chain([("metrics", said.metrics.len())]) {
        if count > MAX_NAMES {
            return Err(format!("it names {count} {what}; at most {MAX_NAMES} are allowed"));
        }
    }
    let metrics = said.metrics.iter().flat_map(|metric| {
        let labels = metric.labels.iter().map(|label| ("a label", label.as_str()));
        labels.chain([("a metric", &*metric.name), ("a metric's help", &*metric.help)])
    });
    if let Some(metric) = said.metrics.iter().find(|metric| metric.labels.len() > MAX_LABELS) {
        let (name, count) = (shorten(&metric.name, 40), metric.labels.len());
        return Err(format!(
            "its metric {name:?} has {count} labels; at most {MAX_LABELS} are allowed"
        ));
    }
    let texts = [
        ("the name", &*said.name),
        ("the version", &*said.version),
        ("the summary", &*said.summary),
        ("the default mount", &*said.default_mount),
    ];
    let named = requests.fields().flat_map(|(_, names)| names);
    let named = named.map(|name| ("a requested name", name.as_str()));
    for (what, text) in texts.into_iter().chain(named).chain(metrics) {
        if text.len() > MAX_TEXT || text.contains(char::is_control) {
            let shown = shorten(text, 40);
            return Err(format!(
                "{what} is {shown:?}…, which is longer than {MAX_TEXT} bytes or has line breaks"
            ));
        }
    }
    Ok(())
}

pub(crate) fn no_mount(metrics: &Arc<Metrics>, plugin: &str) -> Arc<MountContext> {
    Arc::new(MountContext {
        path: "(none)".to_owned(),
        plugin: plugin.to_owned(),
        settings: "{}".to_owned(),
        grants: Default::default(),
        requests: Default::default(),
        hooks: None,
        moved: metrics.moved.with_label_values(&["(none)", plugin]),
        metrics: Arc::new(MountMetrics::default()),
        log: metrics.guest_log("(none)", plugin),
        environment: Vec::new(),
        followers: Arc::new(Semaphore::new(0)),
        share: None,
        slots: 1,
        retired: CancellationToken::new(),
    })
}

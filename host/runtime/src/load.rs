//! From a file's bytes to a plugin that can serve: is it a component, does it speak our contract,
//! does it compile, what does it say of itself. Every refusal says in words what is wrong, which
//! side it is on, and what to do; a raw linker message is the last resort.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;
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

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// It is too large.
    #[error("the file has {size} bytes; a plugin has {MAX_FILE} at most")]
    TooLarge {
        /// In bytes.
        size: u64,
    },
    /// It ends within itself, which is how a file looks while it is copied.
    #[error("the file ends too early: it is still being copied, or the copy broke off")]
    EndsEarly,
    /// It is something else.
    #[error("this is not a WebAssembly component: it does not begin with `\\0asm`")]
    NotWasm,
    /// It is a core module.
    #[error(
        "this is a WebAssembly core module, not a component; build it with \
         `keepgate plugin build`, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// It speaks another version of the contract.
    #[error(
        "this plugin speaks version {found} of {PACKAGE}, and this gateway {VERSION}: {advice}"
    )]
    OtherVersion {
        /// The plugin's version.
        found: String,
        /// Which side to renew.
        advice: &'static str,
    },
    /// It exports something else.
    #[error(
        "this component is no Keepgate plugin: it does not export {PACKAGE}/guest@{VERSION}, nor \
         wasi:http/incoming-handler@0.2; it exports {exports}"
    )]
    NoGuest {
        /// What it exports instead.
        exports: String,
    },
    /// It is a service of a later version of the standard.
    #[error(
        "this component exports {export}; of services this gateway serves those of \
         wasi:http/incoming-handler@0.2, which the same tools make: build it for that"
    )]
    NextHttp {
        /// What it exports.
        export: String,
    },
    /// It imports something that nobody offers here.
    #[error(
        "the plugin imports {import}, which this gateway does not offer; build the plugin without \
         it, or run it on a gateway that has it"
    )]
    NoSuchImport {
        /// The import's name.
        import: String,
    },
    /// It has the right names with other types.
    #[error(
        "the plugin was built against another text of {PACKAGE}@{VERSION} than this gateway's; \
         build it again with this gateway's `wit/`: {detail}"
    )]
    Mismatch {
        /// Each interface and function that differs; what the linker says where none can be named.
        detail: String,
    },
    /// It does not compile.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// It broke down when asked what it is.
    #[error("the plugin broke down in `{call}`: {detail}")]
    BrokeDown {
        /// Which call.
        call: &'static str,
        /// How.
        detail: String,
    },
    /// What it says of itself cannot be used.
    #[error("the plugin's description cannot be used: {0}")]
    Description(String),
    /// The operator's rules do not let it in.
    #[error("the plugin is not trusted: {0}")]
    Untrusted(String),
    /// The host's own engine failed.
    #[error("the WebAssembly engine: {0}")]
    Engine(String),
}

impl LoadError {
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(crate) fn engine(error: wasmtime::Error) -> Self {
        Self::Engine(format!("{error:#}"))
    }

    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(crate) fn compile(error: wasmtime::Error) -> Self {
        Self::Compile(format!("{error:#}"))
    }
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

/// Whether the bytes are a whole component, by the lengths of its sections. The compiler would
/// say so too, in words that help nobody.
pub(crate) fn check_framing(bytes: &[u8]) -> Result<(), LoadError> {
    let magic = b"\0asm";
    if !bytes.starts_with(magic.get(..bytes.len().min(4)).unwrap_or_default()) {
        return Err(LoadError::NotWasm);
    }
    let (Some(layer), Some(mut rest)) = (bytes.get(6), bytes.get(8..)) else {
        return Err(LoadError::EndsEarly);
    };
    if *layer == 0 {
        return Err(LoadError::CoreModule);
    }
    while let Some((_, after)) = rest.split_first() {
        let (length, after) = section_length(after).ok_or(LoadError::EndsEarly)?;
        rest = after.get(length..).ok_or(LoadError::EndsEarly)?;
    }
    Ok(())
}

/// A section's length in LEB128, and what follows it.
fn section_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((length, bytes.get(index + 1..)?));
        }
    }
    None
}

/// What a component speaks.
enum Spoken {
    Contract,
    /// In which version.
    WasiHttp(String),
}

fn check_contract(host: &Host, component: &Component) -> Result<Spoken, LoadError> {
    let ty = component.component_type();
    let exports: Vec<String> = ty.exports(&host.engine).map(|(name, _)| name.to_owned()).collect();
    let imports: Vec<String> = ty
        .imports(&host.engine)
        .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentInstance(_)))
        .map(|(name, _)| name.to_owned())
        .collect();
    let versions = exports.iter().chain(&imports).filter_map(|name| version_of(name));
    if let Some(found) = versions.into_iter().find(|version| !is_spoken(version)) {
        return Err(other_version(found));
    }
    let service = exports.iter().find_map(|name| name.strip_prefix(wasi_http::EXPORT));
    if !exports.iter().any(|name| is_ours(name, "guest")) {
        if let Some(patch) = service {
            let unknown = imports.into_iter().find(|name| !is_wasi(name));
            let spoken = Spoken::WasiHttp(format!("wasi:http@0.2.{patch}"));
            return unknown.map_or(Ok(spoken), |import| Err(LoadError::NoSuchImport { import }));
        }
        if let Some(export) = exports.iter().find(|name| name.starts_with(wasi_http::NEXT_EXPORT)) {
            return Err(LoadError::NextHttp { export: export.clone() });
        }
        let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        return Err(LoadError::NoGuest { exports });
    }
    let offered = ["types", "blobs", "environment", "http", "pipes", "etcd", "jobs"];
    let unknown = imports.into_iter().find(|name| match name.split_once('/') {
        Some((PACKAGE, _)) => !offered.iter().any(|interface| is_ours(name, interface)),
        _ => !is_wasi(name) || name.starts_with("wasi:http/"),
    });
    unknown.map_or(Ok(Spoken::Contract), |import| Err(LoadError::NoSuchImport { import }))
}

/// Whether an import is one of WASI's that the host has, though it grants nothing by them.
fn is_wasi(name: &str) -> bool {
    let packages = ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];
    let package = name.strip_prefix("wasi:").and_then(|rest| rest.split_once('/'));
    package.is_some_and(|(package, rest)| packages.contains(&package) && rest.contains("@0.2."))
}

fn exports_job_runner(host: &Host, component: &Component) -> bool {
    component.component_type().exports(&host.engine).any(|(name, _)| is_ours(name, "job-runner"))
}

/// Whether a name is that of an interface of the contract, in a version that this host speaks.
fn is_ours(name: &str, interface: &str) -> bool {
    let rest = name.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/'));
    let found = rest.and_then(|rest| rest.split_once('@'));
    found.is_some_and(|(known, version)| known == interface && is_spoken(version))
}

/// Whether a version of the contract is this host's, or differs from it in the patch only: such versions
/// have the same functions, but for those that the later one has besides. What a plugin lacks here shows
/// when it is linked.
pub(crate) fn is_spoken(version: &str) -> bool {
    let minor = VERSION.rsplit_once('.').map_or(VERSION, |(minor, _)| minor);
    let patch = version.strip_prefix(minor).and_then(|rest| rest.strip_prefix('.'));
    patch.is_some_and(|patch| patch.parse::<u32>().is_ok())
}

/// The version of our package in an import's or export's name.
fn version_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(rest.split_once('@')?.1)
}

pub(crate) fn other_version(found: &str) -> LoadError {
    let number = |version: &str| -> Vec<u64> {
        version.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
    };
    let advice = if number(found) > number(VERSION) {
        "the gateway is too old for it; use a newer gateway, or an older plugin"
    } else {
        "the plugin is too old; build it with this gateway's SDK, or get a newer one"
    };
    LoadError::OtherVersion { found: found.to_owned(), advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_whole_component_are_told_apart() {
        assert!(matches!(check_framing(b""), Err(LoadError::EndsEarly)));
        assert!(matches!(check_framing(b"\0as"), Err(LoadError::EndsEarly)));
        assert!(matches!(check_framing(b"#!/bin/sh"), Err(LoadError::NotWasm)));
        assert!(matches!(check_framing(b"\0asm\x01\0\0\0"), Err(LoadError::CoreModule)));
        assert!(check_framing(b"\0asm\x0d\0\x01\0").is_ok());
        assert!(check_framing(b"\0asm\x0d\0\x01\0\0\x02ab").is_ok());
        assert!(matches!(check_framing(b"\0asm\x0d\0\x01\0\0\x03ab"), Err(LoadError::EndsEarly)));
        assert!(matches!(check_framing(b"\0asm\x0d\0\x01\0\0"), Err(LoadError::EndsEarly)));
    }

    #[test]
    fn versions_say_which_side_is_too_old() {
        assert_eq!(version_of("keepgate:plugin/guest@0.2.0"), Some("0.2.0"));
        assert_eq!(version_of("wasi:io/poll@0.2.0"), None);
        assert!(is_spoken("0.1.0") && is_spoken("0.1.7"));
        assert!(!is_spoken("0.2.0") && !is_spoken("1.1.0") && !is_spoken("0.1.1-rc1"));
        assert!(is_ours("keepgate:plugin/guest@0.1.3", "guest"));
        assert!(!is_ours("keepgate:plugin/guests@0.1.0", "guest"));
        assert!(other_version("0.2.0").to_string().contains("gateway is too old"));
        assert!(other_version("0.0.9").to_string().contains("plugin is too old"));
    }
}

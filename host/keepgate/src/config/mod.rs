//! The configuration: one TOML file. Its types are here; [`check`] has the rules that types cannot
//! express, and [`problems`] collects all errors of a file. `examples/keepgate.toml` explains every
//! key; a test compares it with these types.
//!
//! Unknown keys are errors: a typing error in `append_only` must not go unnoticed.

mod auth;
mod bearer;
pub(crate) mod capability;
mod check;
mod copy;
mod cors;
mod parse;
mod plugins;
mod problems;
mod proxies;
mod rate_limit;
mod schedule;
mod store;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use keepgate_http::{Address, AddressError, OperatorClient};
use keepgate_store::guard::Periods;
use serde::Deserialize;
use toml::Spanned;

pub(crate) use auth::{Auth, Way, proxy_header};
pub(crate) use capability::{EtcdCluster, Jobs, Records, Secrets, UpstreamTable};
use check::names;
pub(crate) use check::{octal, store_and_folder};
pub(crate) use copy::{StoreCopy, schedule_name};
pub(crate) use plugins::Plugins;
pub(crate) use problems::{LocatedProblem, Problem, Problems};
pub(crate) use proxies::ListenerProxies;
pub(crate) use rate_limit::RateLimitTable;
pub(crate) use schedule::{Missed, Schedule};
pub(crate) use store::{Bucket, Store};
pub(crate) use units::{Interval, Size};

/// The value of `auth` that gives access without a login.
pub(crate) const NO_AUTH: &str = "none";

/// The value of `auth` that lets the plugin judge `Authorization`.
pub(crate) const PLUGIN_AUTH: &str = "plugin";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The gateway's own state, for example compiled plugins and jobs.
    pub(crate) data_dir: PathBuf,
    pub(crate) plugin_dir: PathBuf,
    /// Which plugins may be loaded.
    #[serde(default)]
    pub(crate) plugins: Option<Spanned<Plugins>>,
    #[serde(default)]
    pub(crate) listener: Vec<Listener>,
    #[serde(default)]
    pub(crate) admin: Option<Admin>,
    #[serde(default)]
    pub(crate) metrics: Option<Metrics>,
    #[serde(default)]
    pub(crate) log: Log,
    #[serde(default)]
    pub(crate) timeouts: Timeouts,
    #[serde(default)]
    pub(crate) auth: BTreeMap<String, Spanned<Auth>>,
    #[serde(default)]
    pub(crate) store: BTreeMap<String, Spanned<Store>>,
    /// etcd clusters that mounts may be granted.
    #[serde(default)]
    pub(crate) etcd: BTreeMap<String, EtcdCluster>,
    /// HTTP systems that mounts may be granted.
    #[serde(default)]
    pub(crate) upstream: BTreeMap<String, Spanned<UpstreamTable>>,
    #[serde(default)]
    pub(crate) jobs: Jobs,
    #[serde(default)]
    pub(crate) records: Records,
    #[serde(default)]
    pub(crate) mount: Vec<Mount>,
    #[serde(default)]
    pub(crate) schedule: BTreeMap<String, Schedule>,
    /// Copies of stores in other stores.
    #[serde(default)]
    pub(crate) copy: BTreeMap<String, StoreCopy>,
    #[serde(default)]
    pub(crate) auto_mount: Option<AutoMount>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    pub(crate) address: Spanned<String>,
    /// The path of a Unix socket, which may not be UTF-8 if the folder of the configuration is not.
    #[serde(skip)]
    pub(crate) socket: Option<PathBuf>,
    #[serde(default)]
    pub(crate) tls: Option<Tls>,
    /// The URL that clients use, if a proxy is between.
    #[serde(default)]
    pub(crate) public_url: Option<Spanned<String>>,
    /// Proxies that say who their clients are.
    #[serde(default)]
    pub(crate) proxies: Option<Spanned<ListenerProxies>>,
    /// Permissions of a Unix socket, as an octal string.
    #[serde(default)]
    pub(crate) mode: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) max_connections: Option<usize>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    #[serde(default)]
    pub(crate) min_version: Option<Spanned<String>>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    pub(crate) address: Spanned<String>,
    /// See [`Listener::socket`].
    #[serde(skip)]
    pub(crate) socket: Option<PathBuf>,
}

/// A metrics page on the listeners of clients.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metrics {
    pub(crate) path: Spanned<String>,
    pub(crate) auth: Vec<Spanned<String>>,
    /// The only user who may read it.
    #[serde(default)]
    pub(crate) user: Option<String>,
    /// Whether counters of plugins have a label with the mount.
    #[serde(default = "yes")]
    pub(crate) mount_label: bool,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) level: Level,
    pub(crate) format: Format,
    /// The access log, in the combined format; `-` is standard output.
    pub(crate) access: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Timeouts {
    pub(crate) handshake: Option<Interval>,
    pub(crate) head: Option<Interval>,
    pub(crate) idle: Option<Interval>,
    pub(crate) stall: Option<Interval>,
    pub(crate) shutdown: Option<Interval>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mount {
    pub(crate) path: Spanned<String>,
    /// Where it is in the file, as `FILE:LINE:COLUMN`.
    #[serde(skip)]
    pub(crate) place: String,
    pub(crate) plugin: Spanned<String>,
    pub(crate) auth: Vec<Spanned<String>>,
    /// Origins whose scripts may use the mount from a browser, or `*` alone.
    #[serde(default)]
    pub(crate) cors: Option<Spanned<Vec<Spanned<String>>>>,
    /// How many requests clients may make in some time.
    #[serde(default)]
    pub(crate) rate_limit: BTreeMap<String, RateLimitTable>,
    #[serde(default)]
    pub(crate) stores: BTreeMap<String, Spanned<String>>,
    /// etcd clusters, by the names that the plugin uses for them.
    #[serde(default)]
    pub(crate) etcd: BTreeMap<String, Spanned<String>>,
    /// Keys that the plugin may sign and seal with.
    #[serde(default)]
    pub(crate) secrets: Secrets,
    /// HTTP systems, by the names that the plugin uses for them.
    #[serde(default)]
    pub(crate) upstreams: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub(crate) settings: toml::Table,
    #[serde(default)]
    pub(crate) policy: Policy,
    #[serde(default)]
    pub(crate) rule: Vec<Rule>,
    #[serde(default)]
    pub(crate) limits: Limits,
    /// Whether instances serve many requests.
    #[serde(default)]
    pub(crate) warm: bool,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Policy {
    pub(crate) append_only: bool,
    pub(crate) read_only: bool,
    /// How long blobs can be neither deleted nor replaced.
    pub(crate) retain: Option<Interval>,
    pub(crate) except: Vec<String>,
    pub(crate) unverified: bool,
    pub(crate) quota: Option<Size>,
    /// The most blobs and folders; by default a number that goes with the quota.
    pub(crate) quota_entries: Option<u64>,
}

/// A policy for one user or folder that replaces the general one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// A name, or `*` for every user.
    #[serde(default)]
    pub(crate) user: Option<Spanned<String>>,
    /// A pattern, for example `*` for every folder at the top level.
    #[serde(default)]
    pub(crate) folder: Option<Spanned<String>>,
    pub(crate) policy: Spanned<Policy>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) memory: Option<Size>,
    pub(crate) cpu: Option<Interval>,
    pub(crate) time: Option<Interval>,
    pub(crate) calls: Option<Spanned<usize>>,
    /// The most series of the plugin's metrics.
    pub(crate) series: Option<usize>,
    /// Crashes beyond successful calls after which a plugin is suspended.
    pub(crate) faults: Option<u32>,
    pub(crate) pause: Option<Interval>,
    pub(crate) max_pause: Option<Interval>,
    /// The maximum duration of one attempt of a job.
    pub(crate) job_time: Option<Interval>,
    /// The maximum size of a body that is spooled to disk until its length is known.
    pub(crate) spool: Option<Size>,
}

/// How plugins without a `[[mount]]` are mounted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AutoMount {
    pub(crate) auth: Vec<Spanned<String>>,
    /// Each plugin gets a folder with its name in it.
    pub(crate) store: Spanned<String>,
}

/// Why a configuration cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration {}: {why}", file.display())]
    Unreadable { file: PathBuf, why: String },
    /// Everything that is wrong with the file, one line for each.
    #[error("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid { problems: Vec<LocatedProblem> },
}

impl Config {
    /// Reads and checks a file. Relative paths in it start at its own folder.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError::Unreadable {
            file: file.to_owned(),
            why: error.to_string(),
        })?;
        Self::parse(&text, file)
    }

    pub(crate) fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let config = parse::parse::<Self>(text, &mut problems);
        if let Some(config) = &config {
            check::check(config, &mut problems);
        }
        let mut config = config
            .filter(|_| problems.is_empty())
            .ok_or_else(|| ConfigError::Invalid { problems: problems.located(text, file) })?;
        for mount in &mut config.mount {
            let (line, column) = problems::position(text, mount.path.span().start);
            mount.place = format!("{}:{line}:{column}", file.display());
        }
        config.resolve(file.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// A client of the admin listener, which is needed to `purpose`.
    pub(crate) fn operator_client(&self, purpose: &str) -> anyhow::Result<OperatorClient> {
        let admin = self.admin.as_ref().with_context(|| {
            format!(
                "the configuration has no [admin] listener, which is needed to {purpose}; add [admin] \
                 with an address, for example \"127.0.0.1:9090\""
            )
        })?;
        Ok(OperatorClient::new(address(&admin.address, admin.socket.as_ref())?))
    }

    /// Whether another configuration has changes that only a restart can make.
    pub(crate) fn needs_restart(&self, new: &Self) -> bool {
        self.listener != new.listener
            || self.admin != new.admin
            || self.plugin_dir != new.plugin_dir
            || self.only_plugins() != new.only_plugins()
            || self.plugin_memory() != new.plugin_memory()
            || self.data_dir != new.data_dir
            || self.timeouts != new.timeouts
            || self.log != new.log
            || self.jobs != new.jobs
            || self.records != new.records
    }

    /// Names of the only plugins to load; `None` for all.
    pub(crate) fn only_plugins(&self) -> Option<BTreeSet<String>> {
        self.plugins.as_ref().and_then(|plugins| plugins.get_ref().only())
    }

    /// Bytes that all plugins may take together, if the file says how many.
    pub(crate) fn plugin_memory(&self) -> Option<u64> {
        self.plugins.as_ref().and_then(|plugins| plugins.get_ref().memory())
    }

    /// Overrides the address of the first listener.
    pub(crate) fn listen_at(&mut self, address: &str) -> anyhow::Result<()> {
        address.parse::<Address>()?;
        if let Some(listener) = self.listener.first_mut() {
            listener.address = Spanned::new(0..0, address.to_owned());
            listener.socket = None;
        }
        Ok(())
    }

    fn resolve(&mut self, base: &Path) {
        let tls = self.listener.iter_mut().filter_map(|listener| listener.tls.as_mut());
        let plugins = self.plugins.as_mut().map(Spanned::get_mut);
        let paths = [&mut self.data_dir, &mut self.plugin_dir]
            .into_iter()
            .chain(tls.flat_map(|tls| [&mut tls.certificate, &mut tls.key]))
            .chain(self.auth.values_mut().flat_map(|auth| auth.get_mut().files()))
            .chain(plugins.and_then(|plugins| plugins.keys_file.as_mut()))
            .chain(self.log.access.as_mut().filter(|file| file.as_os_str() != "-"));
        for path in paths {
            *path = base.join(&*path);
        }
        store::resolve(self, base);
        capability::resolve(self, base);
        let listeners = self.listener.iter_mut().map(|it| (&mut it.address, &mut it.socket));
        let admin = self.admin.iter_mut().map(|it| (&mut it.address, &mut it.socket));
        for (address, socket) in listeners.chain(admin) {
            if let Some(path) = address.get_ref().strip_prefix("unix:") {
                let path = base.join(path);
                *address.get_mut() = format!("unix:{}", path.display());
                *socket = Some(path);
            }
        }
    }
}

/// An address to listen on; `socket` is its path if it is a Unix socket.
pub(crate) fn address(
    text: &Spanned<String>,
    socket: Option<&PathBuf>,
) -> Result<Address, AddressError> {
    socket.map_or_else(|| text.get_ref().parse(), |path| Ok(Address::Unix(path.clone())))
}

impl Timeouts {
    pub(crate) fn to_http(&self) -> keepgate_http::Timeouts {
        let default = keepgate_http::Timeouts::default();
        let or =
            |given: Option<Interval>, default: Duration| given.map_or(default, |given| given.0);
        keepgate_http::Timeouts {
            handshake: or(self.handshake, default.handshake),
            head: or(self.head, default.head),
            idle: or(self.idle, default.idle),
            upload_stall: or(self.stall, default.upload_stall),
            download_stall: or(self.stall, default.download_stall),
            grace: self.shutdown.map(|given| given.0),
        }
    }
}

impl Limits {
    pub(crate) fn to_runtime(&self) -> keepgate_runtime::Limits {
        let default = keepgate_runtime::Limits::default();
        keepgate_runtime::Limits {
            memory: self.memory.map_or(default.memory, |size| size.0),
            cpu: self.cpu.map_or(default.cpu, |given| given.0),
            time: self.time.map_or(default.time, |given| given.0),
            job_time: self.job_time.map_or(default.job_time, |given| given.0),
            calls: self.calls.as_ref().map_or(default.calls, |calls| *calls.get_ref()),
            series: self.series.unwrap_or(default.series),
            faults: keepgate_runtime::Faults {
                count: self.faults.unwrap_or(default.faults.count),
                pause: self.pause.map_or(default.faults.pause, |given| given.0),
                longest: self.max_pause.map_or(default.faults.longest, |given| given.0),
            },
        }
    }
}

impl Policy {
    pub(crate) fn to_store(&self) -> keepgate_store::guard::Policy {
        keepgate_store::guard::Policy {
            append_only: self.append_only,
            read_only: self.read_only,
            retain: Periods { all: self.retain.map(|period| period.0), ..Periods::default() },
            except: self.except.clone(),
            unverified: self.unverified,
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

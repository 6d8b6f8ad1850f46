//! What the configuration says of the systems that the gateway reaches and of the work that it does
//! by itself: `[etcd.…]`, `[jobs]`, `[schedule.…]`; and what must hold of them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepgate_connect::etcd::{self, ClusterOptions, Login, Secret, TlsFiles};
use keepgate_jobs::When;
use serde::Deserialize;
use toml::Spanned;

use super::{Config, Interval, Problem, Problems};

/// A cluster of etcd.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EtcdCluster {
    /// URLs of its members, in the order in which they are asked.
    pub(crate) endpoints: Spanned<Vec<String>>,
    #[serde(default)]
    pub(crate) tls: Option<ClientTls>,
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) user_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) password: Option<Hidden>,
    #[serde(default)]
    pub(crate) password_file: Option<PathBuf>,
    /// To connect to one endpoint.
    #[serde(default)]
    pub(crate) timeout: Option<Interval>,
    /// Without a byte of a snapshot.
    #[serde(default)]
    pub(crate) stall: Option<Interval>,
}

/// How the gateway knows a server, and the server the gateway. PEM files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientTls {
    /// Without it the system's own.
    #[serde(default)]
    pub(crate) ca: Option<PathBuf>,
    #[serde(default)]
    pub(crate) certificate: Option<PathBuf>,
    #[serde(default)]
    pub(crate) key: Option<PathBuf>,
}

/// A text that is in no log.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// The gateway's jobs.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Jobs {
    /// Without them plugins can start none, and there are no schedules.
    pub(crate) enabled: bool,
    /// Ended jobs of each mount and kind that are remembered.
    pub(crate) keep: usize,
    pub(crate) keep_for: Option<Interval>,
    /// That run at once.
    pub(crate) at_once: Option<Spanned<usize>>,
}

impl Default for Jobs {
    fn default() -> Self {
        let options = keepgate_jobs::Options::default();
        Self { enabled: true, keep: options.keep, keep_for: None, at_once: None }
    }
}

impl Jobs {
    pub(crate) fn to_jobs(&self) -> keepgate_jobs::Options {
        let default = keepgate_jobs::Options::default();
        keepgate_jobs::Options {
            keep: self.keep,
            keep_for: self.keep_for.map_or(default.keep_for, |interval| interval.0),
            at_once: self.at_once.as_ref().map_or(default.at_once, |most| *most.get_ref()),
        }
    }
}

/// A job that starts by itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedule {
    /// The path of a mount.
    pub(crate) mount: Spanned<String>,
    /// A kind of job that its plugin runs.
    pub(crate) job: Spanned<String>,
    #[serde(default)]
    pub(crate) cron: Option<Spanned<String>>,
    /// Of `cron`; UTC without it.
    #[serde(default)]
    pub(crate) time_zone: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) every: Option<Interval>,
    /// Each run of `every` is later by up to this.
    #[serde(default)]
    pub(crate) jitter: Option<Spanned<Interval>>,
    /// Handed to the plugin as JSON.
    #[serde(default)]
    pub(crate) input: toml::Table,
    #[serde(default)]
    pub(crate) missed: Missed,
    #[serde(default)]
    pub(crate) attempts: Option<Spanned<u32>>,
    #[serde(default)]
    pub(crate) backoff: Option<Interval>,
}

/// What happens to a run whose time passed while the gateway was down.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Missed {
    Skip,
    /// A machine that is down at that hour every day would never have a backup otherwise.
    #[default]
    Run,
}

impl EtcdCluster {
    /// What connects to it.
    pub(crate) fn to_connect(&self, name: &str) -> ClusterOptions {
        let file = |path: &PathBuf| Secret::File(path.clone());
        let user = self.user.clone().map(Secret::Text);
        let user = user.or_else(|| self.user_file.as_ref().map(file));
        let password = self.password.as_ref().map(|hidden| Secret::Text(hidden.0.clone()));
        let password = password.or_else(|| self.password_file.as_ref().map(file));
        ClusterOptions {
            name: name.to_owned(),
            endpoints: self.endpoints.get_ref().clone(),
            tls: self.tls.as_ref().map(|tls| TlsFiles {
                ca: tls.ca.clone(),
                certificate: tls.certificate.clone(),
                key: tls.key.clone(),
            }),
            user: user.zip(password).map(|(user, password)| Login { user, password }),
            connect_timeout: self.timeout.map_or(etcd::CONNECT_TIMEOUT, |Interval(time)| time),
            stall_timeout: self.stall.map_or(etcd::STALL_TIMEOUT, |Interval(time)| time),
        }
    }

    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let tls = self.tls.iter_mut();
        tls.flat_map(|tls| [&mut tls.ca, &mut tls.certificate, &mut tls.key])
            .chain([&mut self.user_file, &mut self.password_file])
            .filter_map(Option::as_mut)
    }
}

impl Schedule {
    /// When it runs.
    pub(crate) fn when(&self) -> Result<When, Problem> {
        let (when, span) = match (&self.cron, self.every) {
            (Some(cron), None) => {
                if let Some(jitter) = &self.jitter {
                    let message = "`jitter` applies only to `every`; remove it";
                    return Err(Problem::new(jitter.span(), message));
                }
                let zone = self.time_zone.as_ref().map_or("UTC", |zone| zone.get_ref());
                let (pattern, time_zone) = (cron.get_ref().clone(), zone.to_owned());
                (When::Cron { pattern, time_zone }, cron.span())
            }
            (None, Some(Interval(interval))) => {
                if let Some(zone) = &self.time_zone {
                    let message = "`time_zone` applies only to `cron`; remove it";
                    return Err(Problem::new(zone.span(), message));
                }
                let jitter = self.jitter.as_ref().map_or(Duration::ZERO, |later| later.get_ref().0);
                (When::Every { interval, jitter }, self.mount.span())
            }
            _ => {
                let message = "a schedule needs either `cron` or `every`";
                return Err(Problem::new(self.mount.span(), message));
            }
        };
        when.check().map_err(|error| Problem::new(span, error.to_string()))?;
        Ok(when)
    }

    /// What the plugin is handed.
    pub(crate) fn input(&self) -> anyhow::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&self.input)?)
    }
}

pub(super) fn check(config: &Config, problems: &mut Problems) {
    for (name, cluster) in &config.etcd {
        check_cluster(name, cluster, problems);
    }
    for mount in &config.mount {
        for cluster in mount.etcd.values() {
            if !config.etcd.contains_key(cluster.get_ref()) {
                let message = format!(
                    "mount {:?}: unknown etcd cluster {:?}; configured clusters: {}",
                    mount.path.get_ref(),
                    cluster.get_ref(),
                    super::names(config.etcd.keys())
                );
                problems.add(cluster.span(), message);
            }
        }
    }
    for (name, schedule) in &config.schedule {
        check_schedule(config, name, schedule, problems);
    }
    if let Some(at_once) = &config.jobs.at_once
        && *at_once.get_ref() == 0
    {
        problems.add(at_once.span(), "[jobs] at_once must be at least 1");
    }
}

fn check_cluster(name: &str, cluster: &EtcdCluster, problems: &mut Problems) {
    let span = cluster.endpoints.span();
    let mut add = |what: &str| problems.add(span.clone(), format!("[etcd.{name}] {what}"));
    if cluster.endpoints.get_ref().is_empty() {
        add("has no endpoints; add the URL of a member, for example \"https://10.0.0.1:2379\"");
    }
    if cluster.user.is_some() && cluster.user_file.is_some() {
        add("has both `user` and `user_file`; keep one of them");
    }
    if cluster.password.is_some() && cluster.password_file.is_some() {
        add("has both `password` and `password_file`; keep one of them");
    }
    let user = cluster.user.is_some() || cluster.user_file.is_some();
    let password = cluster.password.is_some() || cluster.password_file.is_some();
    match (user, password) {
        (true, false) => add("has a user but no `password` or `password_file`"),
        (false, true) => add("has a password but no `user` or `user_file`"),
        _ => {}
    }
}

fn check_schedule(config: &Config, name: &str, schedule: &Schedule, problems: &mut Problems) {
    let mount = &schedule.mount;
    if !config.jobs.enabled {
        let message = format!("[schedule.{name}] needs jobs, but [jobs] has `enabled = false`");
        problems.add(mount.span(), message);
    }
    // Automatic mounts are known only once plugins are loaded.
    let mounted = config.mount.iter().any(|other| other.path.get_ref() == mount.get_ref());
    if !mounted && config.auto_mount.is_none() {
        let known = super::names(config.mount.iter().map(|mount| mount.path.get_ref()));
        let path = mount.get_ref();
        let message =
            format!("[schedule.{name}] unknown mount {path:?}; configured mounts: {known}");
        problems.add(mount.span(), message);
    }
    if let Some(attempts) = &schedule.attempts
        && *attempts.get_ref() == 0
    {
        problems.add(attempts.span(), format!("[schedule.{name}] attempts must be at least 1"));
    }
    problems.add_error(schedule.when());
}

/// Relative paths begin at the configuration's folder.
pub(super) fn resolve(etcd: &mut BTreeMap<String, EtcdCluster>, base: &Path) {
    for path in etcd.values_mut().flat_map(EtcdCluster::paths) {
        *path = base.join(&*path);
    }
}

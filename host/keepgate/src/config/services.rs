//! What the configuration says of the systems that the gateway reaches and of the work that it does
//! by itself: `[etcd.…]`, `[jobs]`, `[schedule.…]`; and what must hold of them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepgate_connect::etcd::{self, ClusterOptions, Login, Secret, TlsFiles};
use keepgate_jobs::Trigger;
use serde::Deserialize;
use toml::Spanned;

use super::check::{Complaint, complain};
use super::{Config, Interval};

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
    pub(crate) at_once: usize,
}

impl Default for Jobs {
    fn default() -> Self {
        let options = keepgate_jobs::Options::default();
        Self { enabled: true, keep: options.keep, keep_for: None, at_once: options.at_once }
    }
}

impl Jobs {
    pub(crate) fn to_jobs(&self) -> keepgate_jobs::Options {
        let default = keepgate_jobs::Options::default();
        keepgate_jobs::Options {
            keep: self.keep,
            keep_for: self.keep_for.map_or(default.keep_for, |interval| interval.0),
            at_once: self.at_once,
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
    /// When it runs, or what is wrong with that in words.
    pub(crate) fn when(&self) -> Result<Trigger, Complaint> {
        let (when, place) = match (&self.cron, self.every) {
            (Some(cron), None) => {
                if let Some(jitter) = &self.jitter {
                    return Err((jitter.span().start, "`jitter` is for `every`".to_owned()));
                }
                let zone = self.time_zone.as_ref().map_or("UTC", |zone| zone.get_ref());
                let (pattern, time_zone) = (cron.get_ref().clone(), zone.to_owned());
                (Trigger::Cron { pattern, time_zone }, cron.span().start)
            }
            (None, Some(Interval(interval))) => {
                if let Some(zone) = &self.time_zone {
                    return Err(complain(zone, "`time_zone` is for `cron`"));
                }
                let jitter = self.jitter.as_ref().map_or(Duration::ZERO, |later| later.get_ref().0);
                (Trigger::Every { interval, jitter }, self.mount.span().start)
            }
            _ => {
                let what = "a schedule has `cron` or `every`: write one of them";
                return Err(complain(&self.mount, what));
            }
        };
        when.check().map_err(|error| (place, error.to_string()))?;
        Ok(when)
    }

    /// What the plugin is handed.
    pub(crate) fn input(&self) -> anyhow::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&self.input)?)
    }
}

pub(super) fn check(config: &Config) -> Result<(), Complaint> {
    for (name, cluster) in &config.etcd {
        check_cluster(name, cluster)?;
    }
    for mount in &config.mount {
        for cluster in mount.etcd.values() {
            if !config.etcd.contains_key(cluster.get_ref()) {
                let known = known(config.etcd.keys(), "etcd");
                let what = format!("there is no [etcd.{}]; there is {known}", cluster.get_ref());
                return Err(complain(cluster, &what));
            }
        }
    }
    for (name, schedule) in &config.schedule {
        check_schedule(config, name, schedule)?;
    }
    if config.jobs.at_once == 0 {
        return Err((0, "[jobs] at_once = 0 would let no job run".to_owned()));
    }
    Ok(())
}

fn check_cluster(name: &str, cluster: &EtcdCluster) -> Result<(), Complaint> {
    let place = cluster.endpoints.span().start;
    let wrong = |what: &str| Err((place, format!("[etcd.{name}] {what}")));
    if cluster.endpoints.get_ref().is_empty() {
        return wrong("has no endpoints; add the URL of a member, as in \"https://10.0.0.1:2379\"");
    }
    if cluster.user.is_some() && cluster.user_file.is_some() {
        return wrong("has both `user` and `user_file`; keep one of them");
    }
    if cluster.password.is_some() && cluster.password_file.is_some() {
        return wrong("has both `password` and `password_file`; keep one of them");
    }
    let user = cluster.user.is_some() || cluster.user_file.is_some();
    let password = cluster.password.is_some() || cluster.password_file.is_some();
    match (user, password) {
        (true, false) => wrong("has a user without `password` or `password_file`"),
        (false, true) => wrong("has a password without `user` or `user_file`"),
        _ => Ok(()),
    }
}

fn check_schedule(config: &Config, name: &str, schedule: &Schedule) -> Result<(), Complaint> {
    if !config.jobs.enabled {
        let what = format!("[schedule.{name}] needs jobs, and [jobs] says `enabled = false`");
        return Err(complain(&schedule.mount, &what));
    }
    // Mounts that plugins get by themselves are known only once plugins are loaded.
    let mounted = config.mount.iter().any(|mount| mount.path.get_ref() == schedule.mount.get_ref());
    if !mounted && config.auto_mount.is_none() {
        let what = format!("there is no mount {}", schedule.mount.get_ref());
        return Err(complain(&schedule.mount, &what));
    }
    if let Some(attempts) = &schedule.attempts
        && *attempts.get_ref() == 0
    {
        return Err((attempts.span().start, "a job has one attempt at least".to_owned()));
    }
    schedule.when().map(|_| ())
}

/// `[etcd.one], [etcd.two]`, or `none`.
fn known<'a>(names: impl Iterator<Item = &'a String>, table: &str) -> String {
    let names = names.map(|name| format!("[{table}.{name}]")).collect::<Vec<_>>().join(", ");
    if names.is_empty() { "none".to_owned() } else { names }
}

/// Relative paths begin at the configuration's folder.
pub(super) fn resolve(etcd: &mut BTreeMap<String, EtcdCluster>, base: &Path) {
    for path in etcd.values_mut().flat_map(EtcdCluster::paths) {
        *path = base.join(&*path);
    }
}

//! Active quotas. Each is opened once, kept across reloads of the configuration, and shown to operators.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use keepgate_store::BlobStore;
use keepgate_store::quota::{Quota, QuotaOptions, Rules, Scope};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::metrics::families;

/// How often a quota counts all blobs again by default, since other programs may change the folder.
const RECOUNT: Duration = Duration::from_secs(24 * 3600);

/// The maximum number of processes with a quota on the same folder.
const MAX_PROCESSES: u32 = 64;

/// A quota and its name.
#[derive(Clone, Debug)]
pub(crate) struct NamedQuota {
    /// `store main`, or `mount /team, store main/team`.
    pub(crate) name: String,
    pub(crate) quota: Arc<Quota>,
    /// The rules of its configuration; active once [`change`](Self::change) was called.
    rules: Rules,
}

/// Where a quota saves its count, and how often it counts again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeping<'a> {
    pub(crate) data_dir: &'a Path,
    /// The folder whose blobs are counted, if it is one of this machine.
    pub(crate) store: Option<&'a Path>,
    pub(crate) recount: Option<Duration>,
}

impl NamedQuota {
    /// Opens a quota around a store. `identity` names what is counted; each identity has a count of its own.
    pub(crate) async fn open(
        (name, rules): (String, Rules),
        store: Arc<dyn BlobStore>,
        identity: &str,
        keeping: Keeping<'_>,
    ) -> Result<Self> {
        let (state_file, lock) = state_file(keeping, identity)
            .with_context(|| format!("cannot open the saved count of the quota of {name}"))?;
        let recount_every = Some(keeping.recount.unwrap_or(RECOUNT));
        let options = QuotaOptions { state_file, lock: Some(lock), recount_every };
        let quota = Quota::open(store, rules.clone(), options)
            .await
            .with_context(|| format!("cannot open the quota of {name}"))?;
        Ok(Self { name, quota, rules })
    }

    /// The same quota with the rules of a new configuration.
    pub(crate) fn with_rules(&self, rules: Rules) -> Self {
        Self { rules, ..self.clone() }
    }

    /// Activates the rules.
    pub(crate) async fn change(&self) -> Result<()> {
        let changed = self.quota.change(self.rules.clone()).await;
        changed.with_context(|| format!("cannot change the quota of {}", self.name))
    }

    /// For `/status`.
    pub(crate) fn status(&self) -> Value {
        let usage = self.quota.usage().into_iter().map(|usage| {
            json!({
                "scope": usage.scope.to_string(),
                "used_bytes": usage.used,
                "reserved_bytes": usage.reserved,
                "limit_bytes": usage.limit,
                "used_entries": usage.entries,
                "limit_entries": usage.max_entries,
            })
        });
        json!({
            "name": self.name,
            "exact": self.quota.is_exact(),
            "usage": usage.collect::<Vec<_>>(),
        })
    }

    /// Saves the counts, so that the next start need not count.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.quota.close().await {
            tracing::warn!(quota = self.name, %error, "cannot save quota usage; the next start counts again");
        }
    }
}

/// A file for a count, and a lock that keeps other processes from it. If another process has locked it, for
/// example because two servers with different rights share a folder, this process gets a file of its own.
fn state_file(keeping: Keeping<'_>, identity: &str) -> Result<(PathBuf, OwnedFd)> {
    let digest = hex::encode(Sha256::digest(identity));
    let short = digest.get(..16).unwrap_or(&digest);
    let folder = keeping.data_dir.join("usage");
    // An open file would keep the store's disk from being unmounted.
    let beside_blobs = keeping.store.is_some_and(|store| keeping.data_dir.starts_with(store));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for number in 1..=MAX_PROCESSES {
        let name = if number == 1 { short.to_owned() } else { format!("{short}-{number}") };
        let path = folder.join(format!("{name}.lock"));
        let lock = if beside_blobs { lock_name(&path) } else { lock_file(&path) };
        let Some(lock) = lock.with_context(|| path.display().to_string())? else { continue };
        if number > 1 {
            tracing::warn!(
                file = %path.display(),
                "another process has a quota on the same folder; each sees the changes of the \
                 other only when it counts again, so set `recount` to a short time"
            );
        }
        return Ok((folder.join(format!("{name}.json")), lock));
    }
    bail!("{MAX_PROCESSES} processes already have quotas in {}", folder.display())
}

/// Locks a file; none if another process has.
fn lock_file(path: &Path) -> io::Result<Option<OwnedFd>> {
    let file = File::options().create(true).append(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file.into())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Takes a name that one process of a machine (or container) can have at a time: that of an abstract
/// socket, which is on no disk. None if another process has it.
fn lock_name(path: &Path) -> io::Result<Option<OwnedFd>> {
    let name =
        format!("keepgate-{}", hex::encode(Sha256::digest(path.as_os_str().as_encoded_bytes())));
    match UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?) {
        Ok(socket) => Ok(Some(socket.into())),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
}

/// Usage and limits of quotas for Prometheus.
pub(crate) struct QuotaMetrics<F> {
    quotas: F,
    used: IntGaugeVec,
    limit: IntGaugeVec,
    entries: IntGaugeVec,
    max_entries: IntGaugeVec,
}

impl<F: Fn() -> Vec<NamedQuota>> QuotaMetrics<F> {
    /// Metrics of the quotas that `quotas` returns at the time of each scrape.
    pub(crate) fn new(quotas: F) -> Result<Self, prometheus::Error> {
        let labels = ["quota", "folder", "user"];
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &labels);
        Ok(Self {
            quotas,
            used: gauge("keepgate_quota_used_bytes", "Bytes of blobs that count for a quota.")?,
            limit: gauge("keepgate_quota_limit_bytes", "Bytes of blobs that a quota allows.")?,
            entries: gauge(
                "keepgate_quota_used_entries",
                "Blobs and folders that count for a quota.",
            )?,
            max_entries: gauge(
                "keepgate_quota_limit_entries",
                "Blobs and folders that a quota allows.",
            )?,
        })
    }

    fn gauges(&self) -> [&IntGaugeVec; 4] {
        [&self.used, &self.limit, &self.entries, &self.max_entries]
    }

    fn fill(&self) -> Result<(), prometheus::Error> {
        // Folders and users without blobs disappear.
        for gauges in self.gauges() {
            gauges.reset();
        }
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for named in (self.quotas)() {
            for usage in named.quota.usage() {
                let (folder, user) = match &usage.scope {
                    Scope::Store => ("", ""),
                    Scope::Folder(folder) => (folder.as_str(), ""),
                    Scope::User(user) => ("", user.as_str()),
                };
                let values = [named.name.as_str(), folder, user];
                for (gauges, value) in self.gauges().into_iter().zip([
                    Some(usage.used),
                    usage.limit,
                    Some(usage.entries),
                    usage.max_entries,
                ]) {
                    if let Some(value) = value {
                        gauges.get_metric_with_label_values(&values)?.set(number(value));
                    }
                }
            }
        }
        Ok(())
    }
}

impl<F: Fn() -> Vec<NamedQuota> + Send + Sync> Collector for QuotaMetrics<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Err(error) = self.fill() {
            tracing::error!(%error, "cannot collect metrics of quotas");
        }
        families(self.gauges().into_iter().flat_map(Collector::collect))
    }
}

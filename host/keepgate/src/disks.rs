//! The folders of the stores as operators see them: lines of `check`, `/status`, `/ready`, metrics.
//!
//! A store is looked at when somebody asks, on a thread of its own, because a disk or a server that
//! hangs must not keep the page from being shown.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use keepgate_store::disk::{DiskStore, StorageReport};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};
use serde_json::{Value, json};

/// How long to wait for all disks together.
const PATIENCE: Duration = Duration::from_secs(2);

/// The stores that serve, with their names and folders.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disks(Vec<Disk>);

#[derive(Clone, Debug)]
struct Disk {
    name: String,
    path: PathBuf,
    store: DiskStore,
}

/// A store and what was found, or why it is not available.
type Found<'a> = (&'a Disk, Result<StorageReport, String>);

impl Disks {
    pub(crate) fn new(disks: impl Iterator<Item = (String, PathBuf, DiskStore)>) -> Self {
        Self(disks.map(|(name, path, store)| Disk { name, path, store }).collect())
    }

    /// Looks at all of them, at once.
    fn look(&self) -> Vec<Found<'_>> {
        let begun = Instant::now();
        let looks: Vec<_> = self.0.iter().map(|disk| (disk, disk.look())).collect();
        let found = looks.into_iter().map(|(disk, answer)| {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let silent = |_| Err(format!("it did not answer within {PATIENCE:?}"));
            (disk, answer.recv_timeout(left).unwrap_or_else(silent))
        });
        found.collect()
    }

    /// For `/status`, by name.
    pub(crate) fn status(&self) -> Value {
        let stores = self.look().into_iter().map(|(disk, found)| {
            let path = disk.path.display().to_string();
            let status = match found {
                Ok(report) => json!({
                    "path": path,
                    "available": true,
                    "file_system": report.file_system,
                    "device": report.device,
                    "mount_point": report.is_mount_point,
                    "free_bytes": report.free,
                    "size_bytes": report.size,
                    "limitations": report.limitations,
                }),
                Err(reason) => json!({ "path": path, "available": false, "reason": reason }),
            };
            (disk.name.clone(), status)
        });
        Value::Object(stores.collect())
    }

    /// What makes the gateway not ready.
    pub(crate) fn problems(&self) -> impl Iterator<Item = String> {
        let found = self.look().into_iter();
        found.filter_map(|(disk, found)| Some(format!("store {}: {}", disk.name, found.err()?)))
    }

    /// A line for each store, and what is wrong with it.
    pub(crate) fn check(&self) -> Vec<(String, Option<String>)> {
        let looked = self.look().into_iter();
        looked.map(|(disk, found)| line(disk, found)).collect()
    }
}

impl Disk {
    fn look(&self) -> mpsc::Receiver<Result<StorageReport, String>> {
        let (answer, answers) = mpsc::channel();
        let store = self.store.clone();
        let looking = std::thread::Builder::new().name("store-report".to_owned());
        // If no thread can be started, the receiver reports that nobody answers.
        let _ = looking.spawn(move || answer.send(store.report()));
        answers
    }
}

fn line(disk: &Disk, found: Result<StorageReport, String>) -> (String, Option<String>) {
    let (name, path) = (&disk.name, disk.path.display());
    match found {
        Ok(report) => {
            let size = |bytes: u64| ByteSize(bytes).display().iec();
            let (free, all) = (size(report.free), size(report.size));
            let mounted = if report.is_mount_point { "mounted here" } else { "a folder" };
            let about = format!("{} on {}, {mounted}", report.file_system, report.device);
            let mut line = format!("store {name}  {path} ({about}), {free} of {all} free");
            for limitation in &report.limitations {
                line = format!("{line}\nstore {name}: {limitation}");
            }
            (line, None)
        }
        Err(_) if !disk.path.exists() && disk.store.is_made_at_start() => {
            (format!("store {name}  {path}: does not exist, `keepgate serve` creates it"), None)
        }
        Err(reason) => {
            let problem = format!("store {name:?}: {path}: {reason}");
            (format!("store {name}  {path}: not available"), Some(problem))
        }
    }
}

/// Whether stores are available and how much space is left, for Prometheus.
pub(crate) struct DiskMetrics<F> {
    disks: F,
    available: IntGaugeVec,
    free: IntGaugeVec,
}

impl<F: Fn() -> Disks> DiskMetrics<F> {
    /// Metrics of the stores that `disks` returns at the time of each scrape.
    pub(crate) fn new(disks: F) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["store"]);
        let available = "Whether a store can be used: 1, or 0 if its disk is missing";
        Ok(Self {
            disks,
            available: gauge("keepgate_store_available", available)?,
            free: gauge("keepgate_store_free_bytes", "Bytes that are free on a store's disk")?,
        })
    }

    fn fill(&self) {
        self.available.reset();
        self.free.reset();
        for (disk, found) in (self.disks)().look() {
            let labels = [disk.name.as_str()];
            self.available.with_label_values(&labels).set(found.is_ok().into());
            if let Ok(report) = found {
                let free = i64::try_from(report.free).unwrap_or(i64::MAX);
                self.free.with_label_values(&labels).set(free);
            }
        }
    }
}

impl<F: Fn() -> Disks + Send + Sync> Collector for DiskMetrics<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.available.desc().into_iter().chain(self.free.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.fill();
        let families = self.available.collect().into_iter().chain(self.free.collect());
        // The encoder rejects families without metrics.
        families.filter(|family| !family.get_metric().is_empty()).collect()
    }
}

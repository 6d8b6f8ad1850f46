//! Copies of stores as the gateway runs them: `[copy.NAME]` of the configuration is a job with a
//! schedule, so that its times, history, cancelling and metrics are those of all jobs. What a copy is,
//! and why it is usable at each moment, is in `keepgate_copy`.
//!
//! The job belongs to no mount: its mount is `copies`, which no path of a mount can be, because paths
//! begin with a slash. Its key is the copy's name.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `runner` | runs the jobs of copies, and hands all others to the plugins |
//! | `last` | how the last run went; kept in the data folder for status and metrics |
//! | `metrics` | what Prometheus gets |

mod last;
mod metrics;
mod runner;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use keepgate_copy::{CopyOptions, Deletes};
use keepgate_jobs::Schedule;
use keepgate_store::guard::Subfolder;
use keepgate_store::{BlobStore, Folder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::assemble::Assembly;
use crate::config::{self, Config, StoreCopy};
use crate::schedules;
use crate::stores::OpenStore;
pub(crate) use last::LastRun;
pub(crate) use metrics::CopyMetrics;
pub(crate) use runner::CopyRunner;

/// The mount of the jobs of copies.
pub(crate) const MOUNT: &str = "copies";
/// The kind of these jobs.
const KIND: &str = "copy";
/// How often a run is tried if a store is not available.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt.
const BACKOFF: Duration = Duration::from_secs(5 * 60);

/// The copies of a configuration, by name.
pub(crate) type Copies = BTreeMap<String, Arc<OpenCopy>>;

/// A copy of the configuration with its stores open.
#[derive(Debug)]
pub(crate) struct OpenCopy {
    pub(crate) name: String,
    settings: StoreCopy,
    from: Arc<dyn BlobStore>,
    to: Arc<dyn BlobStore>,
    /// The copy's own folder in the data folder.
    folder: PathBuf,
}

/// The copies of a configuration.
pub(crate) fn open(config: &Config, assembly: &Assembly) -> Result<Copies> {
    let open = |(name, copy): (&String, &StoreCopy)| {
        let opened = OpenCopy::new(&config.data_dir, name, copy, assembly);
        let opened = opened.with_context(|| format!("[copy.{name}]"))?;
        Ok((name.clone(), Arc::new(opened)))
    };
    config.copy.iter().map(open).collect()
}

/// The schedule of a copy.
pub(crate) fn schedule(name: &str, copy: &StoreCopy) -> Result<Schedule, String> {
    let schedule = Schedule {
        name: config::schedule_name(name),
        mount: MOUNT.to_owned(),
        kind: KIND.to_owned(),
        key: name.to_owned(),
        input: Vec::new(),
        when: copy.when().map_err(config::Problem::into_message)?,
        missed: schedules::missed(copy.missed),
        attempts: ATTEMPTS,
        backoff: BACKOFF,
    };
    schedule.check().map_err(|error| error.to_string())?;
    Ok(schedule)
}

/// A folder of a store as a store.
pub(crate) fn below(store: Arc<dyn BlobStore>, folder: Folder) -> Arc<dyn BlobStore> {
    if folder == Folder::top() { store } else { Arc::new(Subfolder::new(store, folder)) }
}

impl OpenCopy {
    fn new(data: &Path, name: &str, copy: &StoreCopy, assembly: &Assembly) -> Result<Self> {
        let (from, to) = (copy.from.get_ref(), copy.to.get_ref());
        let open = |named: &str, view: fn(&OpenStore) -> Arc<dyn BlobStore>| {
            let (store, folder) = assembly.store(named)?;
            Ok::<_, anyhow::Error>(below(view(&store), folder))
        };
        // Another source or target is another copy: what is known about the one says nothing about the
        // other.
        let mut digest = hex::encode(Sha256::digest(format!("{name}\n{from}\n{to}")));
        digest.truncate(32);
        Ok(Self {
            name: name.to_owned(),
            settings: copy.clone(),
            from: open(from, OpenStore::bare)?,
            to: open(to, |store| store.view(None))?,
            folder: data.join("copies").join(digest),
        })
    }

    fn options(&self) -> CopyOptions {
        let settings = &self.settings;
        let default = CopyOptions::default();
        CopyOptions {
            order: settings.order(),
            parallel: settings.parallel.as_ref().map_or(default.parallel, |it| *it.get_ref()),
            bandwidth: settings.bandwidth.as_ref().map(|bytes| bytes.get_ref().0),
            replace: settings.replace.clone(),
            deletes: settings.delete_after.map(|after| Deletes {
                after: after.0,
                max_missing: settings.max_missing(),
                state: self.folder.clone(),
                now: SystemTime::now(),
            }),
            temporary: Some(self.folder.clone()),
            ..default
        }
    }

    /// For `check`. Blocks.
    pub(crate) fn line(&self) -> String {
        let (name, settings) = (&self.name, &self.settings);
        let last = match LastRun::read(&self.folder) {
            None => "has not run yet".to_owned(),
            Some(last) if last.succeeded => "the last run succeeded".to_owned(),
            Some(last) => format!("the last run failed: {}", last.message),
        };
        format!("copy {name}: {} to {}, {last}", settings.from.get_ref(), settings.to.get_ref())
    }

    /// For `/status`.
    pub(crate) fn status(&self) -> Value {
        json!({
            "name": self.name,
            "from": self.settings.from.get_ref(),
            "to": self.settings.to.get_ref(),
            "schedule": config::schedule_name(&self.name),
            "last_run": LastRun::read(&self.folder),
        })
    }
}

#[cfg(test)]
mod tests;

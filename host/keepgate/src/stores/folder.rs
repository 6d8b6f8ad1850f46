//! A folder of this machine as a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytesize::ByteSize;
use keepgate_store::disk::{DiskOptions, DiskStore, StorageReport};
use keepgate_store::{BlobStore, Clock};
use serde_json::json;

use super::look::{Look, Looks};
use super::overview::Report;
use crate::config;

#[derive(Clone, Debug)]
pub(crate) struct OpenFolder {
    pub(super) path: PathBuf,
    options: DiskOptions,
    store: DiskStore,
    pub(super) blobs: Arc<dyn BlobStore>,
    looks: Looks,
}

impl OpenFolder {
    /// Opens it, or returns `before` if nothing has changed.
    pub(super) fn open(
        (name, path, store): (&str, &Path, &config::Store),
        before: Option<&Self>,
        clock: Clock,
    ) -> Result<Self> {
        let mut options = options(store, clock);
        if let Some(before) = before.filter(|before| before.path == path) {
            if before.options == options {
                return Ok(before.clone());
            }
            // The folder was there when the gateway started. If it is gone, its disk may be missing.
            options.create = false;
        }
        let open = DiskStore::open(path, options.clone())
            .with_context(|| format!("[store.{name}] {}", path.display()))?;
        let options = DiskOptions { create: true, ..options };
        Ok(Self::around(path, options, open))
    }

    /// One that is not looked at before it is used. Nothing is made.
    pub(super) fn to_look_at(path: &Path, store: &config::Store) -> Self {
        let options = options(store, Clock::default());
        let store = DiskStore::unopened(path, options.clone());
        Self::around(path, options, store)
    }

    fn around(path: &Path, options: DiskOptions, store: DiskStore) -> Self {
        let blobs = Arc::new(store.clone());
        Self { path: path.to_owned(), options, store, blobs, looks: Looks::default() }
    }

    /// Starts to look at it, on a thread of its own, because a disk or a server that hangs must not keep a page
    /// from being shown.
    pub(super) fn look(&self) -> Look {
        let store = self.store.clone();
        self.looks.begin(move || store.report())
    }

    /// What there is to report by then.
    pub(super) fn report(&self, look: &Look, until: Instant) -> Report {
        let found = look.wait(until);
        let found = found.unwrap_or_else(|| Err("it does not answer".to_owned()));
        let path = self.path.display().to_string();
        let mut report = Report { lines: Vec::new(), ..Report::default() };
        report.status.insert("path".to_owned(), json!(path));
        match found {
            Ok(found) => self.available(&found, &mut report),
            Err(_) if !self.path.exists() && self.store.is_made_at_start() => {
                report.lines.push(format!("{path}: does not exist, `keepgate serve` creates it"));
                report.unavailable = Some("the folder does not exist".to_owned());
                report.is_problem = false;
            }
            Err(reason) => {
                report.lines.push(format!("{path}: not available"));
                report.unavailable = Some(reason);
            }
        }
        report
    }

    fn available(&self, found: &StorageReport, report: &mut Report) {
        for (name, value) in [
            ("file_system", json!(found.file_system)),
            ("device", json!(found.device)),
            ("mount_point", json!(found.is_mount_point)),
            ("free_bytes", json!(found.free)),
            ("size_bytes", json!(found.size)),
            ("limitations", json!(found.limitations)),
        ] {
            report.status.insert(name.to_owned(), value);
        }
        report.free = Some(found.free);
        let size = |bytes: u64| ByteSize(bytes).display().iec();
        let mounted = if found.is_mount_point { "mounted here" } else { "a folder" };
        let about = format!("{} on {}, {mounted}", found.file_system, found.device);
        let (free, all) = (size(found.free), size(found.size));
        let path = self.path.display();
        report.lines.push(format!("{path} ({about}), {free} of {all} free"));
        report.lines.extend(found.limitations.iter().cloned());
    }
}

fn options(store: &config::Store, clock: Clock) -> DiskOptions {
    let options = DiskOptions {
        require_mount: store.require_mount,
        marker: store.marker.as_ref().map(|marker| marker.get_ref().clone()),
        follow_symlinks: store.follow_symlinks.unwrap_or_default(),
        clock,
        ..DiskOptions::default()
    };
    if store.group_accessible.unwrap_or_default() { options.group_accessible() } else { options }
}

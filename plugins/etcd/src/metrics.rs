//! The plugin's metrics. The host has its own, named `keepgate_…`, about schedules, running jobs and last
//! successes.

use keepgate_sdk::{Description, environment};

const BACKUPS: &str = "etcd_backups_total";
const BACKUP_BYTES: &str = "etcd_backup_stored_bytes_total";
const SNAPSHOT_BYTES: &str = "etcd_backup_snapshot_bytes_total";
const NEWEST_BYTES: &str = "etcd_backup_newest_snapshot_bytes";
pub(crate) const BROKEN_OFF: &str = "etcd_backup_broken_off_total";
pub(crate) const REMOVED: &str = "etcd_backups_removed_total";
const DOWNLOADS: &str = "etcd_backup_downloads_total";
const DOWNLOAD_BYTES: &str = "etcd_backup_download_bytes_total";

/// Declares all of them.
pub(crate) fn describe(description: Description) -> Description {
    let cluster = ["cluster"];
    description
        .counter(BACKUPS, "Backups tried, by outcome: success or failure", &["cluster", "outcome"])
        .counter(BACKUP_BYTES, "Bytes of backups stored, compressed", &cluster)
        .counter(SNAPSHOT_BYTES, "Bytes of snapshots stored, before compression", &cluster)
        .gauge(NEWEST_BYTES, "Bytes of the newest snapshot stored, before compression", &cluster)
        .counter(BROKEN_OFF, "Snapshots that a member did not send to their end", &cluster)
        .counter(REMOVED, "Backups removed, by reason: rotation or request", &["cluster", "reason"])
        .counter(DOWNLOADS, "Downloads of backups begun", &cluster)
        .counter(DOWNLOAD_BYTES, "Bytes of backups asked for by downloads", &cluster)
}

pub(crate) fn saved(cluster: &str, stored: u64, snapshot: u64) {
    environment::count(BACKUPS, &[cluster, "success"], 1);
    environment::count(BACKUP_BYTES, &[cluster], stored);
    environment::count(SNAPSHOT_BYTES, &[cluster], snapshot);
    environment::set(NEWEST_BYTES, &[cluster], snapshot as f64);
}

pub(crate) fn not_saved(cluster: &str) {
    environment::count(BACKUPS, &[cluster, "failure"], 1);
}

pub(crate) fn downloaded(cluster: &str, bytes: u64) {
    environment::count(DOWNLOADS, &[cluster], 1);
    environment::count(DOWNLOAD_BYTES, &[cluster], bytes);
}

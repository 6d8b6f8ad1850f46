//! The stores, each newly made: the disk with every set of features, memory, and both behind layers.

use super::*;

type Made = (Option<TempDir>, Store);

fn disk_with(features: Features) -> Made {
    let dir = TempDir::new().unwrap();
    let options = DiskOptions { features, ..DiskOptions::default() };
    let store = DiskStore::open(dir.path(), options).unwrap();
    (Some(dir), Arc::new(store))
}

pub(super) fn disk() -> Made {
    disk_with(Features::default())
}

/// A folder in which files without a name are certainly used.
pub(super) fn disk_in_memory() -> Made {
    let dir = in_memory().unwrap_or_else(|| TempDir::new().unwrap());
    let store = DiskStore::open(dir.path(), DiskOptions::default()).unwrap();
    (Some(dir), Arc::new(store))
}

pub(super) fn disk_without_openat2() -> Made {
    disk_with(Features { openat2: false, ..Features::default() })
}

pub(super) fn disk_with_named_files() -> Made {
    disk_with(Features { unnamed_files: false, ..Features::default() })
}

pub(super) fn disk_with_hard_links() -> Made {
    disk_with(Features { unnamed_files: false, rename_noreplace: false, ..Features::default() })
}

pub(super) fn disk_with_neither() -> Made {
    disk_with(Features {
        unnamed_files: false,
        rename_noreplace: false,
        hard_links: false,
        openat2: true,
    })
}

pub(super) fn memory() -> Made {
    (None, Arc::new(MemoryStore::new()))
}

/// With every key excepted, the guard must make no difference.
fn behind_append_only((dir, store): Made) -> Made {
    (dir, Arc::new(AppendOnly::new(store, &["**".to_owned()]).unwrap()))
}

fn in_subfolder((dir, store): Made) -> Made {
    let folder = folder("some/folder");
    (dir, Arc::new(Subfolder::new(store, folder)))
}

pub(super) fn disk_behind_append_only() -> Made {
    behind_append_only(disk())
}

pub(super) fn disk_subfolder() -> Made {
    let made = disk();
    std::fs::create_dir_all(made.0.as_ref().unwrap().path().join("some/folder")).unwrap();
    in_subfolder(made)
}

pub(super) fn memory_behind_append_only() -> Made {
    behind_append_only(memory())
}

pub(super) fn memory_subfolder() -> Made {
    let (dir, store) = memory();
    // In memory, this is ready at once.
    store.prepare(&[folder("some/folder")]).now_or_never().unwrap().unwrap();
    in_subfolder((dir, store))
}

/// Limits that are never reached must make no difference.
fn in_quota((dir, store): Made) -> Made {
    let state = TempDir::new().unwrap();
    let folder = FolderRule { pattern: "**".to_owned(), limit: Amount::limit(1 << 40) };
    let user = UserRule { user: "*".to_owned(), limit: Amount::limit(1 << 40) };
    let rules =
        Rules { total: Some(Amount::limit(1 << 40)), folders: vec![folder], users: vec![user] };
    let options =
        QuotaOptions { state_file: state.path().join("quota"), lock: None, recount_every: None };
    let quota = tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(Quota::open(store, rules, options))
    });
    // The disk's folder must outlive the quota, and nothing else holds it.
    let dir = dir.unwrap_or(state);
    (Some(dir), quota.unwrap().store(Some("alice")))
}

pub(super) fn disk_in_quota() -> Made {
    in_quota(disk())
}

pub(super) fn memory_in_quota() -> Made {
    in_quota(memory())
}

pub(super) fn unguarded() -> Made {
    let (dir, store) = disk();
    (dir, Policy::default().guard(store, &Clock::default()).unwrap())
}

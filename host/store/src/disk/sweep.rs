//! Temporary names of unfinished files, and removing those that dead processes left behind.
//!
//! An unfinished file that needs a name has it in the folder of its blob, so that group, ACLs, security
//! label and project are those that the folder gives. No key may have such a name, and listings hide
//! it. A living process holds a lock on each of its files; a file whose lock nobody holds is dead.
//!
//! Dead files are removed when a root is opened for the first time, by a walk on a thread of its own,
//! and by every listing that meets one.

use std::mem::MaybeUninit;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::tree::{self, DIRECTORY, Dir, Tree};
use crate::key::{RESERVED, UNFINISHED};

/// Where versions before 0.2 kept unfinished files: `.keepgate/tmp/<random>/`, with a lock.
const TMP: &str = "tmp";
const LOCK: &str = "lock";
const FILE: OFlags =
    OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
/// Where there are no locks, a file that was not written to for this long is dead.
const DEAD: Duration = Duration::from_secs(24 * 3600);
/// Deeper folders than keys can name are not looked at.
const MAX_DEPTH: usize = crate::key::MAX_KEY / 2;

/// A temporary name that nobody else uses.
pub(super) fn temporary_name() -> Result<String, Errno> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Errno::IO)?;
    Ok(format!("{UNFINISHED}{}", hex::encode(bytes)))
}

/// Marks an open file with a temporary name as that of a living process. False if a sweep was faster
/// and removes it.
pub(super) fn hold(file: impl AsFd) -> bool {
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        // A sweep that had locked it has removed it.
        Ok(()) => tree::stat(&file).is_ok_and(|stat| stat.stx_nlink > 0),
        Err(Errno::WOULDBLOCK) => false,
        // This file system has no locks.
        Err(_) => true,
    }
}

/// Calls `each` with name, kind and inode of every entry in an open folder except `.` and `..`. An
/// error from `each` ends the reading.
pub(super) fn read_folder(
    folder: impl AsFd,
    mut each: impl FnMut(&[u8], FileType, u64) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut buffer = [MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(folder, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            each(name, entry.file_type(), entry.ino())?;
        }
    }
    Ok(())
}

/// Whether a name is one of unfinished files.
pub(super) fn is_temporary(name: &[u8]) -> bool {
    name.starts_with(UNFINISHED.as_bytes())
}

/// Removes an unfinished file if its process is dead; says whether it did.
pub(super) fn remove_if_dead(folder: impl AsFd + Copy, name: &[u8]) -> bool {
    let Ok(file) = rustix::fs::openat(folder, name, FILE, Mode::empty()) else { return false };
    let Ok(stat) = tree::stat(&file) else { return false };
    let dead = tree::is_regular(&stat)
        && match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => true,
            Err(Errno::WOULDBLOCK) => false,
            Err(_) => age(&stat) > DEAD,
        };
    dead && rustix::fs::unlinkat(folder, name, AtFlags::empty()).is_ok()
}

fn age(stat: &rustix::fs::Statx) -> Duration {
    let modified = u64::try_from(stat.stx_mtime.tv_sec).unwrap_or(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(modified))
}

/// Starts to remove what dead processes left below a root; none if no thread can be started.
pub(super) fn start(tree: Tree) -> Option<JoinHandle<()>> {
    let name = "store-sweep".to_owned();
    let sweep = move || {
        let mut removed = 0;
        if let Some(root) = super::root::readable(&tree) {
            walk(&root, 0, &mut removed);
        }
        if removed > 0 {
            tracing::info!(
                files = removed, folder = %tree.path_of("").display(),
                "removed unfinished uploads of processes that did not exit properly"
            );
        }
    };
    std::thread::Builder::new().name(name).spawn(sweep).ok()
}

/// Sweeps a folder and those in it. What cannot be read or removed is left out.
fn walk(folder: &impl AsFd, depth: usize, removed: &mut usize) {
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    let read = read_folder(folder, |name, kind, _| {
        if is_temporary(name) {
            files.push(name.to_vec());
        } else if matches!(kind, FileType::Directory | FileType::Unknown) {
            folders.push(name.to_vec());
        }
        Ok(())
    });
    if read.is_err() {
        return;
    }
    *removed += files.iter().filter(|name| remove_if_dead(folder.as_fd(), name)).count();
    for name in folders {
        if name == RESERVED.as_bytes() {
            *removed += sweep_reserved(folder.as_fd());
        } else if depth < MAX_DEPTH
            && let Ok(inner) = open(folder, &name)
        {
            walk(&inner, depth + 1, removed);
        }
    }
}

fn open(folder: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(folder, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
}

/// Removes what earlier versions left in `.keepgate/tmp`, and both folders if they are empty then.
fn sweep_reserved(base: impl AsFd) -> usize {
    let Ok(reserved) = open(&base, RESERVED.as_bytes()) else { return 0 };
    let Ok(tmp) = open(&reserved, TMP.as_bytes()) else { return 0 };
    let mut names = Vec::new();
    let _ = read_folder(&tmp, |name, kind, _| {
        if matches!(kind, FileType::Directory | FileType::Unknown) {
            names.push(name.to_vec());
        }
        Ok(())
    });
    // A failure (another user's folder, for example) does not keep us from the others.
    let removed = names.iter().filter_map(|name| sweep_workspace(&tmp, name).ok()).sum();
    // Both fail if somebody uses the folder, as they should.
    let _ = rustix::fs::unlinkat(&reserved, TMP, AtFlags::REMOVEDIR);
    let _ = rustix::fs::unlinkat(&base, RESERVED, AtFlags::REMOVEDIR);
    removed
}

/// Removes the workspace of an earlier version if nobody holds its lock, and returns how many files
/// were in it.
fn sweep_workspace(tmp: &OwnedFd, name: &[u8]) -> Result<usize, Errno> {
    let folder = open(tmp, name)?;
    let lock = match rustix::fs::openat(&folder, LOCK, FILE, Mode::empty()) {
        Ok(lock) => lock,
        // Killed before it made its lock, or about to make it, in which case it starts again.
        Err(Errno::NOENT) => {
            rustix::fs::unlinkat(tmp, name, AtFlags::REMOVEDIR)?;
            return Ok(0);
        }
        Err(errno) => return Err(errno),
    };
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let mut files = Vec::new();
    read_folder(&folder, |name, kind, _| {
        if name != LOCK.as_bytes() && kind != FileType::Directory {
            files.push(name.to_vec());
        }
        Ok(())
    })?;
    for file in &files {
        rustix::fs::unlinkat(&folder, file, AtFlags::empty())?;
    }
    rustix::fs::unlinkat(&folder, LOCK, AtFlags::empty())?;
    rustix::fs::unlinkat(tmp, name, AtFlags::REMOVEDIR)?;
    Ok(files.len())
}

/// Removes the dead among these unfinished files, which a listing met.
pub(super) fn met(folder: &Dir, names: &[Vec<u8>]) {
    for name in names {
        remove_if_dead(folder.as_fd(), name);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn opened(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, DIRECTORY, Mode::empty()).unwrap()
    }

    fn swept(path: &std::path::Path) -> usize {
        let mut removed = 0;
        walk(&opened(path), 0, &mut removed);
        removed
    }

    #[test]
    fn a_sweep_spares_live_files_and_removes_dead_ones() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        let (living, dead) = (temporary_name().unwrap(), temporary_name().unwrap());
        let file = fs::File::create(deep.join(&living)).unwrap();
        assert!(hold(&file));
        fs::write(deep.join(&dead), b"half").unwrap();
        fs::write(deep.join("blob"), b"whole").unwrap();
        // Neither a file nor unfinished.
        fs::create_dir(deep.join(format!("{UNFINISHED}folder"))).unwrap();

        assert_eq!(swept(dir.path()), 1);
        assert!(deep.join(&living).exists() && deep.join("blob").exists());
        assert!(!deep.join(&dead).exists());
        drop(file);
        assert_eq!(swept(dir.path()), 1);
        assert!(!deep.join(&living).exists());
    }

    #[test]
    fn a_file_that_a_sweep_has_taken_cannot_be_held() {
        let dir = tempfile::tempdir().unwrap();
        let name = temporary_name().unwrap();
        let file = fs::File::create(dir.path().join(&name)).unwrap();
        let sweeper = fs::File::open(dir.path().join(&name)).unwrap();
        rustix::fs::flock(&sweeper, FlockOperation::LockExclusive).unwrap();
        assert!(!hold(&file));
        fs::remove_file(dir.path().join(&name)).unwrap();
        drop(sweeper);
        assert!(!hold(&file));
    }

    #[test]
    fn workspaces_of_earlier_versions_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let tmp = dir.path().join(".keepgate/tmp");
        for name in ["dead", "living"] {
            fs::create_dir_all(tmp.join(name)).unwrap();
            fs::write(tmp.join(name).join("lock"), b"").unwrap();
            fs::write(tmp.join(name).join("upload"), b"half").unwrap();
        }
        // Neither is a workspace: a file, and a subfolder that contains a folder.
        fs::write(tmp.join("note"), b"").unwrap();
        fs::create_dir_all(tmp.join("other/sub")).unwrap();
        let lock = fs::File::open(tmp.join("living/lock")).unwrap();
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();

        assert_eq!(swept(dir.path()), 1);
        assert!(!tmp.join("dead").exists() && tmp.join("living/upload").exists());
        assert!(tmp.join("note").exists() && tmp.join("other/sub").exists());
        fs::remove_file(tmp.join("note")).unwrap();
        fs::remove_dir_all(tmp.join("other")).unwrap();
        drop(lock);
        assert_eq!(swept(dir.path()), 1);
        assert!(!dir.path().join(".keepgate").exists());
    }
}

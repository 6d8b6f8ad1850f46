//! The hidden folder for unfinished files that need a name: `.keepgate/tmp/<random>/` below the
//! store's root, or below another mount if only that one can exchange files with a blob's folder.
//!
//! Several processes may use one root, so each [`Workspace`] has a subfolder of its own and holds a
//! lock in it while it exists. A sweep removes subfolders whose lock nobody holds, and nothing else.
//! The root's folder is swept when a store is opened, others when they are used next.

use std::mem::MaybeUninit;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::tree;
use crate::key::RESERVED;

const TMP: &str = "tmp";
const LOCK: &str = "lock";
/// How often to start again if another process removes folders that we are making.
const TRIES: usize = 100;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A subfolder for this process's unfinished files; removed when dropped.
#[derive(Debug)]
pub(super) struct Workspace {
    folder: OwnedFd,
    tmp: OwnedFd,
    name: String,
    /// Holds the lock while it is open; `None` if the file system has no locks.
    _lock: Option<OwnedFd>,
    /// The folder that contains `.keepgate`, if `.keepgate` must be removed once it is empty.
    temporary: Option<OwnedFd>,
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Swept {
    /// Subfolders of dead processes.
    pub(super) folders: usize,
    /// Unfinished files in them.
    pub(super) files: usize,
}

impl Workspace {
    /// Makes a workspace in `base`, and reports what was swept there. Unless it is to `stay`,
    /// dropping it removes `.keepgate` as well.
    pub(super) fn open(base: &OwnedFd, mode: Mode, stay: bool) -> Result<(Self, Swept), Errno> {
        let mut swept = Swept::default();
        for _ in 0..TRIES {
            match Self::attempt(base, mode, stay, &mut swept) {
                // A folder was removed while we used it, or a sweep was faster than our lock.
                Err(Errno::NOENT | Errno::WOULDBLOCK) => {}
                other => return other.map(|workspace| (workspace, swept)),
            }
        }
        Err(Errno::BUSY)
    }

    fn attempt(base: &OwnedFd, mode: Mode, stay: bool, swept: &mut Swept) -> Result<Self, Errno> {
        let reserved = make(base, RESERVED, mode)?;
        let tmp = make(&reserved, TMP, mode)?;
        sweep(&tmp, swept)?;
        let name = random_name()?;
        rustix::fs::mkdirat(&tmp, &name, mode)?;
        let folder = rustix::fs::openat(&tmp, &name, DIRECTORY, Mode::empty())?;
        let lock = lock(&folder)?;
        let temporary = if stay { None } else { Some(rustix::io::dup(base)?) };
        Ok(Self { folder, tmp, name, _lock: lock, temporary })
    }

    /// The folder to make files in.
    pub(super) fn folder(&self) -> &OwnedFd {
        &self.folder
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // A later sweep removes what cannot be removed now.
        let _ = rustix::fs::unlinkat(&self.folder, LOCK, AtFlags::empty());
        let _ = rustix::fs::unlinkat(&self.tmp, &self.name, AtFlags::REMOVEDIR);
        if let Some(base) = &self.temporary
            && let Ok(reserved) = rustix::fs::openat(base, RESERVED, DIRECTORY, Mode::empty())
        {
            // Both fail if somebody else uses the folder, as they should.
            let _ = rustix::fs::unlinkat(&reserved, TMP, AtFlags::REMOVEDIR);
            let _ = rustix::fs::unlinkat(base, RESERVED, AtFlags::REMOVEDIR);
        }
    }
}

/// A name that nobody else uses.
pub(super) fn random_name() -> Result<String, Errno> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Errno::IO)?;
    Ok(hex::encode(bytes))
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

fn make(base: &OwnedFd, name: &str, mode: Mode) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(base, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    rustix::fs::openat(base, name, DIRECTORY, Mode::empty())
}

/// Makes and takes the lock of a subfolder. `WOULDBLOCK` and `NOENT` mean that a sweep interfered;
/// none means that this file system has no locks, so the subfolder will never be swept.
fn lock(folder: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, LOCK, flags, Mode::RUSR | Mode::WUSR)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        // `NOENT` if a sweep had locked it first and removed it.
        Ok(()) => tree::stat_at(folder, LOCK).map(|_| Some(file)),
        Err(Errno::WOULDBLOCK) => Err(Errno::WOULDBLOCK),
        Err(_) => Ok(None),
    }
}

fn sweep(tmp: &OwnedFd, swept: &mut Swept) -> Result<(), Errno> {
    let mut names = Vec::new();
    read_folder(tmp, |name, kind, _| {
        if matches!(kind, FileType::Directory | FileType::Unknown) {
            names.push(name.to_vec());
        }
        Ok(())
    })?;
    for name in names {
        // A failure (another user's subfolder, for example) does not keep us from making ours.
        if let Ok(Some(files)) = sweep_one(tmp, &name) {
            swept.folders += 1;
            swept.files += files;
        }
    }
    Ok(())
}

/// Removes one subfolder if nobody holds its lock, and returns how many files were in it; `None` if it
/// is in use or was never locked.
fn sweep_one(tmp: &OwnedFd, name: &[u8]) -> Result<Option<usize>, Errno> {
    let folder = rustix::fs::openat(tmp, name, DIRECTORY, Mode::empty())?;
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let lock = match rustix::fs::openat(&folder, LOCK, flags, Mode::empty()) {
        Ok(lock) => lock,
        // Killed before it made its lock, or about to make it, in which case it starts again.
        Err(Errno::NOENT) => {
            rustix::fs::unlinkat(tmp, name, AtFlags::REMOVEDIR)?;
            return Ok(None);
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
    Ok(Some(files.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn a_sweep_spares_live_processes_and_removes_dead_ones() {
        let dir = tempfile::tempdir().unwrap();
        let base = base(dir.path());
        let (living, _) = Workspace::open(&base, Mode::RWXU, true).unwrap();
        let unfinished = dir.path().join(".keepgate/tmp").join(&living.name).join("upload");
        std::fs::write(&unfinished, b"half").unwrap();

        // What a killed process leaves behind: a subfolder whose lock nobody holds.
        let dead = dir.path().join(".keepgate/tmp/dead");
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join("lock"), b"").unwrap();
        std::fs::write(dead.join("upload"), b"half").unwrap();
        // Neither is a workspace: a file, and a subfolder that contains a folder.
        std::fs::write(dir.path().join(".keepgate/tmp/note"), b"").unwrap();
        std::fs::create_dir_all(dir.path().join(".keepgate/tmp/other/sub")).unwrap();

        let (next, swept) = Workspace::open(&base, Mode::RWXU, true).unwrap();
        assert_eq!(swept, Swept { folders: 1, files: 1 });
        assert!(!dead.exists());
        assert!(unfinished.exists());
        assert!(dir.path().join(".keepgate/tmp/note").exists());
        assert!(dir.path().join(".keepgate/tmp/other/sub").exists());

        std::fs::remove_file(&unfinished).unwrap();
        let own = dir.path().join(".keepgate/tmp").join(&next.name);
        assert!(own.exists());
        drop(next);
        assert!(!own.exists());
        assert!(dir.path().join(".keepgate/tmp").join(&living.name).exists());
    }

    #[test]
    fn a_temporary_workspace_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let base = base(dir.path());
        let (first, _) = Workspace::open(&base, Mode::RWXU, false).unwrap();
        let (second, _) = Workspace::open(&base, Mode::RWXU, false).unwrap();
        drop(first);
        assert!(dir.path().join(".keepgate").exists());
        drop(second);
        assert!(!dir.path().join(".keepgate").exists());
    }

    #[test]
    fn concurrent_workspaces_do_not_sweep_each_other() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let base = base(dir.path());
                    for _ in 0..50 {
                        let (one, _) = Workspace::open(&base, Mode::RWXU, false).unwrap();
                        let file = rustix::fs::openat(
                            one.folder(),
                            "upload",
                            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY,
                            Mode::RWXU,
                        )
                        .unwrap();
                        assert_eq!(tree::stat(&file).unwrap().stx_nlink, 1);
                        rustix::fs::unlinkat(one.folder(), "upload", AtFlags::empty()).unwrap();
                    }
                });
            }
        });
        assert!(!dir.path().join(".keepgate").exists());
    }
}

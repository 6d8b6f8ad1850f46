//! Which steps are guarantees and which are best effort, and what a file system's errors mean for
//! each. Everything that reacts to an error of an optional step does it by this table.
//!
//! A guarantee that fails fails the call, because the store's promise rests on it. A best-effort step
//! that fails takes its fallback **whatever the error is**, because network and FUSE file systems
//! answer what they like (`EIO`, `ENOENT`, `EINVAL`, `ENOTTY`, `EACCES`, `EREMOTEIO`, `EPERM`) where
//! others say `ENOTSUP`. If the disk is really full or broken, the fallback fails too, and its error
//! is the one that counts. So no list of errors decides about a fallback.
//!
//! | step | kind | if it fails |
//! | --- | --- | --- |
//! | open and `statx` the root | guarantee | the store is unavailable: nothing is known about it |
//! | `openat2` | best effort | names are resolved folder by folder |
//! | `RESOLVE_CACHED`, `RWF_NOWAIT` | best effort | the same on a thread that may block |
//! | `O_TMPFILE` | best effort | a file with a temporary name in the same folder |
//! | create a file with a name | guarantee | the upload fails |
//! | `flock` of that file | best effort | a dead one is removed after a day, not at once |
//! | `fsetxattr` | guarantee if there is metadata | `Unsupported` if the file system has none |
//! | `fgetxattr` | guarantee where attributes exist | none, if the file system has none |
//! | `write` | guarantee | the upload fails |
//! | `fadvise` | best effort | nothing: a hint |
//! | `copy_file_range` | best effort | the rest is read and written |
//! | `futimens` | best effort | the etag has the kernel's time, which is coarser |
//! | `fsync` of a file | guarantee where it exists | see [`file_sync`] |
//! | `linkat` of an unnamed file | best effort | by `/proc`, then a copy with a temporary name |
//! | `renameat2(NOREPLACE)` | best effort | `linkat`, then a look and `renameat` |
//! | `renameat` | guarantee | the upload fails |
//! | `fsync` of a folder | guarantee where it exists | see [`folder_sync`] |
//! | `mkdirat` | guarantee | judged by its result: the folder is there, or the call fails |
//! | `statx` of the path at the commit | guarantee | the call is not acknowledged |
//! | `unlinkat` of a blob | guarantee | the delete fails |
//! | `unlinkat` of an unfinished file | best effort | it stays hidden, and a sweep removes it |
//! | `fstatfs`, `/proc`, `/sys` | best effort | the file system counts as an unknown one |
//!
//! In both link steps and in `renameat2`, `EEXIST` is an answer and not a failure. The store never
//! calls `chmod`, `chown` or `fallocate`.

use rustix::io::Errno;

/// What a failed `fsync` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// The file system cannot do it. The promise that rests on it is weaker there, which is
    /// reported once.
    Impossible,
    /// It should have worked: the call fails.
    Failed,
}

/// A failed `fsync` of a file that was written. It fails the upload, unless the error says that the
/// file system has no such call: any other error may mean that bytes are lost.
pub(super) fn file_sync(errno: Errno) -> Sync {
    if lacks_call(errno) { Sync::Impossible } else { Sync::Failed }
}

/// A failed `fsync` of an open folder.
///
/// For most errors the question is whether they can come from a disk. Those of permissions and names
/// cannot, since the folder is open; servers and FUSE programs send them instead of `ENOTSUP`. `EIO`
/// and the rest can, so they fail the call on every file system that is `proven` to sync folders:
/// the kernel's own, and any other that did it before.
pub(super) fn folder_sync(errno: Errno, proven: bool) -> Sync {
    let not_a_disk = matches!(
        errno,
        Errno::NOENT | Errno::ACCESS | Errno::PERM | Errno::REMOTEIO | Errno::ISDIR
    );
    if lacks_call(errno) || not_a_disk || (!proven && !is_full(errno)) {
        Sync::Impossible
    } else {
        Sync::Failed
    }
}

/// Whether a failed `fsetxattr` or `fgetxattr` of an open file means that the file system has no
/// attributes. `local` file systems report it in one way only.
pub(super) fn lacks_attributes(errno: Errno, local: bool) -> bool {
    let elsewhere = matches!(errno, Errno::NOENT | Errno::ACCESS | Errno::REMOTEIO | Errno::IO);
    lacks_call(errno) || errno == Errno::PERM || (!local && elsewhere)
}

/// Whether the disk, or the user's quota on it, is full.
pub(super) fn is_full(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT)
}

/// Whether the kernel or the file system says that it lacks this call.
fn lacks_call(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NOTTY)
}

/// Whether this process, and not the file system, is short of something.
pub(super) fn is_ours(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disks_error_is_never_taken_for_a_missing_feature() {
        for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::ROFS] {
            assert_eq!(file_sync(errno), Sync::Failed, "{errno}");
            assert_eq!(folder_sync(errno, true), Sync::Failed, "{errno}");
            assert!(!lacks_attributes(errno, true), "{errno}");
        }
        assert_eq!(folder_sync(Errno::NOSPC, false), Sync::Failed);
    }

    #[test]
    fn what_servers_and_fuse_programs_say_is_taken_for_one() {
        use Errno as E;
        for errno in
            [E::OPNOTSUPP, E::INVAL, E::NOSYS, E::NOTTY, E::NOENT, E::ACCESS, E::PERM, E::REMOTEIO]
        {
            assert_eq!(folder_sync(errno, true), Sync::Impossible, "{errno}");
            assert_eq!(folder_sync(errno, false), Sync::Impossible, "{errno}");
            assert!(lacks_attributes(errno, false), "{errno}");
        }
        assert_eq!(folder_sync(Errno::IO, false), Sync::Impossible);
        assert_eq!(file_sync(Errno::PERM), Sync::Failed);
    }
}

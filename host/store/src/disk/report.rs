//! What operators see of a store's root: file system, device, free space, and promises that the file
//! system cannot keep. Nothing here decides anything.

use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, StatxFlags};

use super::Inner;
use super::folders::CANNOT_SYNC;
use super::root::readable;
use super::tree::Tree;

/// A store's root at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageReport {
    /// The type of its file system, such as `ext4` or `fuse.rclone`.
    pub file_system: String,
    /// What is mounted, such as `/dev/sdb1` or `server:/export`; otherwise the device's number.
    pub device: String,
    /// Whether the root is a mount point.
    pub is_mount_point: bool,
    /// Bytes that this process may still use.
    pub free: u64,
    /// Bytes of the whole file system.
    pub size: u64,
    /// What cannot be promised on this file system, one sentence for each.
    pub limitations: Vec<String>,
}

/// Looks at the root now. The error is for operators.
pub(super) fn report(store: &Inner) -> Result<StorageReport, String> {
    let tree = store.tree().or_else(|error| {
        let (tree, _) = store.root.attempt().map_err(|lost| format!("{lost}"))?;
        tracing::debug!(%error, "the store became available meanwhile");
        Ok::<_, String>(tree)
    })?;
    root_report(&tree)
        .map_err(|errno| format!("cannot look at it: {}", std::io::Error::from(errno)))
}

fn root_report(tree: &Tree) -> Result<StorageReport, rustix::io::Errno> {
    let space = rustix::fs::fstatvfs(&*tree.root)?;
    let stat = rustix::fs::statx(&*tree.root, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    let mounted = std::fs::read("/proc/self/mountinfo").ok().and_then(|table| {
        table.split(|byte| *byte == b'\n').find_map(|line| mount(line, stat.stx_mnt_id))
    });
    let number = format!("{}:{}", stat.stx_dev_major, stat.stx_dev_minor);
    let (file_system, device) = mounted.unwrap_or_else(|| ("unknown".to_owned(), number));
    let mut limitations = Vec::new();
    if let Some(dir) = readable(tree) {
        let known = tree.known.capabilities.file_system(&dir);
        if known.warned.load(Ordering::Relaxed) {
            limitations.push(CANNOT_SYNC.to_owned());
        }
        if known.files_warned.load(Ordering::Relaxed) {
            limitations.push(super::temp::CANNOT_SYNC_FILES.to_owned());
        }
    }
    Ok(StorageReport {
        file_system,
        device,
        is_mount_point: tree.known.is_mount(),
        free: space.f_bavail.saturating_mul(space.f_frsize),
        size: space.f_blocks.saturating_mul(space.f_frsize),
        limitations,
    })
}

/// Type and source of a mount, if it is the one on this line of `/proc/self/mountinfo`.
fn mount(line: &[u8], id: u64) -> Option<(String, String)> {
    let text = std::ffi::OsStr::from_bytes(line).to_string_lossy();
    let (place, kind) = text.split_once(" - ")?;
    (place.split(' ').next()?.parse() == Ok(id)).then_some(())?;
    let mut fields = kind.split(' ');
    let (file_system, device) = (fields.next()?, fields.next()?);
    Some((file_system.to_owned(), device.replace("\\040", " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_number() {
        let line = b"36 35 98:0 /a /mnt/x\\040y rw,noatime shared:1 - ext4 /dev/my\\040disk rw";
        let found = Some(("ext4".to_owned(), "/dev/my disk".to_owned()));
        assert_eq!(mount(line, 36), found);
        assert_eq!(mount(line, 35), None);
        assert_eq!(mount(b"", 36), None);
    }
}

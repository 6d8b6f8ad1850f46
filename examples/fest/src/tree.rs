//! What is in a folder.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use crate::manifest::{About, Link, Manifest};
use crate::names;
use crate::omit::Omit;

/// A file of a folder.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Relative to the folder.
    pub(crate) path: PathBuf,
    pub(crate) key: String,
    pub(crate) about: About,
    pub(crate) size: u64,
    /// Which file it is, and when it was changed: while these are the same, so are its bytes.
    pub(crate) identity: Identity,
}

/// What tells whether a file was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Identity {
    pub(crate) size: u64,
    pub(crate) inode: u64,
    pub(crate) modified: (i64, i64),
    pub(crate) changed: (i64, i64),
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Looks at a folder. Its files come back; folders and links are put into the manifest. What cannot be read is reported,
/// and left out.
pub(crate) fn walk(
    folder: &Path,
    omit: &Omit,
    manifest: &mut Manifest,
    report: &mut dyn FnMut(&Path, &io::Error),
) -> Result<Vec<Found>> {
    let owners = Owners::read();
    let mut files = Vec::new();
    let mut taken = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        let entries = match fs::read_dir(folder.join(&below)) {
            Ok(entries) => entries,
            Err(error) if below.as_os_str().is_empty() => {
                return Err(error).with_context(|| folder.display().to_string());
            }
            Err(error) => {
                report(&below, &error);
                continue;
            }
        };
        for entry in entries {
            let seen = entry.and_then(|entry| {
                let path = below.join(entry.file_name());
                Ok((entry.metadata()?, path))
            });
            let (metadata, path) = match seen {
                Ok(seen) => seen,
                Err(error) => {
                    report(&below, &error);
                    continue;
                }
            };
            if omit.fits(&path) {
                continue;
            }
            let kind = metadata.file_type();
            let [of_files, of_folders, of_links] = &mut taken;
            if kind.is_dir() {
                let (key, raw) = names::to_key(&path, of_folders);
                manifest.directories.insert(key, about(&metadata, raw, &owners));
                folders.push(path);
            } else if kind.is_symlink() {
                match fs::read_link(folder.join(&path)) {
                    Ok(target) => {
                        let (key, raw) = names::to_key(&path, of_links);
                        manifest.links.insert(key, link(&target, raw));
                    }
                    Err(error) => report(&path, &error),
                }
            } else if kind.is_file() {
                let (key, raw) = names::to_key(&path, of_files);
                let about = about(&metadata, raw, &owners);
                let identity = Identity::of(&metadata);
                files.push(Found { path, key, about, size: metadata.len(), identity });
            }
            // Sockets, pipes and devices are nothing to back up.
        }
    }
    files.sort_by(|one, two| one.path.cmp(&two.path));
    Ok(files)
}

fn link(target: &Path, raw: Option<String>) -> Link {
    let (shown, raw_target) = names::to_key(target, &mut BTreeSet::new());
    let target = shown.strip_prefix("./").unwrap_or(&shown).to_owned();
    Link { target, raw_target, raw }
}

fn about(metadata: &Metadata, raw: Option<String>, owners: &Owners) -> About {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let timestamp = Timestamp::try_from(modified).map(|time| time.to_string()).unwrap_or_default();
    let mode = metadata.permissions().mode() & 0o7777;
    About {
        timestamp,
        user: owners.users.name(metadata.uid()),
        group: owners.groups.name(metadata.gid()),
        // The digits are the octal ones.
        permissions: format!("{mode:o}").parse().unwrap_or_default(),
        raw,
    }
}

/// The names of users and groups of this machine.
#[derive(Debug)]
pub(crate) struct Owners {
    pub(crate) users: Ids,
    pub(crate) groups: Ids,
}

/// Names and their numbers.
#[derive(Debug)]
pub(crate) struct Ids(Vec<(String, u32)>);

impl Owners {
    pub(crate) fn read() -> Self {
        Self { users: Ids::read("/etc/passwd"), groups: Ids::read("/etc/group") }
    }
}

impl Ids {
    fn read(file: &str) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        let read = |line: &str| {
            let mut fields = line.split(':');
            let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
            Some((name.to_owned(), id.parse().ok()?))
        };
        Self(text.lines().filter_map(read).collect())
    }

    /// The name, or the number if there is none.
    fn name(&self, id: u32) -> String {
        let found = self.0.iter().find(|(_, known)| *known == id);
        found.map_or_else(|| id.to_string(), |(name, _)| name.clone())
    }

    /// The number of a name, or of a number.
    pub(crate) fn id(&self, name: &str) -> Option<u32> {
        let found = self.0.iter().find(|(known, _)| known == name).map(|(_, id)| *id);
        found.or_else(|| name.parse().ok())
    }
}

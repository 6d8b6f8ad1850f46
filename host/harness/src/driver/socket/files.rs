//! Checks a server's disk. A repository contains only files of the surface's layout, so a temporary file left
//! by a refused upload fails any case.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::case::{Content, Disk, Kept, Layout, Short, Values};
use crate::compare::{self, Known};

/// A difference: what was expected, and what was found.
pub(super) type Differs = Option<(String, String)>;

/// The folders of a case.
#[derive(Clone, Debug)]
pub(super) struct Folders {
    /// The server's data folder.
    pub(super) data: PathBuf,
    /// The repository's folder in it.
    pub(super) repository: PathBuf,
    /// The folder for logs and certificates.
    pub(super) scratch: PathBuf,
}

impl Folders {
    /// The path on disk for a path in a case.
    fn path(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("scratch:"), path.strip_prefix('/')) {
            (Some(name), _) => self.scratch.join(name),
            (None, Some(below)) => self.data.join(below),
            (None, None) => self.repository.join(path),
        }
    }

    /// Puts a file into the repository, or a folder if the name ends with a slash.
    pub(super) fn put(
        &self,
        name: &str,
        content: &Content,
        known: Known<'_>,
    ) -> Result<(), String> {
        let path = self.path(name);
        let wrong = |error: io::Error| format!("{}: {error}", path.display());
        if name.ends_with('/') {
            return fs::create_dir_all(&path).map_err(wrong);
        }
        write(&path, &content.bytes(known.folder, known.values)?).map_err(wrong)
    }

    /// Removes a file, or a folder with everything in it.
    pub(super) fn remove(&self, name: &str) -> Result<(), String> {
        let path = self.path(name);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Files of the repository, by their paths in it.
    fn files(&self) -> io::Result<BTreeSet<String>> {
        let mut found = files(&self.repository)?;
        if self.repository == self.data {
            // The server's own files, such as its users, are not checked.
            found.retain(|name| !name.starts_with('.'));
        }
        Ok(found)
    }

    /// Compares the disk with a rule. `placed` has the paths that the case itself wrote to the repository.
    pub(super) fn differs(
        &self,
        disk: Option<&Disk>,
        placed: &BTreeSet<String>,
        layout: Option<&Layout>,
        known: Known<'_>,
    ) -> Result<Differs, String> {
        let found = self.files().map_err(|error| error.to_string())?;
        let found: Vec<&String> = found.iter().filter(|name| !placed.contains(*name)).collect();
        let Some(Disk { files: expected, also, folders, absent }) = disk else {
            return Ok(strays(&found, layout));
        };
        let Some(expected) = expected else {
            return match strays(&found, layout) {
                Some(differs) => Ok(Some(differs)),
                None => self.others(also, folders, absent, known),
            };
        };
        let mut names = BTreeSet::new();
        for (name, Short(kept)) in expected {
            let name = known.values.fill(name)?;
            if let Some(differs) = file(&self.path(&name), kept, known)? {
                return Ok(Some(differs));
            }
            names.insert(name);
        }
        let more: Vec<_> = found.iter().filter(|name| !names.contains(**name)).collect();
        if !more.is_empty() {
            let expected = format!("exactly these files: {names:?}");
            return Ok(Some((expected, format!("also {more:?}"))));
        }
        self.others(also, folders, absent, known)
    }

    fn others(
        &self,
        also: &BTreeMap<String, Short<Kept>>,
        folders: &BTreeMap<String, String>,
        absent: &[String],
        known: Known<'_>,
    ) -> Result<Differs, String> {
        for (name, Short(kept)) in also {
            let path = self.path(&known.values.fill(name)?);
            if let Some(differs) = file(&path, kept, known)? {
                return Ok(Some(differs));
            }
        }
        for (name, mode) in folders {
            let path = self.path(&known.values.fill(name)?);
            let Some(found) = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_dir) else {
                return Ok(Some((format!("a folder {name}"), "none".to_owned())));
            };
            let differs = mode_differs(name, mode, found.permissions().mode(), known.values)?;
            if differs.is_some() {
                return Ok(differs);
            }
        }
        for name in absent {
            let path = self.path(&known.values.fill(name)?);
            if fs::symlink_metadata(&path).is_ok() {
                return Ok(Some((format!("no {}", path.display()), "it exists".to_owned())));
            }
        }
        Ok(None)
    }
}

/// Files that are not part of the surface's layout.
fn strays(found: &[&String], layout: Option<&Layout>) -> Differs {
    let layout = layout?;
    let strays: Vec<_> = found.iter().filter(|name| !layout.has(name)).collect();
    let expected = || "only files of the layout in the repository".to_owned();
    (!strays.is_empty()).then(|| (expected(), format!("also found: {strays:?}")))
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, bytes)
}

fn file(path: &Path, kept: &Kept, known: Known<'_>) -> Result<Differs, String> {
    let name = path.display();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Some((format!("a file {name}"), error.to_string()))),
    };
    if let Some(different) = compare::bytes(&bytes, &kept.rule(), known)? {
        let sum = hex::encode(Sha256::digest(&bytes));
        let got = format!("{} bytes, sha256 {sum}", bytes.len());
        return Ok(Some((format!("{name} as the case says ({different})"), got)));
    }
    let Some(mode) = &kept.mode else { return Ok(None) };
    let found = fs::symlink_metadata(path).map_err(|error| format!("{name}: {error}"))?;
    mode_differs(&name.to_string(), mode, found.permissions().mode(), known.values)
}

/// Compares permissions with `0600`, or with `0660 & umask`: without the bits that this process' umask, which
/// servers inherit, removes.
fn mode_differs(name: &str, right: &str, mode: u32, values: &Values) -> Result<Differs, String> {
    let right = values.fill(right)?;
    let (octal, masked) = match right.strip_suffix(" & umask") {
        Some(octal) => (octal, true),
        None => (right.as_str(), false),
    };
    if octal == "*" {
        return Ok(None);
    }
    let number = u32::from_str_radix(octal, 8)
        .map_err(|_| format!("expected a mode such as \"0660\", found {right:?}"))?;
    let expected = if masked { number & !umask() } else { number };
    // Whether new files inherit the folder's group (02000) depends on the folder above it.
    let found = mode & 0o5777;
    let differs = || (format!("{name} with mode {expected:04o}"), format!("mode {found:04o}"));
    Ok((found != expected).then(differs))
}

fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022)
}

/// The empty object that Keepgate keeps in each folder of a bucket, for servers that show objects as files. In a folder
/// of a disk it leaves nothing of this name.
const FOLDER_MARKER: &str = ".keepgate";

/// All files below a folder, by their paths in it. Files that are removed in the meantime are left out.
fn files(top: &Path) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) if entry.file_name() == FOLDER_MARKER => {}
                Ok(_) => {
                    let path = entry.path();
                    let below = path.strip_prefix(top).map_err(io::Error::other)?;
                    found.insert(below.to_string_lossy().into_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_over_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_owned();
        let folders = Folders { repository: data.join("r"), scratch: data.clone(), data };
        let layout: Layout =
            serde_json::from_str(r#"["**/config", "**/data/{id.2}/{id}"]"#).unwrap();
        let values = Values::default();
        let known = Known { folder: Path::new("."), values: &values };
        let differs = |disk: Option<&Disk>, placed: &[String]| {
            let placed = placed.iter().cloned().collect();
            folders.differs(disk, &placed, Some(&layout), known).unwrap()
        };
        assert_eq!(differs(None, &[]), None);
        let id = "0".repeat(64);
        for name in [format!("data/00/{id}"), "config".to_owned()] {
            write(&folders.repository.join(name), b"x").unwrap();
        }
        assert_eq!(differs(None, &[]), None);
        let exact = Disk { files: Some([].into()), ..Disk::default() };
        assert!(differs(Some(&exact), &[]).is_some());
        let stray = format!("data/00/{id}.rest-server-temp17");
        write(&folders.repository.join(&stray), b"x").unwrap();
        assert!(differs(None, &[]).unwrap().1.contains("rest-server-temp17"));
        assert_eq!(differs(None, &[stray]), None);
    }
}

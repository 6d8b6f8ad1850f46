//! What must be on disk after a case. Without further words in the data, a repository holds
//! nothing but files of restic's layout: a temporary that a refused upload leaves is a failure
//! of every case.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::conformance::Failure;
use crate::conformance::case::{Content, Disk, FileRule};
use crate::conformance::expect::compile;
use crate::conformance::fill::Values;
use crate::data::sha256;

/// Where a case's files are.
#[derive(Debug)]
pub struct Place {
    /// The server's data.
    pub data: PathBuf,
    /// The repository below it.
    pub repository: PathBuf,
    /// For logs and certificates.
    pub scratch: PathBuf,
}

impl Place {
    /// Where a path of the data is.
    pub fn path(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("scratch:"), path.strip_prefix('/')) {
            (Some(name), _) => self.scratch.join(name),
            (None, Some(below)) => self.data.join(below),
            (None, None) => self.repository.join(path),
        }
    }

    /// Files of the repository by their paths in it.
    fn files(&self) -> Result<BTreeSet<String>, Failure> {
        let mut found = files(&self.repository)
            .map_err(|error| Failure::new("a folder to look at", error.to_string()))?;
        if self.repository == self.data {
            // What the server keeps at the top for itself, its users among it, is its own matter.
            found.retain(|name| !name.starts_with('.'));
        }
        Ok(found)
    }
}

/// Holds the disk against what is expected. `placed` are paths below the repository.
pub fn check(
    disk: Option<&Disk>,
    place: &Place,
    placed: &BTreeSet<String>,
    values: &Values,
) -> Result<(), Failure> {
    let data = |error: String| Failure::new("data that makes sense", error);
    let found = place.files()?;
    let Some(Disk { files: expected, also, folders, absent }) = disk else {
        return no_strays(&found, placed);
    };
    if let Some(expected) = expected {
        let mut names = BTreeSet::new();
        for (name, content) in expected {
            let name = values.fill(name).map_err(data)?;
            file(&place.path(&name), content, values)?;
            names.insert(name);
        }
        let more: Vec<_> =
            found.iter().filter(|name| !names.contains(*name) && !placed.contains(*name)).collect();
        if !more.is_empty() {
            let expected = format!("these files and no other: {names:?}");
            return Err(Failure::new(expected, format!("also {more:?}")));
        }
    } else {
        no_strays(&found, placed)?;
    }
    for (name, content) in also {
        file(&place.path(&values.fill(name).map_err(data)?), content, values)?;
    }
    for (name, mode) in folders {
        let path = place.path(&values.fill(name).map_err(data)?);
        let found = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_dir);
        let Some(found) = found else {
            return Err(Failure::new(format!("a folder {name}"), "none"));
        };
        same_mode(name, mode, found.permissions().mode())?;
    }
    for name in absent {
        let path = place.path(&values.fill(name).map_err(data)?);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(Failure::new(format!("no {}", path.display()), "it is there"));
        }
    }
    Ok(())
}

/// That no file is where restic's layout has none.
fn no_strays(found: &BTreeSet<String>, placed: &BTreeSet<String>) -> Result<(), Failure> {
    let strays: Vec<_> =
        found.iter().filter(|name| !placed.contains(*name) && !is_restics(name)).collect();
    if strays.is_empty() {
        return Ok(());
    }
    Err(Failure::new("no files but restic's in the repository", format!("left over: {strays:?}")))
}

/// Whether a path may be one in a repository, or in one that is a folder of it.
fn is_restics(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let is_id = |id: &str| {
        id.len() == 64 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    match parts.as_slice() {
        [.., "config"] => true,
        [.., "data", folder, id] => is_id(id) && id.starts_with(folder) && folder.len() == 2,
        [.., "index" | "keys" | "locks" | "snapshots", id] => is_id(id),
        _ => false,
    }
}

fn file(path: &Path, content: &Content, values: &Values) -> Result<(), Failure> {
    let data = |error: String| Failure::new("data that makes sense", error);
    let rule = match content {
        Content::Body(body) => FileRule { body: Some(body.clone()), ..FileRule::default() },
        Content::File(rule) => rule.clone(),
    };
    let name = path.display();
    let bytes = fs::read(path)
        .map_err(|error| Failure::new(format!("a file {name}"), error.to_string()))?;
    if let Some(body) = &rule.body {
        let right = values.body(body).map_err(data)?;
        if right.bytes != bytes {
            let expected = format!("{name} with {} bytes, sha256 {}", right.bytes.len(), right.id);
            let got = format!("{} bytes, sha256 {}", bytes.len(), sha256(bytes.as_slice()));
            return Err(Failure::new(expected, got));
        }
    }
    if let Some(mode) = &rule.mode {
        let found = fs::symlink_metadata(path);
        let found = found.map_err(|error| Failure::new("a mode", error.to_string()))?;
        same_mode(
            &name.to_string(),
            &values.fill(mode).map_err(data)?,
            found.permissions().mode(),
        )?;
    }
    let text = String::from_utf8_lossy(&bytes);
    if let Some(pattern) = &rule.lacks
        && compile(pattern, values).map_err(data)?.is_match(&text)
    {
        return Err(Failure::new(format!("{name} without /{pattern}/"), format!("{text:?}")));
    }
    if let Some(pattern) = &rule.matches
        && !compile(pattern, values).map_err(data)?.is_match(&text)
    {
        let expected = values.fill(pattern).map_err(data)?;
        return Err(Failure::new(format!("{name} like /{expected}/"), format!("{text:?}")));
    }
    Ok(())
}

/// Compares permissions: `0600`; or `0660 & umask`, which is less what this process' umask takes
/// away from the servers that it starts.
fn same_mode(name: &str, right: &str, mode: u32) -> Result<(), Failure> {
    let (octal, masked) = match right.strip_suffix(" & umask") {
        Some(octal) => (octal, true),
        None => (right, false),
    };
    if octal == "*" {
        return Ok(());
    }
    let number = u32::from_str_radix(octal, 8);
    let number = number.map_err(|_| Failure::new("a mode in octal", right))?;
    let expected = if masked { number & !umask() } else { number };
    // That a folder gives its group on (02000) is the matter of the one above it.
    let found = mode & 0o5777;
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format!("{name} with mode {expected:04o}"), format!("mode {found:04o}")))
}

fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022)
}

/// All files below a folder, by their paths in it. What goes meanwhile is not there.
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
        let place = Place { repository: data.join("r"), scratch: data.clone(), data };
        let (none, values) = (BTreeSet::new(), Values::default());
        check(None, &place, &none, &values).unwrap();
        let id = "0".repeat(64);
        fs::create_dir_all(place.repository.join("data/00")).unwrap();
        for name in [format!("data/00/{id}"), "config".to_owned()] {
            fs::write(place.repository.join(name), "x").unwrap();
        }
        check(None, &place, &none, &values).unwrap();
        let exact = Disk { files: Some([].into()), ..Disk::default() };
        check(Some(&exact), &place, &none, &values).unwrap_err();
        let stray = format!("data/00/{id}.rest-server-temp17");
        fs::write(place.repository.join(&stray), "x").unwrap();
        let failure = check(None, &place, &none, &values).unwrap_err();
        assert!(failure.got.contains("rest-server-temp17"), "{failure:?}");
        check(None, &place, &[stray].into(), &values).unwrap();
        assert!(!is_restics(&format!("data/01/{id}")));
        assert!(!is_restics(&format!("data/{id}")));
    }
}

//! What a case requires of a server behind a socket, and of the server's disk.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Content, Kept, Pattern, Short};

/// How a server must be started for a case.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerNeeds {
    /// Flags for its command line.
    pub flags: Vec<String>,
    /// The content of its htpasswd file.
    pub users: Option<String>,
    /// Whether no other case may use the server.
    pub fresh: bool,
    /// Files in its data folder before it starts. No other case uses such a server.
    pub files: BTreeMap<String, Short<Content>>,
    /// Patterns for what it prints on standard error when it starts.
    pub says: Vec<Pattern>,
}

/// What must be on disk. Paths are relative to the repository's folder; a leading `/` means the data folder,
/// and `scratch:` the folder for logs and certificates.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// All files of the repository, except those that the case placed there. By default, files are only
    /// compared with the surface's layout.
    pub files: Option<BTreeMap<String, Short<Kept>>>,
    /// Further files, anywhere in the data folder or `scratch:`.
    pub also: BTreeMap<String, Short<Kept>>,
    /// Folders that must exist, with their modes (`*` for any).
    pub folders: BTreeMap<String, String>,
    /// Paths that must not exist.
    pub absent: Vec<String>,
}

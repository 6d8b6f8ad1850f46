//! What a case needs of a server that is asked over a socket, and what must be on its disk.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Content, Kept, Pattern, Short};

/// How a server must be started for a case.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerNeeds {
    /// Flags of its command line.
    pub flags: Vec<String>,
    /// The text of its file of users.
    pub users: Option<String>,
    /// No other case uses it.
    pub fresh: bool,
    /// Files in its data folder before it starts; no other case uses the server.
    pub files: BTreeMap<String, Short<Content>>,
    /// Patterns of what it says on standard error when it starts.
    pub says: Vec<Pattern>,
}

/// What must be on disk. Paths are relative to the repository's folder; with `/` in front to the data
/// folder; with `scratch:` to the folder for logs and certificates.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// All files of the repository but those that the case placed there. By default they are only held
    /// against the surface's layout.
    pub files: Option<BTreeMap<String, Short<Kept>>>,
    /// Further files, anywhere.
    pub also: BTreeMap<String, Short<Kept>>,
    /// Folders that must exist, and their modes (`*`: any).
    pub folders: BTreeMap<String, String>,
    /// Paths at which nothing may be.
    pub absent: Vec<String>,
}

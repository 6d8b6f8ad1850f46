//! The form of manifests, as this client writes them. Members of others are kept by the server, and ignored here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A manifest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) timestamp: String,
    #[serde(default)]
    pub(crate) base: String,
    #[serde(default)]
    pub(crate) omit: Vec<String>,
    pub(crate) files: BTreeMap<String, File>,
    #[serde(default)]
    pub(crate) directories: BTreeMap<String, About>,
    /// Symbolic links; an addition of this client.
    #[serde(default)]
    pub(crate) links: BTreeMap<String, Link>,
}

/// A file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File {
    pub(crate) hash: String,
    pub(crate) size: u64,
    #[serde(flatten)]
    pub(crate) about: About,
    #[serde(default, skip_serializing)]
    pub(crate) is_available: bool,
    #[serde(default, skip_serializing)]
    pub(crate) available_bytes: Vec<(u64, u64)>,
}

/// What a file system says of a file or a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct About {
    /// When it was changed.
    pub(crate) timestamp: String,
    pub(crate) user: String,
    pub(crate) group: String,
    /// Octal digits, written as a decimal number: 755 is `rwxr-xr-x`.
    pub(crate) permissions: u32,
    /// The name's bytes in Base64, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) raw: Option<String>,
}

/// A symbolic link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Link {
    pub(crate) target: String,
    /// The target's bytes in Base64, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) raw_target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) raw: Option<String>,
}

/// A version in a list.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) timestamp: String,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) missing_bytes: u64,
    pub(crate) complete: bool,
}

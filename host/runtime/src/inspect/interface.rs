//! An interface of a component, as tools show it.

use serde::Serialize;

/// An interface that a component imports or exports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// As in `keepgate:plugin`; empty for what the world itself names.
    pub package: String,
    /// As in `blobs`.
    pub name: String,
    /// As in `0.1.0`.
    pub version: Option<String>,
    /// Its functions by their WIT names without brackets: `store.get`, `gzip`.
    pub functions: Vec<String>,
    /// In words, as in `stores: open, get, put`.
    pub words: String,
}

impl Interface {
    /// As in `keepgate:plugin/blobs@0.1.0`.
    pub fn full_name(&self) -> String {
        let slash = if self.package.is_empty() { "" } else { "/" };
        let version = self.version.as_ref().map_or(String::new(), |version| format!("@{version}"));
        format!("{}{slash}{}{version}", self.package, self.name)
    }
}

//! Finds the plugins that come with the gateway.

use std::path::PathBuf;

/// A plugin that every package contains; folders without it are not taken.
const MARKER: &str = "restic.wasm";

/// `KEEPGATE_PLUGIN_DIR` if it is set, or the first of the [`candidates`] that contains plugins.
pub(crate) fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("KEEPGATE_PLUGIN_DIR").map(PathBuf::from);
    named.or_else(|| candidates().into_iter().find(|folder| folder.join(MARKER).is_file()))
}

/// The folders that are searched: where packages and `cargo xtask plugins` put plugins.
pub(crate) fn candidates() -> Vec<PathBuf> {
    let binary = std::env::current_exe().unwrap_or_default();
    let beside = binary.parent().map(PathBuf::from).unwrap_or_default();
    let above = beside.parent().map(PathBuf::from).unwrap_or_default();
    vec![
        beside.join("plugins"),
        beside.clone(),
        above.join("plugins"),
        above.join("lib/keepgate/plugins"),
    ]
}

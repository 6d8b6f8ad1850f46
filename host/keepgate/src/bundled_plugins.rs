//! Where the stock components are: those that come with the gateway.

use std::path::PathBuf;

/// `KEEPGATE_PLUGIN_DIR` where it is set; else beside the binary, where a package puts them; else
/// where `cargo xtask plugins` does. None where restic is in none of these.
pub(crate) fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("KEEPGATE_PLUGIN_DIR").map(PathBuf::from);
    named.or_else(|| candidates().into_iter().find(|folder| folder.join("restic.wasm").is_file()))
}

/// The folders looked in, for messages.
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

//! `list` and `rm`.

use anyhow::Result;

use crate::api::Server;
use crate::backup::with_patience;
use crate::progress::size;

pub(crate) fn list(server: &Server, name: Option<&str>, as_json: bool) -> Result<bool> {
    let versions = with_patience(|| server.list(name))?;
    if as_json {
        println!("{}", serde_json::to_string(&versions)?);
        return Ok(true);
    }
    for version in &versions {
        let state = match version.complete {
            true => String::new(),
            false => format!("  incomplete: {} missing", size(version.missing_bytes)),
        };
        println!(
            "{}  {}  {} files  {}{state}",
            version.name,
            version.timestamp,
            version.files,
            size(version.bytes)
        );
    }
    Ok(true)
}

pub(crate) fn remove(server: &Server, name: &str, timestamp: &str) -> Result<bool> {
    server.remove(name, timestamp)?;
    Ok(true)
}

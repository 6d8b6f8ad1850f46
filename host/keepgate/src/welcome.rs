//! What is printed when a trial set-up serves: mounts, and for each a command to paste.

use std::path::Path;

use anyhow::Result;
use keepgate_http::LocalAddress;
use keepgate_runtime::capability::etcd::Clusters;
use keepgate_runtime::{Generation, Mount};

use crate::first_run::{CERTIFICATE, FirstRun, USER};
use crate::output::say;

/// Prints what was made at the first start. Before anything else can fail: the password is shown
/// this once.
pub(crate) fn made(made: &FirstRun) -> Result<()> {
    say!("wrote {}", made.config.display())?;
    say!("user {USER}, password {} (shown this once)", made.password)
}

/// Prints the mounts of a generation with commands for their clients. The password is known only
/// at the first start.
pub(crate) fn print(
    folder: &Path,
    addresses: &[LocalAddress],
    generation: &Generation,
    password: Option<&str>,
) -> Result<()> {
    let port = addresses.iter().find_map(|address| match address {
        LocalAddress::Tcp(address) => Some(address.port()),
        LocalAddress::Unix(_) => None,
    });
    let host = format!("localhost:{}", port.unwrap_or(8000));
    say!("Keepgate {} serves at https://{host}/", crate::VERSION)?;
    let certificate = folder.join(CERTIFICATE).display().to_string();
    let password = password.unwrap_or("PASSWORD");
    for mount in &generation.mounts {
        match mount.serving() {
            Err(why) => say!("\n{}  does not serve: {why}", mount.path())?,
            Ok(plugin) => {
                say!(
                    "\n{}  {} {}: {}",
                    mount.path(),
                    plugin.name,
                    plugin.description.version,
                    plugin.description.summary
                )?;
                for line in command(mount, &host, &certificate, password) {
                    say!("  {line}")?;
                }
            }
        }
    }
    for refused in generation.refused.iter().filter(|refused| !refused.what.starts_with("mount ")) {
        say!("\nrefused: {}: {}", refused.what, refused.why)?;
    }
    say!(
        "\nStop with Ctrl-C. The configuration is {}.",
        folder.join(crate::first_run::FILE).display()
    )
}

/// What a client of this mount's protocol types.
fn command(mount: &Mount, host: &str, certificate: &str, password: &str) -> Vec<String> {
    let path = mount.path().trim_end_matches('/');
    match mount.plugin() {
        "restic" => vec![
            format!("export RESTIC_REPOSITORY='rest:https://{USER}:{password}@{host}{path}/demo/'"),
            "export RESTIC_PASSWORD='choose one: it encrypts the backup'".to_owned(),
            format!("restic --cacert '{certificate}' init"),
            format!("restic --cacert '{certificate}' backup /etc/hostname"),
        ],
        "etcd" => {
            let curl = format!("curl --cacert '{certificate}' -u '{USER}:{password}'");
            let url = format!("https://{host}{path}/api/v1/backup");
            let mut lines = vec![format!("{curl} {url}")];
            if mount.spec().grants.get::<Clusters>().is_none_or(|clusters| clusters.0.is_empty()) {
                lines.push(format!("# name a cluster in {}: it shows how", crate::first_run::FILE));
            } else {
                lines.push(format!("{curl} -X POST {url}"));
            }
            lines
        }
        _ => vec![format!(
            "curl --cacert '{certificate}' -u '{USER}:{password}' https://{host}{path}/"
        )],
    }
}

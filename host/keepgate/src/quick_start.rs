//! What `keepgate serve` and `keepgate init` print for a set-up that they created: the mounts, and for
//! each of them commands to try it. The commands come from the plugin, as a custom section of its
//! component; `host/builder/src/sections.rs` puts them there.
//!
//! | placeholder | replaced by |
//! | --- | --- |
//! | `{url}` | the URL of the mount, without a slash at the end |
//! | `{url-with-login}` | the same with user and password |
//! | `{user}`, `{password}` | the login; the password is known only at the first start |
//! | `{ca}` | the path of the certificate that clients have to trust |

use std::path::Path;

use anyhow::Result;
use keepgate_http::LocalAddress;
use keepgate_runtime::inspect::custom_section;
use keepgate_runtime::{Generation, Mount, Plugin};
use sha2::{Digest as _, Sha256};

use crate::first_run::{CERTIFICATE, FirstRun, USER};
use crate::output::say;

/// The name of the custom section.
const SECTION: &str = "keepgate:quick-start";
/// The text of plugins that have none.
const GENERIC: &str = "curl --cacert '{ca}' -u '{user}:{password}' {url}/";
/// Longer texts are replaced by the generic one.
const MAX_LENGTH: usize = 4096;

/// Prints what the first start created. Called before anything else can fail, since the password is
/// shown only once.
pub(crate) fn print_created(made: &FirstRun) -> Result<()> {
    say!("wrote {}", made.config.display())?;
    say!("user {USER}, password {} (shown this once)", made.password)
}

/// Prints the mounts of a generation, each with commands for its clients.
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
    let client = Client {
        host: format!("localhost:{}", port.unwrap_or(8000)),
        password: password.unwrap_or("PASSWORD"),
        certificate: folder.join(CERTIFICATE).display().to_string(),
    };
    say!("Keepgate {} serves at https://{}/", crate::version::VERSION, client.host)?;
    for mount in &generation.mounts {
        match mount.serving() {
            Err(why) => say!("\n{}  does not serve: {why}", mount.path())?,
            Ok(plugin) => {
                let (name, description) = (&plugin.name, &plugin.description);
                let (version, summary) = (&description.version, &description.summary);
                say!("\n{}  {name} {version}: {summary}", mount.path())?;
                let text = text_of(plugin).unwrap_or_else(|| GENERIC.to_owned());
                for line in client.fill_in(&text, mount).lines() {
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

/// The text in a plugin's component, if it has one that can be shown. The file may have changed since
/// it was loaded and vetted; the text of another file is not shown.
fn text_of(plugin: &Plugin) -> Option<String> {
    let component = std::fs::read(&plugin.file).ok()?;
    let is_loaded_one = hex::encode(Sha256::digest(&component)) == plugin.digest;
    let text = custom_section(&component, SECTION).filter(|_| is_loaded_one)?;
    printable(text)
}

/// A text without anything that a terminal would interpret.
fn printable(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_LENGTH)?;
    let plain = text.chars().all(|c| c == '\n' || !c.is_control());
    plain.then(|| text.to_owned())
}

/// What placeholders stand for.
struct Client<'a> {
    host: String,
    password: &'a str,
    certificate: String,
}

impl Client<'_> {
    fn fill_in(&self, text: &str, mount: &Mount) -> String {
        self.fill_in_path(text, mount.path().trim_end_matches('/'))
    }

    fn fill_in_path(&self, text: &str, path: &str) -> String {
        let Self { host, password, certificate } = self;
        text.replace("{url}", &format!("https://{host}{path}"))
            .replace("{url-with-login}", &format!("https://{USER}:{password}@{host}{path}"))
            .replace("{user}", USER)
            .replace("{password}", password)
            .replace("{ca}", certificate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in() {
        let client = Client {
            host: "localhost:8000".to_owned(),
            password: "secret",
            certificate: "/data/tls/certificate.pem".to_owned(),
        };
        let text = "a {url}/x\nb {url-with-login}/\nc {user} {password} {ca} {other}";
        assert_eq!(
            client.fill_in_path(text, "/y"),
            "a https://localhost:8000/y/x\nb https://keepgate:secret@localhost:8000/y/\n\
             c keepgate secret /data/tls/certificate.pem {other}"
        );
    }

    #[test]
    fn texts_that_a_terminal_would_interpret_are_not_shown() {
        assert_eq!(printable(b"curl {url}\n").as_deref(), Some("curl {url}\n"));
        for bad in [&b"\x1b[2J"[..], b"\xff", b"a\rb", &[b'x'; MAX_LENGTH + 1]] {
            assert_eq!(printable(bad), None);
        }
    }
}

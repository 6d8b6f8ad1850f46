//! The configuration that the flags stand for, as TOML, so that the same checks and error messages apply
//! to it as to a file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};

use super::flags::Flags;
use crate::config::{Config, ConfigError};

/// What the configuration depends on besides the flags.
#[derive(Debug)]
pub(super) struct Environment {
    /// Where `restic.wasm` is.
    pub(super) plugins: PathBuf,
    /// systemd passed a socket, which overrides the listen address.
    pub(super) handed_over: bool,
}

pub(super) fn of(flags: &Flags, environment: &Environment) -> Result<Config> {
    if !["1.2", "1.3"].contains(&flags.tls_min_ver.as_str()) {
        let version = &flags.tls_min_ver;
        bail!("Unsupported TLS min version: {version}. Allowed versions are 1.2 or 1.3");
    }
    let path = absolute(&flags.path)?;
    let mut config = String::new();
    let mut line = |key: &str, value: String| writeln!(config, "{key} = {value}");
    line("data_dir", quoted(&path.join(".keepgate")))?;
    line("plugin_dir", quoted(&absolute(&environment.plugins)?))?;
    // Whatever else is in the folder costs time at the start.
    line("plugins.only", "[\"restic\"]".to_owned())?;
    // The plugin starts none, and several gateways may share a folder.
    line("jobs.enabled", "false".to_owned())?;
    line("log.level", quoted(if flags.debug { "debug" } else { "warn" }))?;
    if let Some(file) = &flags.log {
        let file = if file.as_os_str() == "-" { file.clone() } else { absolute(file)? };
        line("log.access", quoted(&file))?;
    }
    line("store.main.path", quoted(&path))?;
    line("store.main.group_accessible", flags.group_accessible_repos.to_string())?;
    if flags.max_size > 0 {
        line("store.main.quota", flags.max_size.to_string())?;
    }
    line("listener", format!("[{}]", listener(flags, environment)?))?;
    let auth = quoted(match &flags.proxy_auth_username {
        _ if flags.no_auth => "none",
        Some(header) => {
            line("auth.users.header", quoted(header))?;
            "users"
        }
        None => {
            line("auth.users.htpasswd", quoted(&absolute(&flags.htpasswd())?))?;
            "users"
        }
    });
    if flags.prometheus {
        let open = flags.prometheus_no_auth;
        let page = if open { quoted("none") } else { auth.clone() };
        // With private repositories, only the user `metrics` may read the page. Without authentication
        // nobody is this user, so nobody may, as with rest-server.
        let user = if flags.private_repos && !open { ", user = \"metrics\"" } else { "" };
        let page = format!("{{ path = \"/metrics\", auth = [{page}], mount_label = false{user} }}");
        line("metrics", page)?;
    }
    write!(
        config,
        "[[mount]]\npath = \"/\"\nplugin = \"restic\"\nauth = [{auth}]\n\
         stores = {{ main = \"main\" }}\nwarm = true\n\
         settings = {{ private_repos = {} }}\n\
         policy = {{ append_only = {}, except = [\"**/locks/*\"], unverified = {} }}\n",
        flags.separates_users(),
        flags.append_only,
        flags.no_verify_upload,
    )?;
    Config::parse(&config, Path::new("(flags)")).map_err(|error| match error {
        // Lines and columns of this text mean nothing to the user.
        ConfigError::Invalid { problems } => {
            let messages: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
            anyhow!(messages.join("; "))
        }
        error => error.into(),
    })
}

fn listener(flags: &Flags, environment: &Environment) -> Result<String> {
    let address = if environment.handed_over { "systemd" } else { flags.listen.as_str() };
    let address = quoted(address);
    if !flags.tls {
        if flags.tls_cert.is_some() || flags.tls_key.is_some() {
            bail!("--tls-cert and --tls-key do nothing without --tls: requires enabled TLS");
        }
        return Ok(format!("{{ address = {address} }}"));
    }
    Ok(format!(
        "{{ address = {address}, tls = {{ certificate = {}, key = {}, min_version = {} }} }}",
        quoted(&absolute(&flags.certificate())?),
        quoted(&absolute(&flags.key())?),
        quoted(&flags.tls_min_ver),
    ))
}

/// A TOML string.
fn quoted(text: &(impl AsRef<Path> + ?Sized)) -> String {
    toml::Value::String(text.as_ref().display().to_string()).to_string()
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot resolve the path {}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::{NO_AUTH, Size};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        flags: Flags,
    }

    fn try_config(arguments: &[&str]) -> Result<Config> {
        let cli = Cli::parse_from(["rest-server", "--path", "/srv/x"].iter().chain(arguments));
        of(&cli.flags, &Environment { plugins: "/plugins".into(), handed_over: false })
    }

    fn config(arguments: &[&str]) -> Config {
        try_config(arguments).unwrap()
    }

    #[test]
    fn the_defaults_are_rest_servers() {
        let config = config(&[]);
        assert_eq!(config.listener[0].address.get_ref(), ":8000");
        assert!(config.listener[0].tls.is_none() && config.metrics.is_none());
        let users = config.auth["users"].get_ref().htpasswd.as_deref();
        assert_eq!(users, Some(Path::new("/srv/x/.htpasswd")));
        let policy = &config.mount[0].policy;
        assert!(!policy.append_only && !policy.unverified);
        assert_eq!(config.store["main"].quota, None);
        assert!(config.log.access.is_none());
        assert_eq!(config.only_plugins(), Some(["restic".to_owned()].into()));
    }

    #[test]
    fn flags_have_their_meaning() {
        let config = config(&[
            "--append-only",
            "--no-verify-upload",
            "--max-size=1000",
            "--group-accessible-repos",
            "--private-repos",
            "--log=-",
            "--tls",
            "--tls-min-ver=1.3",
            "--prometheus",
        ]);
        let policy = &config.mount[0].policy;
        assert!(policy.append_only && policy.unverified);
        assert_eq!(config.store["main"].quota, Some(Size(1000)));
        assert!(config.store["main"].group_accessible);
        assert_eq!(config.log.access.as_deref(), Some(Path::new("-")));
        let tls = config.listener[0].tls.as_ref().unwrap();
        assert_eq!(tls.certificate, Path::new("/srv/x/public_key"));
        assert_eq!(tls.key, Path::new("/srv/x/private_key"));
        assert_eq!(config.metrics.unwrap().user.as_deref(), Some("metrics"));
    }

    #[test]
    fn no_auth_wins_over_everything() {
        let flags = ["--no-auth", "--private-repos", "--proxy-auth-username=X-U", "--prometheus"];
        let config = config(&flags);
        assert_eq!(config.mount[0].auth[0].get_ref(), NO_AUTH);
        assert!(config.auth.is_empty());
        let page = config.metrics.unwrap();
        let user = Some("metrics".to_owned());
        assert_eq!((page.auth[0].get_ref().as_str(), page.user), (NO_AUTH, user));
        assert_eq!(config.mount[0].settings["private_repos"].as_bool(), Some(false));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (flags, expected) in [
            (&["--tls-key=a"][..], "requires enabled TLS"),
            (&["--tls-min-ver=1.1"], "1.2 or 1.3"),
            (&["--listen=bogus"], "host:port"),
            (&["--proxy-auth-username=a b"], "header"),
        ] {
            let said = crate::output::explain(&try_config(flags).unwrap_err());
            assert!(said.contains(expected), "{flags:?}: {said}");
        }
    }
}

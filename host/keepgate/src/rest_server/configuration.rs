//! The configuration that the flags stand for, as TOML, so that the same checks and error messages apply
//! to it as to a file. Paths are the exception: TOML is UTF-8 and paths need not be, so they are put in afterwards.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};

use super::bucket::{self, Bucket};
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
    let paths = Paths::of(flags, environment)?;
    let mut config = String::new();
    let mut line = |key: &str, value: String| writeln!(config, "{key} = {value}");
    line("data_dir", PATH.to_owned())?;
    line("plugin_dir", PATH.to_owned())?;
    // Whatever else is in the folder costs time at the start.
    line("plugins.only", "[\"restic\"]".to_owned())?;
    // The plugin starts none, and several gateways may share a folder.
    line("jobs.enabled", "false".to_owned())?;
    line("log.level", quoted(if flags.debug { "debug" } else { "warn" }))?;
    if let Some(bucket) = Bucket::of(&flags.path)? {
        bucket::check_files(flags)?;
        line("store.main.s3", bucket.toml())?;
    } else {
        line("store.main.path", PATH.to_owned())?;
        line("store.main.group_accessible", flags.group_accessible_repos.to_string())?;
        // As rest-server does. Clients cannot make links.
        line("store.main.follow_symlinks", "true".to_owned())?;
    }
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
            line("auth.users.htpasswd", PATH.to_owned())?;
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
        line("plugins.unprefixed_metrics", "[\"restic\"]".to_owned())?;
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
    let config = Config::parse(&config, Path::new("(flags)")).map_err(|error| match error {
        // Lines and columns of this text mean nothing to the user.
        ConfigError::Invalid { problems } => {
            let messages: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
            anyhow!(messages.join("; "))
        }
        error => error.into(),
    });
    config.map(|mut config| {
        paths.put_into(&mut config);
        config
    })
}

/// Stands for a path until the real one is put in.
const PATH: &str = "\"/\"";

/// The paths that the flags name.
struct Paths {
    /// None if the blobs are in a bucket.
    data: Option<PathBuf>,
    /// The gateway's own files.
    state: PathBuf,
    plugins: PathBuf,
    log: Option<PathBuf>,
    htpasswd: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    socket: Option<PathBuf>,
}

impl Paths {
    fn of(flags: &Flags, environment: &Environment) -> Result<Self> {
        let log = flags.log.as_deref().map(|file| match file.as_os_str() == "-" {
            true => Ok(file.to_owned()),
            false => absolute(file),
        });
        let socket = flags.listen.as_bytes().strip_prefix(b"unix:");
        let (data, state) = if Bucket::of(&flags.path)?.is_some() {
            let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
            (None, bucket::state(&flags.path, variable)?)
        } else {
            let data = absolute(&flags.path)?;
            (Some(data.clone()), data.join(".keepgate"))
        };
        Ok(Self {
            data,
            state,
            plugins: absolute(&environment.plugins)?,
            log: log.transpose()?,
            htpasswd: absolute(&flags.htpasswd())?,
            certificate: absolute(&flags.certificate())?,
            key: absolute(&flags.key())?,
            socket: socket.map(|path| OsStr::from_bytes(path).into()),
        })
    }

    fn put_into(self, config: &mut Config) {
        config.data_dir = self.state;
        config.plugin_dir = self.plugins;
        config.log.access = self.log;
        for store in config.store.values_mut() {
            store.get_mut().path.clone_from(&self.data);
        }
        for auth in config.auth.values_mut() {
            if let Some(file) = &mut auth.get_mut().htpasswd {
                file.clone_from(&self.htpasswd);
            }
        }
        for listener in &mut config.listener {
            if listener.socket.is_some() {
                listener.socket.clone_from(&self.socket);
            }
            if let Some(tls) = &mut listener.tls {
                tls.certificate.clone_from(&self.certificate);
                tls.key.clone_from(&self.key);
            }
        }
    }
}

fn listener(flags: &Flags, environment: &Environment) -> Result<String> {
    let listen = flags.listen.to_string_lossy();
    let address = quoted(if environment.handed_over { "systemd" } else { &listen });
    if !flags.tls {
        if flags.tls_cert.is_some() || flags.tls_key.is_some() {
            bail!("--tls-cert and --tls-key do nothing without --tls: requires enabled TLS");
        }
        return Ok(format!("{{ address = {address} }}"));
    }
    Ok(format!(
        "{{ address = {address}, tls = {{ certificate = {}, key = {}, min_version = {} }} }}",
        PATH,
        PATH,
        quoted(&flags.tls_min_ver),
    ))
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot resolve the path {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

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
        assert_eq!(config.store["main"].get_ref().quota, None);
        assert_eq!(config.store["main"].get_ref().follow_symlinks, Some(true));
        assert_eq!(config.store["main"].get_ref().require_mount, None);
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
        assert_eq!(config.store["main"].get_ref().quota, Some(Size(1000)));
        assert_eq!(config.store["main"].get_ref().group_accessible, Some(true));
        assert_eq!(config.log.access.as_deref(), Some(Path::new("-")));
        let tls = config.listener[0].tls.as_ref().unwrap();
        assert_eq!(tls.certificate, Path::new("/srv/x/public_key"));
        assert_eq!(tls.key, Path::new("/srv/x/private_key"));
        assert_eq!(config.metrics.unwrap().user.as_deref(), Some("metrics"));
    }

    #[test]
    fn a_bucket_may_be_the_data_directory() {
        let config = config(&["--path=s3:https://s3.example.com/b/c", "--no-auth"]);
        let store = config.store["main"].get_ref();
        let bucket = store.s3.as_ref().unwrap().get_ref();
        assert_eq!(store.path, None);
        assert_eq!(bucket.bucket, "b");
        assert_eq!(bucket.prefix.as_deref(), Some("c"));
        assert_eq!(bucket.endpoint.as_deref(), Some("https://s3.example.com"));
    }

    #[test]
    fn paths_need_not_be_text() {
        let strange = OsStr::from_bytes(b"/srv/sich\xe4rung \"x\"\n#1");
        let path = |name: &str| Path::new(strange).join(name);
        let flag = |name: &str, value: &Path| {
            let mut flag = OsString::from(name);
            flag.push(value);
            flag
        };
        let arguments = [
            "rest-server".into(),
            "--path".into(),
            strange.to_owned(),
            flag("--log=", &path("log")),
            flag("--htpasswd-file=", &path("users")),
            "--tls".into(),
            flag("--tls-cert=", &path("certificate")),
            flag("--tls-key=", &path("key")),
            flag("--listen=unix:", &path("socket")),
        ];
        let cli = Cli::parse_from(arguments);
        let environment = Environment { plugins: path("plugins"), handed_over: false };
        let config = of(&cli.flags, &environment).unwrap();
        assert_eq!(config.store["main"].get_ref().path.as_ref(), Some(&PathBuf::from(&strange)));
        assert_eq!(config.data_dir, path(".keepgate"));
        assert_eq!(config.plugin_dir, path("plugins"));
        assert_eq!(config.log.access, Some(path("log")));
        assert_eq!(config.auth["users"].get_ref().htpasswd, Some(path("users")));
        let tls = config.listener[0].tls.as_ref().unwrap();
        assert_eq!((&tls.certificate, &tls.key), (&path("certificate"), &path("key")));
        assert_eq!(config.listener[0].socket, Some(path("socket")));
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
            (&["--path=s3:https://x"], "expected a bucket"),
            (&["--path=s3:https://x/y"], "--htpasswd-file"),
            (&["--path=s3:https://x/y", "--no-auth", "--tls"], "--tls-cert and --tls-key"),
            (
                &["--path=s3:https://x/y", "--no-auth", "--group-accessible-repos"],
                "only to a folder",
            ),
        ] {
            let said = crate::output::explain(&try_config(flags).unwrap_err());
            assert!(said.contains(expected), "{flags:?}: {said}");
        }
    }
}

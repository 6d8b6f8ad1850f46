//! `keepgate rest-server`: a replacement for restic's rest-server, with its flags and the lines that it
//! prints at the start. The flags become an ordinary configuration with one mount; the rest of the
//! gateway does not know the difference.
//!
//! | module | purpose |
//! | --- | --- |
//! | `flags` | the command line |
//! | `configuration` | the configuration that the flags stand for |
//! | `bucket` | a bucket as the data directory |
//! | `profile` | `--cpu-profile` |

mod bucket;
mod configuration;
pub(crate) mod flags;
mod profile;

use anyhow::{Context as _, Result, anyhow};
use keepgate_auth::htpasswd::HtpasswdError;
use keepgate_http::LocalAddress;

use crate::bundled_plugins;
use crate::config::Config;
use crate::output::{note, say};
use crate::serve::{Running, Source};
use configuration::Environment;
use flags::Flags;
use profile::Profile;

/// The version of rest-server whose flags and behaviour these are.
const COMPATIBLE: &str = "0.14.0";

/// Serves until a signal stops it.
pub(crate) async fn run(flags: &Flags) -> Result<()> {
    if flags.version {
        return print_version();
    }
    let environment = Environment {
        plugins: plugins()?,
        handed_over: keepgate_http::listen::take_handed_over().count() > 0,
    };
    let config = configuration::of(flags, &environment)?;
    crate::log::start(&config.log);
    note!("Data directory: {}", flags.path.display());
    let profile = flags.cpu_profile.as_deref().map(Profile::start).transpose()?;
    note!("{}", about_access(flags));
    if flags.max_size > 0 {
        note!("Initializing quota (can take a while)...");
    }
    let running = start(config).await?;
    if !flags.no_auth && flags.proxy_auth_username.is_none() {
        note!("Loaded htpasswd file {}", flags.htpasswd().display());
    }
    for usage in running.usage() {
        note!("Quota initialized, currently using {}", gib(usage.used));
    }
    let on = |on: bool| if on { "enabled" } else { "disabled" };
    note!("Append only mode {}", on(flags.append_only));
    note!("Private repositories {}", on(flags.private_repos));
    note!("Group accessible repos {}", on(flags.group_accessible_repos));
    if environment.handed_over {
        note!("systemd socket activation mode");
    }
    for address in running.addresses() {
        match address {
            LocalAddress::Unix(Some(path)) => note!("start server on {}", path.display()),
            other => note!("start server on {other}"),
        }
    }
    if flags.tls {
        let (key, certificate) = (flags.key(), flags.certificate());
        let (key, certificate) = (key.display(), certificate.display());
        note!("TLS enabled, private key {key}, pubkey {certificate}");
    }
    running.run().await?;
    note!("shutdown cleanly");
    profile.map_or(Ok(()), Profile::finish)
}

async fn start(config: Config) -> Result<Running> {
    let running = Running::start(config, Source::default()).await.map_err(|error| {
        let about_users =
            error.chain().any(|cause| cause.downcast_ref::<HtpasswdError>().is_some());
        if about_users { error.context("use --no-auth to disable authentication") } else { error }
    })?;
    match running.generation().refused.first() {
        Some(refused) => Err(anyhow!("{}: {}", refused.what, refused.why)),
        None => Ok(running),
    }
}

fn plugins() -> Result<std::path::PathBuf> {
    bundled_plugins::folder().with_context(|| {
        format!(
            "cannot find restic.wasm in any of {:?}; set KEEPGATE_PLUGIN_DIR to its folder",
            bundled_plugins::candidates()
        )
    })
}

fn about_access(flags: &Flags) -> &'static str {
    match &flags.proxy_auth_username {
        _ if flags.no_auth => "Authentication disabled",
        Some(_) => "Proxy Authentication enabled.",
        None => "Authentication enabled",
    }
}

fn gib(bytes: u64) -> String {
    // In hundredths, without floating point.
    let hundredths = bytes.saturating_mul(100) >> 30;
    format!("{}.{:02} GiB", hundredths / 100, hundredths % 100)
}

/// In the format of rest-server, for programs that parse its version.
fn print_version() -> Result<()> {
    let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
    let ours = crate::version::VERSION;
    say!(
        "rest-server version rest-server {COMPATIBLE} compatible, keepgate {ours} on \
         {system}/{machine}"
    )
}

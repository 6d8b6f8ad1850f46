//! `keepgate rest-server`: restic's rest-server by its own flags. They become an ordinary
//! configuration with one mount; nothing else in the gateway knows that there are two ways.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use keepgate_http::LocalAddress;
use keepgate_http::htpasswd::HtpasswdError;

use crate::cli::RestServer;
use crate::config::Config;
use crate::serve::{Running, Source};
use crate::stock;

/// Serves until it is told to stop.
#[expect(clippy::print_stderr, reason = "rest-server's own lines, which clients look for")]
pub(crate) async fn run(flags: &RestServer) -> Result<()> {
    crate::log::start(&crate::config::Log::default(), "warn");
    let path = absolute(&flags.path)?;
    eprintln!("Data directory: {}", path.display());
    let config = configuration(flags, &path)?;
    let running = Running::start(config, Source::default()).await.map_err(|error| {
        let about_users =
            error.chain().any(|cause| cause.downcast_ref::<HtpasswdError>().is_some());
        if about_users { error.context("use --no-auth to disable authentication") } else { error }
    })?;
    let generation = running.generation();
    if let Some(refused) = generation.refused.first() {
        return Err(anyhow!("{}: {}", refused.what, refused.why));
    }
    if flags.no_auth {
        eprintln!("Authentication disabled");
    } else {
        eprintln!("Authentication enabled");
    }
    let onoff = |on: bool| if on { "enabled" } else { "disabled" };
    eprintln!("Append only mode {}", onoff(flags.append_only));
    eprintln!("Private repositories {}", onoff(flags.private_repos));
    for address in running.addresses() {
        match address {
            LocalAddress::Unix(Some(path)) => eprintln!("start server on {}", path.display()),
            other => eprintln!("start server on {other}"),
        }
    }
    running.run().await?;
    eprintln!("shutdown cleanly");
    Ok(())
}

/// The configuration that the flags mean, as text: the same checks apply, and what is wrong is
/// said in the same words.
fn configuration(flags: &RestServer, path: &Path) -> Result<Config> {
    let plugins = stock::folder().ok_or_else(|| {
        anyhow!(
            "there is no restic.wasm in any of {:?}; set KEEPGATE_PLUGIN_DIR to the folder that \
             it is in",
            stock::candidates()
        )
    })?;
    let text = |value: &Path| toml::Value::String(value.display().to_string()).to_string();
    let mut config = String::new();
    let mut line = |key: &str, value: String| writeln!(config, "{key} = {value}");
    line("data_dir", text(&path.join(".keepgate")))?;
    line("plugin_dir", text(&absolute(&plugins)?))?;
    line("listener", format!("[{{ address = {} }}]", text(Path::new(&flags.listen))))?;
    line("store.main.path", text(path))?;
    let auth = if flags.no_auth {
        "none"
    } else {
        let default = path.join(".htpasswd");
        let file = flags.htpasswd_file.as_deref().unwrap_or(&default);
        line("auth.users.htpasswd", text(&absolute(file)?))?;
        "users"
    };
    write!(
        config,
        "[[mount]]\npath = \"/\"\nplugin = \"restic\"\nauth = [\"{auth}\"]\n\
         stores = {{ main = \"main\" }}\nwarm = true\n\
         settings = {{ private_repos = {} }}\n\
         policy = {{ append_only = {}, except = [\"**/locks/*\"] }}\n",
        // Without authentication there are no users to tell apart, as in rest-server.
        flags.private_repos && !flags.no_auth,
        flags.append_only
    )?;
    Ok(Config::parse(&config, Path::new("(flags)"))?)
}

fn absolute(path: &Path) -> Result<std::path::PathBuf> {
    std::path::absolute(path).with_context(|| format!("the path {}", path.display()))
}

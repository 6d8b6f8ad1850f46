//! The binary: command line, configuration, wiring. The one crate that knows all the others.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `cli` | what may be typed |
//! | `config` | the configuration's shape, and what is wrong with one |
//! | `assemble` | from a configuration to opened stores, users and mounts |
//! | `stores`, `quotas` | opened stores with their limits |
//! | `grants` | what a mount may do with a store, and for whom |
//! | `schedules` | from the configuration's schedules to those that run |
//! | `serve` | the gateway at work, and its reloads |
//! | `rest_server` | restic's rest-server by its own flags |
//! | `first_run`, `welcome`, `stock` | the set-up that is made and shown at the first start |
//! | `check`, `users`, `jobs` | the commands of those names |
//! | `plugin` | `keepgate plugin`: what authors of plugins use |
//! | `log`, `output` | the log; what commands print |

mod assemble;
mod check;
mod cli;
mod config;
mod first_run;
mod guarded_store;
mod jobs;
mod log;
mod output;
mod plugin;
mod quotas;
mod rest_server;
mod schedules;
mod serve;
mod stock;
mod stores;
mod users;
mod welcome;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::output::{note, say};
use cli::{Command, Init, Serve};
use config::Config;
use serve::{Running, Source};

/// Version and build.
pub(crate) const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("KEEPGATE_COMMIT"),
    ", contract 0.1.0, ",
    env!("KEEPGATE_COMPILER"),
    ")"
);

fn main() -> ExitCode {
    let command = match cli::read() {
        Ok(command) => command,
        Err(code) => return ExitCode::from(code),
    };
    // Before there are threads: what systemd says in the environment is taken out of it.
    keepgate_http::listen::take_handed_over();
    let as_rest_server = matches!(command, Command::RestServer(_));
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")
        .and_then(|runtime| runtime.block_on(run(command)));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // rest-server begins its last word so.
            let who = if as_rest_server { "error" } else { "keepgate" };
            note!("{who}: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<u8> {
    match command {
        Command::Serve(arguments) => Box::pin(serve(arguments)).await.map(|()| 0),
        Command::Init(arguments) => init(&arguments).map(|()| 0),
        Command::Check(arguments) => {
            Box::pin(check::run(&arguments.config, arguments.connect)).await
        }
        Command::RestServer(flags) => Box::pin(rest_server::run(&flags)).await.map(|()| 0),
        Command::User(arguments) => users::run(&arguments).await,
        Command::Jobs(arguments) => {
            jobs::command::run(&arguments.config, arguments.json, arguments.command).await
        }
        Command::Plugin { command } => plugin::run(command).await,
    }
}

async fn serve(arguments: Serve) -> Result<()> {
    if let Some(file) = arguments.config {
        let config = Config::load(&file)?;
        log::start(&config.log);
        let record = arguments.recording.plan();
        let source = Source { file: Some(file), record, ..Source::default() };
        return Running::start(config, source).await?.run().await;
    }
    let (folder, file) = (&arguments.data, arguments.data.join(first_run::FILE));
    let made = if file.exists() { None } else { Some(first_run::make(folder, &[])?) };
    if let Some(made) = &made {
        welcome::made(made)?;
    }
    let source = Source {
        file: Some(file),
        listen: arguments.listen,
        // What a build makes is served as it is, so that a rebuilt plugin takes effect.
        plugins: std::env::var_os("KEEPGATE_PLUGIN_DIR").map(Into::into),
        record: arguments.recording.plan(),
    };
    let config = source.load()?.context("no configuration")?;
    log::start(&config.log);
    let running = Running::start(config, source).await?;
    let password = made.as_ref().map(|made| made.password.as_str());
    let shown = welcome::print(folder, &running.addresses(), &running.generation(), password);
    if let Err(error) = shown {
        tracing::warn!("what serves cannot be shown: {}", explain(&error));
    }
    running.run().await
}

fn init(arguments: &Init) -> Result<()> {
    let made = first_run::make(&arguments.folder, &arguments.names)?;
    welcome::made(&made)?;
    say!("serve it with: keepgate serve --config {}", made.config.display())
}

/// An error with its causes in one line, each cause once: some errors name theirs themselves.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

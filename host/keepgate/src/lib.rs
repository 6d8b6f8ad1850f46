//! The gateway: command line, configuration and wiring. The one crate that knows all the others.
//!
//! The program `keepgate` is [`main`]. The program `keepgate-plugin` uses what is public here besides:
//! [`run_to_exit`], [`GatewayConfig`] and [`output`]. Tools for plugin authors belong in that program: nothing that
//! installs, compiles or tests plugins is linked into the program that serves.
//!
//! | module | purpose |
//! | --- | --- |
//! | `cli` | the command line |
//! | `config` | the configuration file, its errors, and a file for each capability in `config/capability` |
//! | `assemble` | turns a configuration into open stores, users and mounts |
//! | `auto_mount` | mounts for plugins that the configuration does not name |
//! | `authentication` | the ways in: users, fingerprints, authorities, proxies |
//! | `certificates` | until when certificates are valid; `keepgate certificate` |
//! | `stores`, `quotas` | open stores and their limits |
//! | `guarded_store` | what a mount may do with a store, and for whom |
//! | `schedules` | turns configured schedules into running ones |
//! | `copies` | copies of stores, as jobs |
//! | `serve` | the running gateway and its reloads |
//! | `rest_server` | a replacement for restic's rest-server, with its flags |
//! | `first_run`, `quick_start`, `bundled_plugins` | the set-up that the first start creates and shows |
//! | `check`, `users`, `jobs`, `store_command` | the commands of these names |
//! | `plugin_program`, `gateway_config` | how `keepgate plugin` starts `keepgate-plugin`, and what that reads |
//! | `compiler` | the process that compiles plugins |
//! | `heap` | how the C library's allocator uses address space, and gives memory back |
//! | `open_files` | how many files the process may have open |
//! | `log`, `metrics`, `output`, `version` | the log; what collectors share; what commands print; version and build |

mod assemble;
mod authentication;
mod auto_mount;
mod bundled_plugins;
mod certificates;
mod check;
mod cli;
mod clock;
pub mod compiler;
mod config;
mod copies;
mod first_run;
mod gateway_config;
mod guarded_store;
mod heap;
mod jobs;
mod log;
mod metrics;
mod open_files;
pub mod output;
mod plugin_program;
mod quick_start;
mod quotas;
mod rest_server;
mod schedules;
mod serve;
mod store_command;
mod stores;
mod users;
mod version;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use cli::{Command, Init, Serve};
use config::Config;
use serve::{Running, Source, StoppedEarly};

pub use gateway_config::GatewayConfig;
pub use output::explain;
pub use version::VERSION;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if let Some(arguments) = compiler::arguments() {
        return keepgate_runtime::compile(&arguments);
    }
    heap::limit_arenas();
    heap::fix_thresholds();
    open_files::raise_limit();
    let command = match cli::read() {
        Ok(command) => command,
        Err(code) => return ExitCode::from(code),
    };
    // Takes systemd's variables out of the environment, which is sound only before threads start.
    keepgate_http::listen::take_handed_over();
    // rest-server starts its final message like this.
    let who = if matches!(command, Command::RestServer(_)) { "error" } else { "keepgate" };
    run_to_exit(who, run(command))
}

/// Runs a command in an async runtime, to its exit code. Errors go to standard error, each line behind `who`.
pub fn run_to_exit(who: &str, command: impl Future<Output = Result<u8>>) -> ExitCode {
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")
        .and_then(|runtime| runtime.block_on(command));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.is::<StoppedEarly>() => ExitCode::SUCCESS,
        Err(error) => {
            // Several lines if the configuration has several errors.
            explain(&error).lines().for_each(|line| note!("{who}: {line}"));
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
        Command::Certificate(arguments) => certificates::command(&arguments.command),
        Command::User(arguments) => users::run(&arguments).await,
        Command::Jobs(arguments) => {
            jobs::command::run(&arguments.config, arguments.json, arguments.command).await
        }
        Command::Store(arguments) => Box::pin(store_command::run(arguments)).await,
        Command::Plugin { arguments } => Ok(plugin_program::run(&arguments)),
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
        quick_start::print_created(made)?;
    }
    let source = Source {
        file: Some(file),
        listen: arguments.listen,
        // Plugins of a build are served from its folder, so that a rebuilt plugin takes effect.
        plugins: std::env::var_os("KEEPGATE_PLUGIN_DIR").map(Into::into),
        record: arguments.recording.plan(),
    };
    let config = source.load()?.context("no configuration")?;
    log::start(&config.log);
    let running = Running::start(config, source).await?;
    let password = made.as_ref().map(|made| made.password.as_str());
    let shown = quick_start::print(folder, &running.addresses(), &running.generation(), password);
    if let Err(error) = shown {
        tracing::warn!(error = explain(&error), "cannot print the quick start");
    }
    running.run().await
}

fn init(arguments: &Init) -> Result<()> {
    let made = first_run::make(&arguments.folder, &arguments.names)?;
    quick_start::print_created(&made)?;
    say!("serve it with: keepgate serve --config {}", made.config.display())
}

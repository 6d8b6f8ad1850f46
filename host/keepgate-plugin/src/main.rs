//! `keepgate plugin`: tools for authors of plugins, and for operators who want to know what a file is.
//! A program of its own, so that the one that serves contains no installers and no test clock.
//! None of it needs a server except `list`, which asks one.
//!
//! | module | purpose |
//! | --- | --- |
//! | `arguments` | the command line |
//! | `new`, `build` | from nothing to a component, with `keepgate_builder` |
//! | `check`, `inspect` | what a file is, and whether a gateway would serve it |
//! | `test` | runs a plugin's cases, with `keepgate_harness` |
//! | `bench` | what a plugin costs |
//! | `list` | the plugins of a running gateway |
//! | `files` | reads components; where compiled code is cached |
//! | `progress_notice` | a notice for slow operations |
//!
//! To add a subcommand, add a case to `arguments`, an arm to [`run`] and a file.

mod arguments;
mod bench;
mod build;
mod check;
mod files;
mod inspect;
mod list;
mod new;
mod progress_notice;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use arguments::{Command, CommandLine};

fn main() -> ExitCode {
    if let Some(arguments) = keepgate::compiler::arguments() {
        return keepgate_runtime::compile(&arguments);
    }
    let command = match CommandLine::try_parse() {
        Ok(line) => line.command,
        Err(error) => {
            // Printing fails if the pipe is closed, and then nobody reads it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    keepgate::run_to_exit("keepgate", run(command))
}

/// Runs a subcommand and returns the exit code.
async fn run(command: Command) -> Result<u8> {
    match command {
        Command::New(arguments) => new::run(&arguments).map(|()| 0),
        Command::Build(arguments) => build::run(&arguments).map(|()| 0),
        Command::Check(arguments) => check::run(&arguments).await,
        Command::Inspect { file } => inspect::run(&file),
        // Each case runs in an async runtime of its own.
        Command::Test(arguments) => {
            Ok(tokio::task::spawn_blocking(move || test::run(&arguments)).await?)
        }
        Command::List(arguments) => list::run(&arguments).await.map(|()| 0),
        Command::Bench(arguments) => Box::pin(bench::run(&arguments)).await,
    }
}

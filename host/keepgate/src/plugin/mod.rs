//! `keepgate plugin`: what authors of plugins use, and operators who want to know what a file is. None
//! of it needs a server, except `list`, which asks one.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `arguments` | what may be typed after `keepgate plugin` |
//! | `language` | the languages that plugins are written in here: templates and builders |
//! | `new`, `build` | from nothing to a component |
//! | `check`, `inspect` | what a file is, and whether a gateway would serve it |
//! | `test` | runs a plugin's cases, by `keepgate_harness` |
//! | `bench` | what a plugin costs |
//! | `list` | the plugins of a running gateway |
//!
//! A new subcommand is an arm in [`run`], a case in `arguments`, and a file.

pub(crate) mod arguments;
mod bench;
mod build;
mod check;
mod inspect;
mod language;
mod list;
mod new;
mod silent;
pub(crate) mod test;

use std::path::Path;

use anyhow::{Context as _, Result};

use arguments::Command;

/// Runs a subcommand; the exit code.
pub(crate) async fn run(command: Command) -> Result<u8> {
    match command {
        Command::New(arguments) => new::run(&arguments).map(|()| 0),
        Command::Build { folder } => build::run(&folder).map(|()| 0),
        Command::Check(arguments) => check::run(&arguments).await,
        Command::Inspect { file } => inspect::run(&file),
        // It has runtimes of its own, one for each case.
        Command::Test(arguments) => {
            Ok(tokio::task::spawn_blocking(move || test::run(&arguments)).await?)
        }
        Command::List(arguments) => list::run(&arguments).await.map(|()| 0),
        Command::Bench(arguments) => Box::pin(bench::run(&arguments)).await.map(|()| 0),
    }
}

/// A component's bytes.
fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| file.display().to_string())
}

/// Bytes for people: `84 KiB`.
fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

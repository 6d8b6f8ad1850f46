//! `keepgate plugin`: what authors of plugins use, and operators who want to know what a file is. None
//! of it needs a server, except `list`, which asks one.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `arguments` | what may be typed after `keepgate plugin` |
//! | `new`, `build` | from nothing to a component, by `keepgate_builder` |
//! | `check`, `inspect` | what a file is, and whether a gateway would serve it |
//! | `test` | runs a plugin's cases, by `keepgate_harness` |
//! | `bench` | what a plugin costs |
//! | `patience` | a word where something takes long |
//! | `list` | the plugins of a running gateway |
//!
//! A new subcommand is an arm in [`run`], a case in `arguments`, and a file.

pub(crate) mod arguments;
mod bench;
mod build;
mod check;
mod inspect;
mod list;
mod new;
mod patience;
pub(crate) mod test;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use arguments::Command;

/// Runs a subcommand; the exit code.
pub(crate) async fn run(command: Command) -> Result<u8> {
    match command {
        Command::New(arguments) => new::run(&arguments).map(|()| 0),
        Command::Build(arguments) => build::run(&arguments).map(|()| 0),
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

/// Where compiled code is kept between runs; none where the machine has no place for it.
fn code_folder() -> Option<PathBuf> {
    keepgate_builder::workspace::cache_folder().ok().map(|cache| cache.join("code"))
}

/// A component's bytes.
fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| file.display().to_string())
}

/// Bytes for people: `84 KiB`.
fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

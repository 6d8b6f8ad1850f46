//! Backs up folders to a server that speaks fest's API, and restores them. Files that the server has are not sent again,
//! whoever has sent them; a backup that was cut off goes on where it was.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `arguments` | the command line |
//! | `api` | requests to the server |
//! | `tree`, `names`, `omit` | what is in a folder, and how odd names travel |
//! | `manifest` | the manifest's form |
//! | `hashes` | SHA-256 of files, remembered from the last time |
//! | `backup`, `restore`, `compare`, `show` | the commands |
//! | `progress` | how far it is, for people and for logs |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for a terminal")]

mod api;
mod arguments;
mod backup;
mod compare;
mod hashes;
mod manifest;
mod names;
mod omit;
mod progress;
mod restore;
mod show;
mod tree;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use arguments::{Arguments, Command};

/// Everything was done.
const DONE: u8 = 0;
/// Nothing or not all of it could be done, and the reason is on standard error.
const FAILED: u8 = 1;
/// It was done but for some files, which are named on standard error.
const INCOMPLETE: u8 = 3;

fn main() -> ExitCode {
    // A wrong command line ends with 2 here.
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::from(DONE),
        Ok(false) => ExitCode::from(INCOMPLETE),
        Err(error) => {
            eprintln!("fest: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// Whether all of it was done.
fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    if let Command::Completions { shell } = &arguments.command {
        let mut command = Arguments::command();
        clap_complete::generate(*shell, &mut command, "fest", &mut std::io::stdout());
        return Ok(true);
    }
    let server = api::Server::new(&arguments.server)?;
    match &arguments.command {
        Command::Backup(asked) => backup::run(&server, asked, arguments.json),
        Command::Restore(asked) => restore::run(&server, asked, arguments.json),
        Command::List { name } => show::list(&server, name.as_deref(), arguments.json),
        Command::Diff(asked) => compare::diff(&server, asked, arguments.json),
        Command::Verify(asked) => compare::verify(&server, asked, arguments.json),
        Command::Rm { name, timestamp } => show::remove(&server, name, timestamp),
        Command::Completions { .. } => Ok(true),
    }
}

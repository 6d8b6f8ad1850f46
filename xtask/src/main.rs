//! `cargo xtask`: what a person who works on Keepgate runs. `serve` and `test` do all their own
//! set-up on a machine that has Rust and git.
//!
//! This file only reads the command line; each subcommand lives in a file of its own. A new
//! subcommand is a new arm in [`dispatch`] and a new line in [`HELP`].

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program: what it prints is its product"
)]

mod check;
mod components;
mod guests;
mod protoc;
mod run;
mod suite;
mod tally;

use std::process::ExitCode;

use anyhow::{Result, bail};

use keepgate_builder::workspace::Workspace;

use check::Options;

const HELP: &str = "\
Usage: cargo xtask COMMAND [ARGUMENTS]

  serve [ARGUMENTS]      build the plugins and the gateway, then run `keepgate serve ARGUMENTS`
  test [FILTER] [--fast] [--only STEP]... [-- ARGUMENTS]
                         everything that must pass; the last line is `N passed, N failed, N skipped`
                           FILTER       run only the tests whose name contains it
                           --fast       leave out fmt, clippy and doc
                           --only STEP  run only this step (repeatable): fmt, clippy, guests,
                                        components, build, doc, test
                           ARGUMENTS    given to the test programs, for example --nocapture
  plugins [--guests]     build the plugins (and the test guests) into the target folder
  bench [ARGUMENTS]      build everything in release and run `keepgate-bench ARGUMENTS`
  restic-suite [VERSION] run restic's own tests of its REST backend against the gateway; needs go
  help                   this text

Environment:
  KEEPGATE_CACHE         what outlives a clone: the guests' standard library, peers to test
                         against (default: $XDG_CACHE_HOME/keepgate, else ~/.cache/keepgate)
  PROTOC                 the protoc to build with, where it is not on the PATH
  CARGO_TARGET_DIR       as for cargo; the plugins are built into its folder plugins/
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<ExitCode> {
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", arguments),
    };
    match command {
        "serve" => run::serve(&Workspace::load()?, rest),
        "test" if wants_help(rest) => help(),
        "test" => {
            let options = Options::parse(rest)?;
            Ok(check::run(&Workspace::load()?, &options))
        }
        "plugins" if wants_help(rest) => help(),
        "plugins" => {
            let with_guests = match rest {
                [] => false,
                [flag] if flag == "--guests" => true,
                _ => bail!("`plugins` takes only `--guests`, not `{}`", rest.join(" ")),
            };
            guests::build(&Workspace::load()?, with_guests)?;
            Ok(ExitCode::SUCCESS)
        }
        "bench" => run::bench(&Workspace::load()?, rest),
        "restic-suite" if wants_help(rest) => help(),
        "restic-suite" => suite::run(&Workspace::load()?, rest),
        "help" | "-h" | "--help" => help(),
        other => bail!("there is no command `{other}`; `cargo xtask help` lists them"),
    }
}

fn wants_help(arguments: &[String]) -> bool {
    arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "-h" || argument == "--help")
}

#[expect(clippy::unnecessary_wraps, reason = "an arm of `dispatch`, like its neighbours")]
fn help() -> Result<ExitCode> {
    print!("{HELP}");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn help_is_asked_for_only_before_the_double_dash() {
        assert!(wants_help(&strings(&["restic", "--help"])));
        assert!(!wants_help(&strings(&["restic", "--", "--help"])));
        assert!(!wants_help(&[]));
    }

    #[test]
    fn unknown_commands_and_flags_are_refused_with_their_name() {
        let error = dispatch(&strings(&["tset"])).unwrap_err();
        assert!(error.to_string().contains("`tset`"), "{error}");
        let error = dispatch(&strings(&["plugins", "--guest"])).unwrap_err();
        assert!(error.to_string().contains("--guest"), "{error}");
    }

    #[test]
    fn the_help_text_names_every_step_of_the_test() {
        for step in check::step_names() {
            assert!(HELP.contains(step), "{step} is missing from the help text");
        }
    }
}

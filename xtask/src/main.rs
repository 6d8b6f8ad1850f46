//! `cargo xtask`: the commands for working on Keepgate. `serve` and `test` set up everything they need on a
//! machine with Rust and git.
//!
//! This file only reads the command line. To add a subcommand, add an arm to [`dispatch`], a line to [`HELP`]
//! and a file.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program prints its results"
)]

mod arm;
mod check;
mod components;
mod fuzz;
mod guests;
mod languages;
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

  serve [ARGUMENTS]      build plugins and gateway, then run `keepgate serve ARGUMENTS`
  test [FILTER] [--fast] [--only STEP]... [-- ARGUMENTS]
                         run all checks; the last line is `N passed, N failed, N skipped`
                           FILTER       run only tests whose name contains it
                           --fast       skip fmt, clippy and doc
                           --only STEP  run only this step (repeatable): fmt, clippy, guests,
                                        build, languages, components, doc, test
                           ARGUMENTS    arguments for the test programs, for example --nocapture
  plugins [--guests] [--languages]
                         build the plugins, the test guests, and the components in JavaScript
                         and Python into the target folder
  plugin ARGUMENTS       build the plugin tools, then run `keepgate plugin ARGUMENTS`
  bench [ARGUMENTS]      build everything and run `keepgate-bench ARGUMENTS`
  fuzz [--minutes N] [TARGET]...
                         try new inputs for what reads bytes from outside, N minutes (default: 1)
                         for each target: components, requests, cases, records, certificates,
                         tokens
  restic-suite [--path PLACE] [VERSION]
                         run restic's own tests of its REST backend against the gateway, with its
                         data at PLACE (for example s3:http://127.0.0.1:7070/bucket); needs go
  arm                    build the gateway for 64-bit ARM, run it under emulation and use it with
                         restic; takes about ten minutes
  help                   print this text

Environment:
  KEEPGATE_CACHE         shared by all clones: the standard library of guests, programs to test
                         against (default: $XDG_CACHE_HOME/keepgate or ~/.cache/keepgate)
  PROTOC                 the protoc to build with, if it is not on the PATH
  CARGO_TARGET_DIR       as for cargo; plugins are built into its folder plugins/
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
            let (mut with_guests, mut with_languages) = (false, false);
            for flag in rest {
                match flag.as_str() {
                    "--guests" => with_guests = true,
                    "--languages" => with_languages = true,
                    other => bail!("`plugins` takes `--guests` and `--languages`, not `{other}`"),
                }
            }
            let workspace = Workspace::load()?;
            guests::build(&workspace, with_guests)?;
            if with_languages {
                run::build_program(&workspace, run::PLUGIN_TOOLS)?;
                languages::build(&workspace)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        "plugin" => run::plugin(&Workspace::load()?, rest),
        "bench" => run::bench(&Workspace::load()?, rest),
        "fuzz" if wants_help(rest) => help(),
        "fuzz" => fuzz::run(&Workspace::load()?, rest),
        "restic-suite" if wants_help(rest) => help(),
        "restic-suite" => suite::run(&Workspace::load()?, rest),
        "arm" if wants_help(rest) => help(),
        "arm" => arm::run(&Workspace::load()?, rest),
        "help" | "-h" | "--help" => help(),
        other => bail!("unknown command `{other}`; `cargo xtask help` lists all commands"),
    }
}

fn wants_help(arguments: &[String]) -> bool {
    arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "-h" || argument == "--help")
}

#[expect(clippy::unnecessary_wraps, reason = "has the type of the other arms of `dispatch`")]
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
    fn the_help_text_names_every_step_of_the_test_and_every_target_of_fuzz() {
        for name in check::step_names().chain(fuzz::target_names()) {
            assert!(HELP.contains(name), "{name} is missing from the help text");
        }
    }
}

//! `keepgate plugin`: what writers of plugins run. A subcommand is a file and an arm here.

mod test;

use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct Plugin {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Run a plugin's cases in a sandbox: no server, no network, no disk
    Test(test::Test),
}

/// Runs a subcommand; the exit code.
pub(crate) fn run(plugin: &Plugin) -> Result<u8> {
    match &plugin.command {
        PluginCommand::Test(arguments) => Ok(test::run(arguments)),
    }
}

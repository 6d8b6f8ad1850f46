//! The command line of `keepgate plugin`, and nothing else.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use keepgate_builder::language::Language;

/// Create, build, check, test and measure plugins of Keepgate.
#[derive(Debug, Parser)]
#[command(name = "keepgate plugin", bin_name = "keepgate plugin", version = keepgate::VERSION,
    max_term_width = 100)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a small plugin to begin with: source, cases, README, the SDK
    New(New),
    /// Compile a plugin's folder to a component in it
    Build(Build),
    /// Say what a file is, what it asks for, and whether it would be served. Exits with 1 where it
    /// would not, and with 2 where that cannot be told
    Check(Check),
    /// Print a component's interfaces as WIT, then its parts with their sizes
    Inspect {
        /// The component
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Run a plugin's cases in a sandbox: no server, no network, no disk
    Test(crate::test::Test),
    /// Print the plugins of the running gateway
    List(List),
    /// Measure what a plugin costs: compiling, instances, calls, bytes
    Bench(Bench),
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The folder to make; its last part names the plugin
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// What it is written in: rust, js or python
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    pub(crate) lang: Language,
    /// In Rust: have the SDK from a clone of Keepgate's repository or from a git URL, with `#REVISION`
    /// for a certain one. Without it the plugin gets a copy, as in the other languages
    #[arg(long, value_name = "FOLDER|URL", env = "KEEPGATE_SDK")]
    pub(crate) sdk: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The folder of its sources
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub(crate) folder: PathBuf,
    /// Install what is missing to build it: of JavaScript and Python the builder, by npm or pip, once
    /// for all plugins of this user; of Rust, as root on Debian, a compiler for WebAssembly
    #[arg(long)]
    pub(crate) install: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The component
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// A gateway's configuration: hold what the plugin asks for against what its mounts grant
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Only this mount, whatever plugin it has
    #[arg(long, value_name = "PATH", requires = "config")]
    pub(crate) mount: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The configuration of the gateway, which says where its admin listener is
    #[arg(long, short, value_name = "FILE", default_value = "keepgate-data/keepgate.toml")]
    pub(crate) config: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The component
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The call that is measured; its path is below the mount
    #[arg(long, value_name = "METHOD TARGET", default_value = "GET /")]
    pub(crate) request: String,
    /// Also move bytes: upload them here, then download them. `{n}` is replaced by a number, for
    /// plugins that never replace anything
    #[arg(long, value_name = "TARGET")]
    pub(crate) upload: Option<String>,
    /// The method of the upload
    #[arg(long, default_value = "PUT")]
    pub(crate) method: String,
    /// Bytes of each upload
    #[arg(long, default_value = "16MiB")]
    pub(crate) size: ByteSize,
    /// The mount's settings
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) settings: String,
    /// Calls that are measured, of each kind
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rounds: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

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
    /// Create a small plugin to start with: source, cases, README and the SDK
    New(New),
    /// Build the component of a plugin's folder
    Build(Build),
    /// Show what a file is, what it asks for, and whether a gateway would serve it. Exits with 1 if it
    /// would not, and with 2 if this cannot be determined
    Check(Check),
    /// Print the interfaces of a component as WIT, and its sections with their sizes. Exits with 1 if the file is no
    /// component, and with 2 if it cannot be read
    Inspect {
        /// The component, or the folder of a plugin that is built
        #[arg(value_name = "FILE|DIR")]
        file: PathBuf,
    },
    /// Run a plugin's cases in a sandbox, without server, network or disk
    Test(crate::test::Test),
    /// List the plugins of the running gateway
    List(List),
    /// Measure what a plugin costs: compilation, instances, calls, bytes
    Bench(Bench),
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The folder to create; its last component names the plugin
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// The language: rust, js or python
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    pub(crate) lang: Language,
    /// Rust only: take the SDK from a clone of Keepgate's repository, or from a git URL with an optional
    /// `#REVISION`. By default the plugin gets a copy, as in the other languages
    #[arg(long, value_name = "FOLDER|URL", env = "KEEPGATE_SDK")]
    pub(crate) sdk: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The folder with the sources
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub(crate) folder: PathBuf,
    /// Install what is missing: for JavaScript and Python the component builder, with npm or pip, once for
    /// all plugins of this user; for Rust, as root on Debian, a compiler for WebAssembly
    #[arg(long)]
    pub(crate) install: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The component, or the folder of a plugin that is built
    #[arg(value_name = "FILE|DIR")]
    pub(crate) file: PathBuf,
    /// Compare what the plugin asks for with what the mounts of this configuration grant
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Only this mount, whichever plugin it has
    #[arg(long, value_name = "PATH", requires = "config")]
    pub(crate) mount: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The configuration of the gateway; it names the admin listener
    #[arg(long, short, value_name = "FILE", default_value = "keepgate-data/keepgate.toml")]
    pub(crate) config: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The component, or the folder of a plugin that is built
    #[arg(value_name = "FILE|DIR")]
    pub(crate) file: PathBuf,
    /// The request to measure; its path is relative to the mount
    #[arg(long, value_name = "METHOD TARGET", default_value = "GET /")]
    pub(crate) request: String,
    /// Also measure uploads to this path and downloads from it. `{n}` is replaced by a number, for
    /// plugins that do not allow replacing
    #[arg(long, value_name = "TARGET")]
    pub(crate) upload: Option<String>,
    /// The method of uploads
    #[arg(long, default_value = "PUT")]
    pub(crate) method: String,
    /// The size of each upload, at most 1GiB: it is kept in memory
    #[arg(long, default_value = "16MiB", value_parser = upload_size)]
    pub(crate) size: ByteSize,
    /// The settings of the mount
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) settings: String,
    /// The number of calls of each kind
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rounds: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads the size of an upload.
fn upload_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    if size > ByteSize::gib(1) {
        return Err("at most 1GiB can be uploaded".to_owned());
    }
    Ok(size)
}

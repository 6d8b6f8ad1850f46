//! The command line: what may be typed, and nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A backup gateway: each backup protocol is a WebAssembly component in a folder.
#[derive(Debug, Parser)]
#[command(name = "keepgate", version = crate::VERSION, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve. Without --config: a trial set-up in ./keepgate-data, made at the first start
    Serve(Serve),
    /// Write a first configuration, with a self-signed certificate and one user
    Init(Init),
    /// Say what is wrong with a configuration, its files and its plugins
    Check(Check),
    /// Serve restic like restic's rest-server, by the same flags
    RestServer(RestServer),
    /// Manage users in a file of passwords
    User(User),
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The configuration
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["data", "listen"])]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the trial set-up
    #[arg(long, value_name = "FOLDER", default_value = "keepgate-data")]
    pub(crate) data: PathBuf,
    /// Address of the trial set-up, instead of the one in its configuration
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where to write it; must not hold a configuration yet
    #[arg(value_name = "FOLDER", default_value = "keepgate-data")]
    pub(crate) folder: PathBuf,
    /// Further names and addresses for the certificate
    #[arg(long = "name", value_name = "HOST")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The configuration
    #[arg(long, short, value_name = "FILE", default_value = "keepgate-data/keepgate.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RestServer {
    /// Data directory
    #[arg(long, value_name = "FOLDER", default_value_os_t = std::env::temp_dir().join("restic"))]
    pub(crate) path: PathBuf,
    /// Listen address: HOST:PORT, :PORT, or unix:PATH
    #[arg(long, value_name = "ADDRESS", default_value = ":8000")]
    pub(crate) listen: String,
    /// Disable authentication
    #[arg(long)]
    pub(crate) no_auth: bool,
    /// Location of the file of users [default: .htpasswd in the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) htpasswd_file: Option<PathBuf>,
    /// Forbid to delete and to change; locks excepted
    #[arg(long)]
    pub(crate) append_only: bool,
    /// Users reach only repositories below a folder of their name
    #[arg(long)]
    pub(crate) private_repos: bool,
}

#[derive(Debug, Args)]
pub(crate) struct User {
    /// The file of users, in htpasswd's format
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "keepgate-data/htpasswd",
        global = true
    )]
    pub(crate) file: PathBuf,
    #[command(subcommand)]
    pub(crate) command: UserCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user or change a password, which is read from standard input, or made up and shown
    Add {
        /// Letters, digits, `@`, `.`, `_` and `-`
        name: String,
        /// Make up a password and print it
        #[arg(long)]
        generate: bool,
    },
    /// Remove a user
    Remove {
        /// As in `list`
        name: String,
    },
    /// Print the users' names, one a line
    List,
    /// Check a password, read from standard input; exit with 1 where it is wrong
    Verify {
        /// As in `list`
        name: String,
    },
}

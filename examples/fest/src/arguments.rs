//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Backs up folders to a server that speaks fest's API.
///
/// Exit codes: 0 all was done, 1 it failed, 2 the command line is wrong, 3 it was done but for some files, which are named
/// on standard error.
#[derive(Debug, Parser)]
#[command(name = "fest", version)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which server, and as whom.
#[derive(Debug, Args)]
pub(crate) struct ServerArguments {
    /// The address of the mount.
    #[arg(
        long,
        env = "FEST_URL",
        value_name = "https://HOST:PORT/PATH",
        global = true,
        default_value = ""
    )]
    pub(crate) url: String,
    #[arg(long, env = "FEST_USER", global = true, default_value = "")]
    pub(crate) user: String,
    /// A file with the password, on its first line. Without it, the password is in FEST_PASSWORD.
    #[arg(long, env = "FEST_PASSWORD_FILE", global = true)]
    pub(crate) password_file: Option<PathBuf>,
    /// A PEM file with the certificates to trust, instead of those of public authorities.
    #[arg(long, env = "FEST_CA", global = true)]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Back up a folder under a name.
    Backup(BackupArguments),
    /// Restore a folder.
    Restore(RestoreArguments),
    /// List what is stored.
    List {
        /// Only versions of this name.
        name: Option<String>,
    },
    /// Say how a folder differs from what is stored.
    Diff(DiffArguments),
    /// Check that all of a backup is stored.
    Verify(VerifyArguments),
    /// Remove a version. The server must allow it.
    Rm {
        name: String,
        /// The version, as `list` shows it.
        #[arg(long)]
        timestamp: String,
    },
    /// Print a script with completions for a shell.
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
pub(crate) struct BackupArguments {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    /// Leave out what fits a pattern: `*.tmp` at any depth, `/cache` at the top, `**/node_modules`. Repeatable.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) omit: Vec<String>,
    /// Files that are sent at the same time.
    #[arg(long, default_value_t = 8)]
    pub(crate) jobs: usize,
    /// Read every file, even if size and time say that it has not changed.
    #[arg(long)]
    pub(crate) rehash: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// An older version, as `list` shows it.
    #[arg(long)]
    pub(crate) timestamp: Option<String>,
    /// Restore owners and groups, which only root may do.
    #[arg(long)]
    pub(crate) owner: bool,
    /// Files that are fetched at the same time.
    #[arg(long, default_value_t = 8)]
    pub(crate) jobs: usize,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    #[arg(long)]
    pub(crate) timestamp: Option<String>,
    #[arg(long, value_name = "PATTERN")]
    pub(crate) omit: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    pub(crate) name: String,
    #[arg(long)]
    pub(crate) timestamp: Option<String>,
    /// Fetch each file and compare its SHA-256.
    #[arg(long)]
    pub(crate) read: bool,
}

//! The command line, and nothing else. If the program is started under the name `rest-server`, for
//! example through a symbolic link, it is `keepgate rest-server`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use keepgate_http::RecordLimits;

use crate::rest_server::flags::{self, Flags};

/// A backup gateway: each backup protocol is a WebAssembly component in a folder.
#[derive(Debug, Parser)]
#[command(name = "keepgate", version = crate::version::VERSION, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the gateway. Without --config, create a trial set-up in ./keepgate-data at the first start
    Serve(Serve),
    /// Create a configuration with a self-signed certificate and one user
    Init(Init),
    /// Check a configuration, its files and its plugins
    Check(Check),
    /// Replace restic's rest-server, with the same flags
    RestServer(Flags),
    /// Manage the users in an htpasswd file
    User(User),
    /// Show what identifies a client's certificate
    Certificate(Certificate),
    /// List, start and cancel jobs of the running gateway; list its schedules
    Jobs(Jobs),
    /// List and verify what is in stores; copy one store to another
    Store(Store),
    /// Create, build, check, test and measure plugins; list those of the running gateway
    #[command(disable_help_flag = true)]
    Plugin {
        /// Passed to the program keepgate-plugin; `keepgate plugin --help` lists its commands
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["data", "listen"])]
    pub(crate) config: Option<PathBuf>,
    /// The folder of the trial set-up
    #[arg(long, value_name = "FOLDER", default_value = "keepgate-data")]
    pub(crate) data: PathBuf,
    /// Listen address of the trial set-up; overrides its configuration
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    #[command(flatten)]
    pub(crate) recording: Recording,
}

/// Recording of requests and responses as files.
#[derive(Debug, Args)]
pub(crate) struct Recording {
    /// Record requests and responses into this folder, without credentials
    #[arg(long, value_name = "FOLDER")]
    pub(crate) record: Option<PathBuf>,
    /// Record bodies up to this size; of larger ones, only their SHA-256 and length
    #[arg(long, value_name = "SIZE", default_value = "64KiB", requires = "record")]
    pub(crate) record_bodies: ByteSize,
    /// Stop recording when the folder holds this many bytes
    #[arg(long, value_name = "SIZE", default_value = "1GiB", requires = "record")]
    pub(crate) record_size: ByteSize,
    /// Stop recording when the folder holds this many requests
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000, requires = "record")]
    pub(crate) record_count: u64,
    /// Record only every Nth request
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "record",
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) record_every: u64,
}

impl Recording {
    /// The folder and the limits.
    pub(crate) fn plan(self) -> Option<(PathBuf, RecordLimits)> {
        let limits = RecordLimits {
            body: usize::try_from(self.record_bodies.as_u64()).unwrap_or(usize::MAX),
            bytes: self.record_size.as_u64(),
            exchanges: self.record_count,
            every: self.record_every,
        };
        Some((self.record?, limits))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where to create it; must not contain a configuration
    #[arg(value_name = "FOLDER", default_value = "keepgate-data")]
    pub(crate) folder: PathBuf,
    /// Additional names and addresses for the certificate
    #[arg(long = "name", value_name = "HOST")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = "keepgate-data/keepgate.toml")]
    pub(crate) config: PathBuf,
    /// Also connect to the systems that it names
    #[arg(long)]
    pub(crate) connect: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Jobs {
    /// The configuration of the gateway; it names the admin listener
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "keepgate-data/keepgate.toml",
        global = true
    )]
    pub(crate) config: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: JobsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// List jobs, newest first
    List(JobsList),
    /// List schedules with their next and last runs
    Schedules,
    /// Show everything about a job
    Show {
        /// The id, as shown by `list`
        id: String,
    },
    /// Cancel a queued or running job
    Cancel {
        /// The id, as shown by `list`
        id: String,
    },
    /// Start the job of a schedule now
    Run {
        /// The name of the schedule in the configuration
        schedule: String,
        /// Wait until the job has ended; exit with 1 if it did not succeed
        #[arg(long)]
        wait: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct JobsList {
    /// Only jobs of this mount
    #[arg(long, value_name = "PATH")]
    pub(crate) mount: Option<String>,
    /// Only jobs of this kind
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Only jobs in this state: queued, running, succeeded, failed, cancelled
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// The maximum number of jobs
    #[arg(long, default_value_t = 100)]
    pub(crate) max: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Store {
    /// The configuration of the gateway; it names the stores
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "keepgate-data/keepgate.toml",
        global = true
    )]
    pub(crate) config: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// List the blobs of a store or of a folder in it; without a name, list the stores
    List {
        /// The store's name in the configuration, or a folder in it: `main/team`
        store: Option<String>,
    },
    /// Read every blob and compare it with its name; exit with 1 if one is wrong
    Verify {
        /// The store's name in the configuration, or a folder in it: `main/team`
        store: String,
        /// Also compare it with the store that it is a copy of, by name, size and content
        #[arg(long, value_name = "STORE")]
        copy_of: Option<String>,
        #[command(flatten)]
        pace: Pace,
    },
    /// Copy what is new from one store to another; nothing is replaced or removed. Exit with 1 if the
    /// copy is not complete
    Copy {
        /// The store to copy, or a folder in it: `main/team`
        from: String,
        /// The store to copy to, or a folder in it
        to: String,
        #[command(flatten)]
        pace: Pace,
    },
}

/// How fast a command reads and writes.
#[derive(Debug, Args)]
pub(crate) struct Pace {
    /// How many blobs at once
    #[arg(long, value_name = "NUMBER", default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: u16,
    /// The most bytes per second
    #[arg(long, value_name = "SIZE")]
    pub(crate) bandwidth: Option<ByteSize>,
}

#[derive(Debug, Args)]
pub(crate) struct User {
    /// The htpasswd file
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
    /// Add a user or change a password; the password is read from standard input
    Add {
        /// Letters, digits, `@`, `.`, `_` and `-`
        name: String,
        /// Generate a password and print it
        #[arg(long)]
        generate: bool,
    },
    /// Remove a user
    Remove {
        /// The name, as shown by `list`
        name: String,
    },
    /// List the names of all users, one per line
    List,
    /// Check a password, read from standard input; exit with 1 if it is wrong
    Verify {
        /// The name, as shown by `list`
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Certificate {
    #[command(subcommand)]
    pub(crate) command: CertificateCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertificateCommand {
    /// Print the SHA-256 fingerprint, as a list of clients has it; of a chain, that of the first certificate
    Fingerprint {
        /// The certificate, in PEM or DER
        file: PathBuf,
        /// Print a line for the list, with this name of a user
        #[arg(long, value_name = "USER")]
        name: Option<String>,
    },
}

/// Reads the command line. If there is nothing to do, for example after `--help` or a mistake, prints
/// the text and returns the exit code.
pub(crate) fn read() -> Result<Command, u8> {
    let (arguments, rest_server) = expand(std::env::args_os());
    Cli::try_parse_from(arguments).map(|cli| cli.command).map_err(|error| {
        // Printing fails if the pipe is closed, and then nobody reads it.
        let _ = error.print();
        match error.exit_code() {
            // rest-server exits with 1.
            2 if rest_server => 1,
            code => u8::try_from(code).unwrap_or(1),
        }
    })
}

/// Inserts `rest-server` if that is the name of the program. Also returns whether the command is
/// `rest-server`.
fn expand(arguments: impl Iterator<Item = OsString>) -> (Vec<OsString>, bool) {
    let mut arguments: Vec<OsString> = arguments.collect();
    let name = arguments.first().and_then(|path| Path::new(path).file_name());
    if name == Some(OsStr::new("rest-server")) {
        arguments.insert(1, "rest-server".into());
    }
    let rest_server = arguments.get(1).is_some_and(|command| command == "rest-server");
    if rest_server {
        arguments = flags::plain(arguments);
    }
    (arguments, rest_server)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(arguments: &[&str]) -> (Vec<OsString>, bool) {
        expand(arguments.iter().map(OsString::from))
    }

    #[test]
    fn a_program_named_rest_server_is_rest_server() {
        let (arguments, rest_server) = expanded(&["/usr/local/bin/rest-server", "--tls=false"]);
        assert!(rest_server);
        assert_eq!(arguments.get(1..).unwrap(), ["rest-server"]);
        let (arguments, rest_server) = expanded(&["keepgate", "rest-server", "--tls=true"]);
        assert!(rest_server);
        assert_eq!(arguments.get(1..).unwrap(), ["rest-server", "--tls"]);
        assert!(!expanded(&["keepgate", "serve"]).1);
    }

    #[test]
    fn everything_after_plugin_is_passed_on() {
        for words in [&["--help"][..], &["test", "--json", "--", "x", "-h"], &["--version"], &[]] {
            let cli = Cli::try_parse_from([&["keepgate", "plugin"], words].concat()).unwrap();
            let Command::Plugin { arguments } = cli.command else { panic!("{:?}", cli.command) };
            assert_eq!(arguments, words);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}

//! The command line: what may be typed, and nothing else. Called by the name `rest-server`, through
//! a link say, the program is `keepgate rest-server`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use keepgate_http::RecordLimits;

use crate::rest_server::flags::{self, Flags};

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
    RestServer(Flags),
    /// Manage users in a file of passwords
    User(User),
    /// Look at jobs and schedules of the running gateway, cancel and start them
    Jobs(Jobs),
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
    /// The configuration
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["data", "listen"])]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the trial set-up
    #[arg(long, value_name = "FOLDER", default_value = "keepgate-data")]
    pub(crate) data: PathBuf,
    /// Address of the trial set-up, instead of the one in its configuration
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    #[command(flatten)]
    pub(crate) recording: Recording,
}

/// Exchanges kept as files.
#[derive(Debug, Args)]
pub(crate) struct Recording {
    /// Record requests and replies into this folder, without credentials and what looks like them
    #[arg(long, value_name = "FOLDER")]
    pub(crate) record: Option<PathBuf>,
    /// Bodies up to this size are recorded, of others the SHA-256 and length
    #[arg(long, value_name = "SIZE", default_value = "64KiB", requires = "record")]
    pub(crate) record_bodies: ByteSize,
    /// No more is recorded once the folder holds so many bytes
    #[arg(long, value_name = "SIZE", default_value = "1GiB", requires = "record")]
    pub(crate) record_size: ByteSize,
    /// No more is recorded once the folder holds so many exchanges
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000, requires = "record")]
    pub(crate) record_count: u64,
    /// Record one of so many exchanges
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "record",
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) record_every: u64,
}

impl Recording {
    /// The folder, and how much goes there.
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
    /// Also reach out to what it names: each endpoint of each etcd cluster
    #[arg(long)]
    pub(crate) connect: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Jobs {
    /// The configuration of the gateway, which says where its admin listener is
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
    /// Print jobs, the newest first
    List(JobsList),
    /// Print schedules, with their next and last runs
    Schedules,
    /// Print all that is known of a job
    Show {
        /// As in `list`
        id: String,
    },
    /// End a job that waits or runs
    Cancel {
        /// As in `list`
        id: String,
    },
    /// Start the job of a schedule now
    Run {
        /// Its name in the configuration
        schedule: String,
        /// Wait until the job has ended; exit with 1 where it did not succeed
        #[arg(long)]
        wait: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct JobsList {
    /// Only of this mount
    #[arg(long, value_name = "PATH")]
    pub(crate) mount: Option<String>,
    /// Only of this kind
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Only in this state: queued, running, succeeded, failed, cancelled
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    pub(crate) max: usize,
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

/// Reads the command line; the exit code where there is nothing to be done, or nothing that makes
/// sense. What there is to say has been said by then.
pub(crate) fn read() -> Result<Command, u8> {
    let (arguments, rest_server) = expand(std::env::args_os());
    Cli::try_parse_from(arguments).map(|cli| cli.command).map_err(|error| {
        // A closed pipe is no reason to break down.
        let _ = error.print();
        match error.exit_code() {
            // As rest-server's own.
            2 if rest_server => 1,
            code => u8::try_from(code).unwrap_or(1),
        }
    })
}

/// The arguments with `rest-server` in its place, and whether it is there.
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
    fn a_link_of_rest_servers_name_is_rest_server() {
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
    fn the_command_line_makes_sense() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}

//! The flags of restic's rest-server 0.14, with its names, defaults and syntax. `configuration` gives them
//! their meaning.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::Args;

/// Flags that are on or off.
const SWITCHES: [&str; 9] = [
    "--append-only",
    "--debug",
    "--group-accessible-repos",
    "--no-auth",
    "--no-verify-upload",
    "--private-repos",
    "--prometheus",
    "--prometheus-no-auth",
    "--tls",
];

#[derive(Debug, Args)]
#[command(args_override_self = true, disable_version_flag = true)]
pub(crate) struct Flags {
    /// Enable append only mode: nothing but locks can be deleted
    #[arg(long)]
    pub(crate) append_only: bool,
    /// Write a CPU profile to this file, in pprof's format, at the end
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub(crate) cpu_profile: Option<PathBuf>,
    /// Output debug messages
    #[arg(long)]
    pub(crate) debug: bool,
    /// Let the filesystem group be able to access repo files
    #[arg(long)]
    pub(crate) group_accessible_repos: bool,
    /// Location of the .htpasswd file [default: .htpasswd in the data directory]
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub(crate) htpasswd_file: Option<PathBuf>,
    /// Listen address: HOST:PORT, :PORT, or unix:PATH
    #[arg(long, value_name = "ADDRESS", default_value = ":8000")]
    pub(crate) listen: OsString,
    /// Write HTTP requests in the combined log format to this file; `-` is stdout
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub(crate) log: Option<PathBuf>,
    /// The maximum size of all repositories together, in bytes; 0 is no limit
    #[arg(long, value_name = "BYTES", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) max_size: i64,
    /// Disable authentication
    #[arg(long)]
    pub(crate) no_auth: bool,
    /// Do not verify the integrity of uploaded data; only for very low-power devices
    #[arg(long)]
    pub(crate) no_verify_upload: bool,
    /// Data directory, or a bucket such as s3:https://s3.example.com/bucket
    #[arg(long, value_name = "FOLDER", allow_hyphen_values = true,
        default_value_os_t = std::env::temp_dir().join("restic"))]
    pub(crate) path: PathBuf,
    /// Users can only access their private repo: those below a folder of their name
    #[arg(long)]
    pub(crate) private_repos: bool,
    /// Enable Prometheus metrics at /metrics
    #[arg(long)]
    pub(crate) prometheus: bool,
    /// Disable authentication for /metrics
    #[arg(long)]
    pub(crate) prometheus_no_auth: bool,
    /// The HTTP header that holds the user's name, set by a proxy in front
    #[arg(long, value_name = "HEADER")]
    pub(crate) proxy_auth_username: Option<String>,
    /// Turn on TLS support
    #[arg(long)]
    pub(crate) tls: bool,
    /// TLS certificate [default: public_key in the data directory]
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// TLS key [default: private_key in the data directory]
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub(crate) tls_key: Option<PathBuf>,
    /// TLS min version: 1.2 or 1.3
    #[arg(long, value_name = "VERSION", default_value = "1.2")]
    pub(crate) tls_min_ver: String,
    /// Print the version
    #[arg(long, short)]
    pub(crate) version: bool,
}

impl Flags {
    /// Without authentication there are no users.
    pub(crate) fn separates_users(&self) -> bool {
        self.private_repos && !self.no_auth
    }

    pub(crate) fn htpasswd(&self) -> PathBuf {
        self.htpasswd_file.clone().unwrap_or_else(|| self.path.join(".htpasswd"))
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.tls_cert.clone().unwrap_or_else(|| self.path.join("public_key"))
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.tls_key.clone().unwrap_or_else(|| self.path.join("private_key"))
    }
}

/// Converts switches from Go's syntax, `--tls=true` and `--tls=false`, to clap's: present or not. Anything
/// invalid is left to clap, which reports it.
pub(crate) fn plain(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut plain: Vec<OsString> = Vec::new();
    for argument in arguments {
        match switched(&argument) {
            Some((switch, true)) => plain.push(switch.into()),
            Some((switch, false)) => plain.retain(|earlier| earlier != switch),
            None => plain.push(argument),
        }
    }
    plain
}

/// The switch in `--switch=BOOL` and whether it is on, with the values that Go accepts.
fn switched(argument: &OsStr) -> Option<(&'static str, bool)> {
    let (name, value) = argument.to_str()?.split_once('=')?;
    let switch = SWITCHES.into_iter().find(|switch| *switch == name)?;
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some((switch, true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some((switch, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        flags: Flags,
    }

    fn parse(arguments: &[&str]) -> Result<Flags, String> {
        let arguments = ["rest-server"].iter().chain(arguments).map(OsString::from);
        Cli::try_parse_from(plain(arguments))
            .map(|cli| cli.flags)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_switch_is_known() {
        let command = <Cli as clap::CommandFactory>::command();
        let is_switch = |arg: &&Arg| matches!(arg.get_action(), ArgAction::SetTrue);
        let mut switches: Vec<String> = command
            .get_arguments()
            .filter(is_switch)
            .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
            .filter(|long| long != "--version")
            .collect();
        switches.sort();
        assert_eq!(switches, SWITCHES);
    }

    #[test]
    fn flags_are_read_in_gos_syntax() {
        let flags = parse(&["--append-only=1", "--tls=false", "--path=/a", "--path", "/b"]);
        let flags = flags.unwrap();
        assert!(flags.append_only && !flags.tls);
        assert_eq!(flags.path, PathBuf::from("/b"));
        assert!(!parse(&["--no-auth", "--no-auth=f"]).unwrap().no_auth);
        assert!(parse(&["--no-auth=false", "--no-auth", "--no-auth"]).unwrap().no_auth);
        assert_eq!(parse(&["--max-size", "-5"]).unwrap().max_size, -5);
        assert_eq!(parse(&["--max-size=1000"]).unwrap().max_size, 1000);
        // A path may begin with a dash, as it may for Go.
        assert_eq!(parse(&["--path", "-data"]).unwrap().path, PathBuf::from("-data"));
        assert_eq!(parse(&["--log", "-"]).unwrap().log, Some(PathBuf::from("-")));
    }

    #[test]
    fn invalid_flags_are_rejected() {
        for arguments in [
            &["--append-only=maybe"][..],
            &["--max-size", "10k"],
            &["argument"],
            &["--unheard-of"],
            &["--path"],
        ] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
    }
}

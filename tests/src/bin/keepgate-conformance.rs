//! `keepgate-conformance`: plays the cases of `tests/conformance` against any server of restic's REST backend, and
//! reports what is not as it must be.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use keepgate_harness::case::CaseFile;
use keepgate_harness::socket::{Server, Trust};
use keepgate_harness::{Differences, Target, report};
use keepgate_tests::conformance;

/// Check a server of restic's REST backend.
#[derive(Debug, Parser)]
#[command(name = "keepgate-conformance", max_term_width = 100)]
struct Arguments {
    /// Command line of a server with rest-server's flags, with {flags} and {path} in it; started
    /// once for each set of flags
    #[arg(long, value_name = "COMMAND", required_unless_present_any = ["url", "list"])]
    start: Option<String>,
    /// A server that runs: `http[s]://NAME:PASSWORD@HOST:PORT/PREFIX/`. Only new repositories are
    /// written to; existing ones are left alone
    #[arg(long, value_name = "URL", conflicts_with = "start")]
    url: Option<String>,
    /// The folder in which that server keeps what lies below the URL, to check the disk as well
    #[arg(long, value_name = "FOLDER", requires = "url")]
    data: Option<PathBuf>,
    /// A PEM file with the certificates to trust, instead of those that the machine knows
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// Known differences; one that does not occur is a failure
    #[arg(long, value_name = "FILE")]
    differences: Option<PathBuf>,
    /// Only cases with this in their name; with * the whole name
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// Cases of another folder, made like tests/conformance/cases
    #[arg(long, value_name = "FOLDER")]
    cases: Option<PathBuf>,
    /// Servers that are started at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    jobs: usize,
    /// Print the cases, and run none
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match check(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // If even this cannot be written, nobody is there to read it.
            let _ = writeln!(io::stderr(), "keepgate-conformance: {error}");
            ExitCode::from(2)
        }
    }
}

fn check(arguments: &Arguments) -> Result<bool, String> {
    let Arguments { start, url, data, ca, differences, only, cases, jobs, list } = arguments;
    let cases = cases.as_deref().map_or_else(conformance::stock, conformance::folder)?;
    let print = |line: &str| writeln!(io::stdout(), "{line}").map_err(|error| error.to_string());
    if *list {
        return cases
            .iter()
            .flat_map(CaseFile::names)
            .try_for_each(|name| print(&name))
            .map(|()| true);
    }
    let differences = differences.as_deref().map(Differences::read).transpose()?;
    let only = only.as_deref();
    let report = match (start, url) {
        (Some(start), _) => {
            conformance::play(&cases, &Target::Start(start), differences, only, *jobs)?
        }
        (None, Some(url)) => {
            let trust = ca.clone().map_or(Trust::Machine, Trust::File);
            let mut server = Server::at(url, &trust)?;
            if let Some(data) = data {
                server = server.with_data(data);
            }
            conformance::play(&cases, &Target::Running(&server), differences, only, *jobs)?
        }
        (None, None) => return Err("--start or --url is missing".to_owned()),
    };
    print(report::text(&report).trim_end())?;
    Ok(conformance::is_right(&report))
}

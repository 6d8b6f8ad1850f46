//! `keepgate-conformance`: holds any server of restic's REST backend against the cases of
//! `tests/conformance`, and says in one line each what is not as it must be.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use keepgate_tests::conformance::differences::Differences;
use keepgate_tests::conformance::run::{Target, run};
use keepgate_tests::conformance::server::Server;
use keepgate_tests::conformance::suite;

/// Check a server of restic's REST backend.
#[derive(Debug, Parser)]
#[command(name = "keepgate-conformance", max_term_width = 100)]
struct Arguments {
    /// Command line of a server with rest-server's flags, with {flags} and {path} in it; started
    /// once for each set of flags
    #[arg(long, value_name = "COMMAND", required_unless_present_any = ["url", "list"])]
    start: Option<String>,
    /// A server that runs: `http://NAME:PASSWORD@HOST:PORT/PREFIX/`. Only new repositories are
    /// written to; those that are there are left alone
    #[arg(long, value_name = "URL", conflicts_with = "start")]
    url: Option<String>,
    /// Where that server keeps what lies below the URL, to check the disk as well
    #[arg(long, value_name = "FOLDER", requires = "url")]
    data: Option<PathBuf>,
    /// Known differences; one that does not occur is a failure
    #[arg(long, value_name = "FILE")]
    differences: Option<PathBuf>,
    /// Only cases with this in their name; with * the whole name
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// Cases of another folder, made like tests/conformance
    #[arg(long, value_name = "FOLDER")]
    cases: Option<PathBuf>,
    /// Servers that are started at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    jobs: usize,
    /// Print the cases and what they need, and run none
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match check(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is there to be told where even this fails.
            let _ = writeln!(io::stderr(), "keepgate-conformance: {error}");
            ExitCode::from(2)
        }
    }
}

fn check(arguments: &Arguments) -> Result<bool, String> {
    let Arguments { start, url, data, differences, only, cases, jobs, list } = arguments;
    let cases = cases.as_deref().map_or_else(suite::stock, suite::folder)?;
    let print = |line: &str| writeln!(io::stdout(), "{line}").map_err(|error| error.to_string());
    if *list {
        for single in &cases {
            let case = &single.case;
            print(&format!("{}\t{}\t{}", single.name, case.flags.join(" "), case.why))?;
        }
        return Ok(true);
    }
    let target = match (start, url) {
        (Some(start), _) => Target::Start(start.clone()),
        (None, Some(url)) => Target::Running(Box::new(Server::at(url, data.as_deref())?)),
        (None, None) => return Err("--start or --url is missing".to_owned()),
    };
    let differences = differences.as_deref().map(Differences::read).transpose()?;
    let report = run(&cases, &target, differences.as_ref(), only.as_deref(), *jobs)?;
    for line in &report.failed {
        print(line)?;
    }
    print(&report.sum())?;
    Ok(report.failed.is_empty())
}

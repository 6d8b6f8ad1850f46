//! `keepgate plugin test`: finds a plugin and its cases, runs them, and reports the results.

use std::path::{Path, PathBuf};

use crate::files::component;
use crate::progress_notice::ProgressNotice;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use keepgate::output::{self, note, say};
use keepgate_harness::socket::{Server, Trust};
use keepgate_harness::{PluginUnderTest, Recording, RunOptions, Target, case, report, run_against};

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// A plugin's folder, with NAME.wasm and cases/ in it, or a component with cases/ beside it
    #[arg(value_name = "DIR|FILE", default_value = ".")]
    what: PathBuf,
    /// The component, if it is not in the plugin's folder
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// The cases: a file, or a folder of files
    #[arg(long, value_name = "FILE|DIR")]
    cases: Option<PathBuf>,
    /// Replay the requests that `serve --record` wrote to this folder, instead of running cases
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cases", "update"])]
    replay: Option<PathBuf>,
    /// Also write the replayed requests as cases into this folder
    #[arg(long, value_name = "DIR", requires = "replay")]
    save: Option<PathBuf>,
    /// Run the cases against the server at https://NAME:PASSWORD@HOST:PORT/PATH/ instead of the plugin, except
    /// those that look inside it. This writes to the server
    #[arg(long, value_name = "URL", conflicts_with_all = ["plugin", "replay", "update"])]
    url: Option<String>,
    /// The login for --url: NAME:PASSWORD
    #[arg(
        long,
        value_name = "LOGIN",
        env = "KEEPGATE_TEST_LOGIN",
        hide_env_values = true,
        requires = "url"
    )]
    user: Option<String>,
    /// Trust the authorities in this PEM file instead of the system's
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// Accept any certificate
    #[arg(long, requires = "url", conflicts_with = "ca")]
    insecure: bool,
    /// The server's data folder for this URL, to check what is on its disk too
    #[arg(long, value_name = "DIR", requires = "url")]
    data: Option<PathBuf>,
    /// Run only cases whose name (FILE/CASE) contains this text, or matches it if it has a *
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Rewrite the expectations of the cases from the actual results; review the changes
    #[arg(long)]
    update: bool,
    /// Print a report as JSON
    #[arg(long)]
    json: bool,
    /// Also write a report as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print the names of the cases without running them
    #[arg(long)]
    list: bool,
    /// Number of threads; 0 means one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

/// Exit codes: all cases passed, a case failed, the cases or the plugin cannot be used.
const PASSED: u8 = 0;
const FAILED: u8 = 1;
const UNUSABLE: u8 = 2;

/// Runs the cases and returns the exit code.
pub(crate) fn run(arguments: &Test) -> u8 {
    test(arguments).unwrap_or_else(|error| {
        note!("keepgate: {}", keepgate::explain(&error));
        UNUSABLE
    })
}

fn test(arguments: &Test) -> Result<u8> {
    if !arguments.what.exists() {
        bail!("{} does not exist", arguments.what.display());
    }
    let cases = arguments.cases.clone().unwrap_or_else(|| folder(&arguments.what).join("cases"));
    if arguments.replay.is_none() && !cases.exists() {
        bail!("no cases: {} does not exist; name others with --cases", cases.display());
    }
    let found = match &arguments.replay {
        Some(recording) => replayed(arguments, recording)?,
        None => case::read(&cases),
    };
    let files = match found {
        Ok(files) => files,
        Err(broken) => return Ok(unusable(&broken)),
    };
    if arguments.list {
        for name in files.iter().flat_map(case::CaseFile::names) {
            say!("{name}")?;
        }
        return Ok(PASSED);
    }
    let options = RunOptions {
        filter: arguments.filter.clone(),
        threads: arguments.threads,
        differences: None,
    };
    let (report, rewritten, tested) = match &arguments.url {
        Some(url) => {
            let server = server(arguments, url)?;
            let report = run_against(&Target::Running(&server), &files, &options);
            (report, None, url.clone())
        }
        None => {
            let plugin = load(arguments)?;
            let name = plugin.name().to_owned();
            if arguments.update {
                match keepgate_harness::run_and_update(&plugin, &cases, &options) {
                    Ok((report, rewritten)) => (report, Some(rewritten), name),
                    Err(broken) => return Ok(unusable(&broken)),
                }
            } else {
                (keepgate_harness::run(&plugin, &files, &options), None, name)
            }
        }
    };
    if report.ran.is_empty() && report.skipped.is_empty() {
        bail!("no case has {:?} in its name", arguments.filter.as_deref().unwrap_or_default());
    }
    if let Some(path) = &arguments.junit {
        let xml = report::junit(&report, &tested);
        std::fs::write(path, xml).with_context(|| path.display().to_string())?;
    }
    if arguments.json {
        say!("{:#}", report::json(&report))?;
    } else {
        output::print(format_args!("{}", report::text(&report)))?;
    }
    for name in rewritten.iter().flatten() {
        note!("{name} was rewritten; review the changes");
    }
    Ok(match (report.broken().is_empty(), report.wrong()) {
        (false, _) => UNUSABLE,
        (true, 0) => PASSED,
        (true, _) => FAILED,
    })
}

/// The plugin that is tested.
fn load(arguments: &Test) -> Result<PluginUnderTest> {
    let file = under_test(arguments)?;
    if arguments.plugin.is_none() {
        warn_of_newer_sources(folder(&arguments.what), &file);
    }
    let _notice = ProgressNotice::while_compiling(&file);
    Ok(PluginUnderTest::load(&file, crate::files::code_folder().as_deref())?)
}

/// The server that is tested.
fn server(arguments: &Test, url: &str) -> Result<Server> {
    let trust = match (&arguments.ca, arguments.insecure) {
        (Some(file), _) => Trust::File(file.clone()),
        (None, true) => Trust::Anything,
        (None, false) => Trust::Machine,
    };
    let mut server = Server::at(url, &trust).map_err(anyhow::Error::msg)?;
    if let Some(login) = &arguments.user {
        server = server.with_login(login);
    }
    if let Some(folder) = &arguments.data {
        server = server.with_data(folder);
    }
    Ok(server)
}

/// The component that is tested.
fn under_test(arguments: &Test) -> Result<PathBuf> {
    match &arguments.plugin {
        Some(file) => Ok(file.clone()),
        None => component(&arguments.what),
    }
}

/// Warns if a source has been changed since the component was built.
fn warn_of_newer_sources(folder: &Path, component: &Path) {
    if let Some(source) = keepgate_builder::plugin::newer_source(folder, component) {
        let (component, source, folder) = (component.display(), source.display(), folder.display());
        note!("{component} is older than {source}; run `keepgate plugin build {folder}`");
    }
}

/// Reads a recording as cases. The plugin is named after its file, as in a gateway's configuration.
fn replayed(
    arguments: &Test,
    folder: &Path,
) -> Result<Result<Vec<case::CaseFile>, Vec<case::Broken>>> {
    let file = under_test(arguments)?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let recording = match Recording::read(folder, &name) {
        Ok(recording) => recording,
        Err(broken) => return Ok(Err(vec![broken])),
    };
    for exchange in &recording.left_out {
        note!("left out: {exchange}");
    }
    if let Some(into) = &arguments.save {
        recording.save(into).with_context(|| into.display().to_string())?;
    }
    Ok(Ok(vec![recording.cases]))
}

/// Prints what is wrong with case files.
fn unusable(broken: &[case::Broken]) -> u8 {
    for broken in broken {
        note!("{broken}");
    }
    UNUSABLE
}

/// The plugin's folder.
fn folder(what: &Path) -> &Path {
    if what.is_dir() { what } else { what.parent().unwrap_or(Path::new(".")) }
}

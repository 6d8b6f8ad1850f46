//! `keepgate plugin test`: finds a plugin and its cases, runs them, and says what came of it.

use std::path::{Path, PathBuf};

use crate::progress_notice::ProgressNotice;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use keepgate::output::{self, note, say};
use keepgate_harness::socket::{Server, Trust};
use keepgate_harness::{
    PluginUnderTest, Recording, RunOptions, Target, case, report, run_against,
};

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// A plugin's folder, with NAME.wasm and cases/ in it; or a component, with cases/ beside it
    #[arg(value_name = "DIR|FILE", default_value = ".")]
    what: PathBuf,
    /// The component, where it is not in the plugin's folder
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// The cases: a file, or a folder with files of cases
    #[arg(long, value_name = "FILE|DIR")]
    cases: Option<PathBuf>,
    /// Instead of cases: asks a plugin again what `serve --record` kept in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cases", "update"])]
    replay: Option<PathBuf>,
    /// Also writes what is replayed as a case into this folder, to be edited and kept
    #[arg(long, value_name = "DIR", requires = "replay")]
    save: Option<PathBuf>,
    /// Instead of the plugin: plays the cases that need no inside view against the server at
    /// http[s]://[NAME:PASSWORD@]HOST[:PORT]/PATH/, and says which it skips and why. It writes there
    #[arg(long, value_name = "URL", conflicts_with_all = ["plugin", "replay", "update"])]
    url: Option<String>,
    /// The login for --url, NAME:PASSWORD; better here, or in the environment, than in the URL
    #[arg(long, value_name = "LOGIN", env = "KEEPGATE_TEST_LOGIN", hide_env_values = true, requires = "url")]
    user: Option<String>,
    /// A PEM file with the certificates to trust, instead of those that the machine knows
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// Take any certificate: whoever answers is taken for the server
    #[arg(long, requires = "url", conflicts_with = "ca")]
    insecure: bool,
    /// The folder in which the server keeps what lies below the URL, to look at its disk as well
    #[arg(long, value_name = "DIR", requires = "url")]
    data: Option<PathBuf>,
    /// Only cases whose name, FILE/CASE, contains this; with * in it, those whose whole name it fits
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Write what came into the cases, in the place of what was expected. Look at the changes
    #[arg(long)]
    update: bool,
    /// Print a report as JSON
    #[arg(long)]
    json: bool,
    /// Also write a report as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print the names of the cases and run none
    #[arg(long)]
    list: bool,
    /// Threads; as many as the machine has, where nothing is said
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

/// Exit codes: all is right, a case failed, the cases or the plugin cannot be used.
const RIGHT: u8 = 0;
const WRONG: u8 = 1;
const UNUSABLE: u8 = 2;

/// Runs the cases; the exit code.
pub(crate) fn run(arguments: &Test) -> u8 {
    test(arguments).unwrap_or_else(|error| {
        note!("keepgate: {}", keepgate::explain(&error));
        UNUSABLE
    })
}

fn test(arguments: &Test) -> Result<u8> {
    if !arguments.what.exists() {
        bail!("there is no folder and no file {}", arguments.what.display());
    }
    let cases = arguments.cases.clone().unwrap_or_else(|| folder(&arguments.what).join("cases"));
    if arguments.replay.is_none() && !cases.exists() {
        bail!("there are no cases: {} is not there; --cases names others", cases.display());
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
        for name in files.iter().flat_map(|file| file.names()) {
            say!("{name}")?;
        }
        return Ok(RIGHT);
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
        note!("{name} has been rewritten; look at the change before you keep it");
    }
    Ok(match (report.broken().is_empty(), report.wrong()) {
        (false, _) => UNUSABLE,
        (true, 0) => RIGHT,
        (true, _) => WRONG,
    })
}

/// The plugin that is tested.
fn load(arguments: &Test) -> Result<PluginUnderTest> {
    let file = under_test(arguments)?;
    if arguments.plugin.is_none() {
        tell_of_newer_sources(folder(&arguments.what), &file);
    }
    let _notice = ProgressNotice::while_compiling(&file);
    Ok(PluginUnderTest::load(&file, crate::code_folder().as_deref())?)
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

/// Who changes a source and forgets to build would test what was there before.
fn tell_of_newer_sources(folder: &Path, component: &Path) {
    if let Some(source) = keepgate_builder::plugin::newer_source(folder, component) {
        let (component, source, folder) = (component.display(), source.display(), folder.display());
        note!(
            "{component} was built before {source} was changed: `keepgate plugin build {folder}`"
        );
    }
}

/// A recording as cases. The plugin is called as its file is, as in the gateway's configuration.
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

/// Says what is wrong with case files.
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

/// The component that is meant: the file, or the one in the folder, preferably of its name.
fn component(what: &Path) -> Result<PathBuf> {
    if !what.is_dir() {
        return Ok(what.to_owned());
    }
    let name = what.canonicalize().with_context(|| what.display().to_string())?;
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named = what.join(format!("{name}.wasm"));
    if named.is_file() {
        return Ok(named);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(what)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            found.push(path);
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!(
            "there is no component in {}: run `keepgate plugin build {}`, or name one with --plugin",
            what.display(),
            what.display()
        ),
        _ => bail!("there are several components in {}: name one with --plugin", what.display()),
    }
}

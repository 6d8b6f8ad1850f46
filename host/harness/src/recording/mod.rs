//! Turns a recording (`keepgate serve --record`) into cases: each exchange becomes a step. `world.toml`
//! beside the exchanges says what the store held before; without it, the store is empty. The result is the
//! text of an ordinary case file, so it can also be kept and edited.
//!
//! `docs/src/recording.md` describes the format of exchanges and what cannot be replayed. Keep it, this file
//! and `host/http/src/recording/document.rs`, which writes exchanges, in step.

mod exchange;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use toml::{Table, Value};

use crate::case::{Broken, CaseFile};
use exchange::Exchange;

/// The world before the recording, in the form of a case file's `world`.
const WORLD: &str = "world.toml";
/// What a recording does not contain and a case must therefore not check.
const ALLOWED: [&str; 5] = ["blobs", "jobs", "log", "faults", "calls"];

/// A recording that can be replayed.
#[derive(Debug)]
pub struct Recording {
    /// The cases, one for each mount.
    pub cases: CaseFile,
    /// Exchanges that cannot be replayed, each with the reason.
    pub left_out: Vec<String>,
    /// The text of the case file.
    text: String,
    folder: PathBuf,
}

impl Recording {
    /// Reads the exchanges of a plugin, by its name in the gateway's configuration, from a folder.
    ///
    /// # Errors
    ///
    /// [`Broken`] if a file is not an exchange, or none belongs to this plugin.
    pub fn read(folder: &Path, plugin: &str) -> Result<Self, Broken> {
        let (mut mounts, mut others) = (BTreeMap::<String, Vec<Exchange>>::new(), Vec::new());
        for file in files(folder).map_err(|error| Broken::new(folder, error.to_string()))? {
            let exchange = Exchange::read(&file)?;
            if exchange.plugin() == plugin {
                mounts.entry(exchange.mount().to_owned()).or_default().push(exchange);
            } else if !others.iter().any(|other| other == exchange.plugin()) {
                others.push(exchange.plugin().to_owned());
            }
        }
        if mounts.is_empty() {
            let others = match others.as_slice() {
                [] => "the folder contains no exchanges".to_owned(),
                others => format!("the folder has exchanges of {}", others.join(", ")),
            };
            return Err(Broken::new(folder, format!("no exchange of plugin {plugin}: {others}")));
        }
        let mut left_out = Vec::new();
        let cases = mounts.iter().filter_map(|(mount, all)| case(mount, all, &mut left_out));
        let cases: Vec<_> = cases.map(Value::Table).collect();
        if cases.is_empty() {
            let message = format!("nothing can be replayed:\n{}", left_out.join("\n"));
            return Err(Broken::new(folder, message));
        }
        let mut file = Table::new();
        file.insert("about".to_owned(), about(plugin, &mounts).into());
        file.insert("case".to_owned(), cases.into());
        if let Some(world) = world(&folder.join(WORLD))? {
            file.insert("world".to_owned(), world.into());
        }
        let text = toml::to_string(&file);
        let text = text.map_err(|error| Broken::new(folder, error.to_string()))?;
        // Any error is in `world.toml`, because the rest was generated here.
        let cases = CaseFile::parse(&text, &folder.join("case.toml"))
            .map_err(|broken| Broken::new(&folder.join(WORLD), broken.message))?;
        Ok(Self { cases, left_out, text, folder: folder.to_owned() })
    }

    /// Writes the cases and the bodies that they name to a new folder.
    ///
    /// # Errors
    ///
    /// If the folder exists, or a file cannot be written.
    pub fn save(&self, into: &Path) -> std::io::Result<()> {
        if let Some(parent) = into.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::create_dir(into)?;
        for file in bodies(&self.text) {
            std::fs::copy(self.folder.join(&file), into.join(&file))?;
        }
        std::fs::write(into.join("case.toml"), &self.text)
    }
}

/// The files of exchanges, in the order of their numbers.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let numbered = name.starts_with(|first: char| first.is_ascii_digit());
        if numbered && name.ends_with(".toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn world(file: &Path) -> Result<Option<Table>, Broken> {
    match std::fs::read_to_string(file) {
        Ok(text) => text
            .parse()
            .map(Some)
            .map_err(|error: toml::de::Error| Broken::new(file, error.message())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Broken::new(file, error.to_string())),
    }
}

fn about(plugin: &str, mounts: &BTreeMap<String, Vec<Exchange>>) -> String {
    let count: usize = mounts.values().map(Vec::len).sum();
    let first = mounts.values().flatten().map(Exchange::time).min();
    let first = first.and_then(written).map(|time| format!(" from {time} on"));
    let first = first.unwrap_or_default();
    format!("{count} exchanges with {plugin}, recorded{first}")
}

/// A time in the format of case files; `None` if it cannot be expressed.
fn written(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| time.to_string())
}

/// The case for one mount; `None` if none of its exchanges can be replayed.
fn case(mount: &str, exchanges: &[Exchange], left_out: &mut Vec<String>) -> Option<Table> {
    let mut steps: Vec<Value> = Vec::new();
    let mut unknown: Vec<&str> = Vec::new();
    let mut clock = exchanges.iter().map(Exchange::time).min();
    let start = clock;
    for exchange in exchanges {
        let reason = exchange.obstacle().or_else(|| {
            let depends = unknown.iter().any(|path| shows(exchange.path(), path));
            depends.then(|| "its reply depends on a request that was left out".to_owned())
        });
        if let Some(reason) = reason {
            if exchange.changes() {
                unknown.push(exchange.path());
            }
            left_out.push(format!("{}: {reason}", exchange.name()));
            continue;
        }
        let mut step = exchange.step();
        if let Some(last) = clock
            && let Ok(passed) = exchange.time().duration_since(last)
            && !passed.is_zero()
        {
            step.insert("advance".to_owned(), format!("{}us", passed.as_micros()).into());
            clock = Some(exchange.time());
        }
        steps.push(step.into());
    }
    let mut case = Table::new();
    let name = mount.trim_matches('/').replace('/', "-");
    let name = if name.is_empty() { "recorded".to_owned() } else { format!("recorded-{name}") };
    case.insert("name".to_owned(), name.into());
    case.insert("allow".to_owned(), ALLOWED.map(Value::from).to_vec().into());
    if let Some(start) = start.and_then(written) {
        let world = Table::from_iter([("clock".to_owned(), start.into())]);
        case.insert("world".to_owned(), world.into());
    }
    let any = !steps.is_empty();
    case.insert("step".to_owned(), steps.into());
    any.then_some(case)
}

/// Whether the reply for path `asked` depends on what is stored at `changed`: they are the same, or `asked`
/// is a folder above it.
fn shows(asked: &str, changed: &str) -> bool {
    asked == changed || (asked.ends_with('/') && changed.starts_with(asked))
}

/// The files that the cases name.
fn bodies(text: &str) -> Vec<String> {
    let Ok(table) = text.parse::<Table>() else { return Vec::new() };
    let steps = table.get("case").and_then(Value::as_array).into_iter().flatten();
    let steps = steps.filter_map(|case| case.get("step")?.as_array()).flatten();
    let file = |body: Option<&Value>| Some(body?.get("file")?.as_str()?.to_owned());
    steps
        .flat_map(|step| {
            [file(step.get("body")), file(step.get("expect").and_then(|e| e.get("body")))]
        })
        .flatten()
        .collect()
}

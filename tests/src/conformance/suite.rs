//! The cases, read and spread out: a case with several values or folders becomes several. The
//! stock ones are part of the program, so that it can be carried to where a server is.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::conformance::case::{Case, Each, Shared, Topic};
use crate::conformance::fill::{Bodies, Body, Values};

macro_rules! topics {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../conformance/cases/", $name, ".toml")))),*]
    };
}

const BODIES: &str = include_str!("../../conformance/bodies.toml");
/// A new topic is a file and a word here.
const TOPICS: &[(&str, &str)] = topics![
    "append-only",
    "authentication",
    "config",
    "create",
    "delete",
    "download",
    "layout",
    "lists",
    "locks",
    "log",
    "methods",
    "metrics",
    "paths",
    "private",
    "proxy",
    "quota",
    "ranges",
    "refusals",
    "start",
    "tls",
    "upload",
    "wire",
];

/// A case with its values: what is run.
#[derive(Clone, Debug)]
pub struct Single {
    /// Topic, name and value.
    pub name: String,
    /// As it was written.
    pub case: Arc<Case>,
    /// The repository's folder, `{unique}` not yet filled.
    pub at: String,
    /// Bodies, and those of `each`.
    pub values: Values,
}

impl Single {
    /// Whether the case needs a server that nobody else has used.
    pub fn is_alone(&self) -> bool {
        self.case.fresh || self.at.is_empty() || !self.case.preload.is_empty()
    }

    /// Whether the case can only be run where servers are started for it, and not on one that
    /// serves already.
    pub fn needs_start(&self) -> bool {
        let Case { flags, users, refuses, says, steps, .. } = &*self.case;
        let touches = steps.iter().any(|step| step.signal.is_some() || !step.write.is_empty());
        self.is_alone()
            || touches
            || !flags.is_empty()
            || users.is_some()
            || refuses.is_some()
            || !says.is_empty()
    }

    /// Whether the case puts files where the server has its data, so that it has to be reached.
    pub fn needs_folder(&self) -> bool {
        let placing = |step: &crate::conformance::case::Step| {
            !step.place.is_empty() || !step.remove.is_empty()
        };
        !self.case.place.is_empty() || self.case.steps.iter().any(placing)
    }
}

/// The stock cases.
pub fn stock() -> Result<Vec<Single>, String> {
    read(BODIES, TOPICS.iter().map(|(name, text)| (name.to_string(), text.to_string())))
}

/// The cases of a folder that is made like `tests/conformance`.
pub fn folder(path: &Path) -> Result<Vec<Single>, String> {
    let text = |file: &Path| {
        std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
    };
    let cases = path.join("cases");
    let entries = cases.read_dir().map_err(|error| format!("{}: {error}", cases.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut topics = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        topics.push((name, text(&file)?));
    }
    read(&text(&path.join("bodies.toml"))?, topics)
}

/// Reads TOML, and says which field of which table is wrong.
pub(crate) fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, String> {
    let deserializer =
        toml::Deserializer::parse(text).map_err(|error| format!("{name}: {error}"))?;
    serde_path_to_error::deserialize(deserializer)
        .map_err(|error| format!("{name}: at {}: {}", error.path(), error.inner()))
}

fn read(
    shared: &str,
    topics: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<Single>, String> {
    let shared: Shared = parse("bodies.toml", shared)?;
    let made = |sources: &std::collections::BTreeMap<_, _>| {
        sources
            .iter()
            .map(|(name, source): (&String, _)| (name.clone(), Body::of(source)))
            .collect::<Bodies>()
    };
    let shared = made(&shared.bodies);
    let (mut all, mut names) = (Vec::new(), BTreeSet::new());
    for (name, text) in topics {
        let topic: Topic = parse(&format!("{name}.toml"), &text)?;
        let mut bodies = shared.clone();
        bodies.extend(made(&topic.bodies));
        for case in topic.cases {
            spread(&name, case, &bodies, &mut all)?;
        }
    }
    for Single { name, .. } in &all {
        if !names.insert(name) {
            return Err(format!("two cases are called {name}"));
        }
    }
    Ok(all)
}

fn spread(topic: &str, case: Case, bodies: &Bodies, all: &mut Vec<Single>) -> Result<(), String> {
    let case = Arc::new(case);
    let name = format!("{topic}/{}", case.name);
    if case.steps.is_empty() && case.refuses.is_none() && case.says.is_empty() {
        return Err(format!("{name}: a case without steps says nothing"));
    }
    let plain = Values { bodies: bodies.clone(), ..Values::default() };
    let mut spread = Vec::new();
    for (label, each) in &case.each {
        let mut values = plain.clone();
        match each {
            Each::One(value) => values.set("each", value.text()),
            Each::Several(several) => {
                for (key, value) in several {
                    values.set(key, value.text());
                }
            }
        }
        spread.push((format!("{name}/{label}"), values));
    }
    if case.each.is_empty() {
        spread.push((name, plain));
    }
    for at in &case.at {
        for (name, values) in &spread {
            let name = match (case.at.len(), at.as_str()) {
                (1, _) => name.clone(),
                (_, "") => format!("{name}/at-the-top"),
                (_, at) if at.contains('/') => format!("{name}/two-folders"),
                _ => format!("{name}/one-folder"),
            };
            let (case, at, values) = (case.clone(), at.clone(), values.clone());
            all.push(Single { name, case, at, values });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_stock_cases_are_those_of_the_folder() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance");
        let names =
            |cases: Vec<Single>| cases.into_iter().map(|case| case.name).collect::<BTreeSet<_>>();
        assert_eq!(names(stock().unwrap()), names(folder(&path).unwrap()));
    }

    #[test]
    fn a_mistake_is_said_with_its_place() {
        let bodies = "[bodies]\nabc = \"abc\"\n";
        let error = |text: &str| read(bodies, [("topic".to_owned(), text.to_owned())]).unwrap_err();
        let head = "about = \"x\"\n[[case]]\nname = \"x\"\nwhy = \"y\"\n";
        assert!(error(head).contains("topic/x"));
        let wrong = error(&format!("{head}steps = [{{ sned = \"GET /\" }}]"));
        assert!(wrong.contains("topic.toml") && wrong.contains("sned"), "{wrong}");
        let step = "steps = [{ send = \"GET /\" }]\n";
        let twice = error(&format!("{head}{step}[[case]]\nname = \"x\"\nwhy = \"y\"\n{step}"));
        assert!(twice.contains("two cases"), "{twice}");
    }
}

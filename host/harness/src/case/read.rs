//! Finds and reads case files. Errors have the file, line and column.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::surface::SURFACE;
use super::{Case, Content, Short, Surface, World};

/// A case file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// The subject of the cases.
    pub about: Option<String>,
    /// Named bytes.
    #[serde(default)]
    pub bodies: BTreeMap<String, Short<Content>>,
    /// The initial state of each case.
    #[serde(default)]
    pub world: World,
    /// The cases, which are independent of each other.
    #[serde(rename = "case")]
    pub cases: Vec<Case>,
    /// The file's path.
    #[serde(skip)]
    pub path: PathBuf,
    /// The prefix of the cases' names.
    #[serde(skip)]
    pub topic: String,
    /// What the case shares with the files beside it.
    #[serde(skip)]
    pub surface: Arc<Surface>,
    #[serde(skip)]
    pub(crate) text: String,
}

/// An error in a case file, with its position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Broken {
    /// The file.
    pub file: PathBuf,
    /// Line and column, from 1. `None` if the error is about the whole file.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Broken {
    pub(crate) fn new(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: None, message: message.into() }
    }
}

impl CaseFile {
    /// Parses the text of this file.
    ///
    /// # Errors
    ///
    /// [`Broken`] with line and column.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Broken> {
        let mut file: Self = toml::from_str(text).map_err(|error| Broken {
            file: path.to_owned(),
            place: error.span().map(|span| place(text, span.start)),
            message: error.message().trim().to_owned(),
        })?;
        file.path = path.to_owned();
        file.topic = topic(path);
        file.text = text.to_owned();
        let mut names = BTreeSet::new();
        for case in &file.cases {
            let name = case.name.get_ref();
            if !names.insert(name) {
                return Err(file.broken(case, format!("another case has the name {name:?}")));
            }
            let nothing =
                case.steps.is_empty() && case.refuses.is_none() && case.server.says.is_empty();
            if nothing || (!case.steps.is_empty() && case.refuses.is_some()) {
                let message = "a case has steps (`[[case.step]]`), or the settings are refused \
                               (`refuses = …`)";
                return Err(file.broken(case, message.to_owned()));
            }
        }
        Ok(file)
    }

    /// Sets the surface that this file shares with others.
    #[must_use]
    pub fn with_surface(self, surface: Arc<Surface>) -> Self {
        Self { surface, ..self }
    }

    /// The names of the cases as they run: a case with several values or folders counts as several.
    pub fn names(&self) -> Vec<String> {
        super::spread(self).into_iter().map(|single| single.name).collect()
    }

    /// An error in a case of this file.
    pub(crate) fn broken(&self, case: &Case, message: String) -> Broken {
        let place = place(&self.text, case.name.span().start);
        Broken { file: self.path.clone(), place: Some(place), message }
    }

    /// The line of a case, from 1.
    pub(crate) fn line(&self, index: usize) -> usize {
        self.cases.get(index).map_or(1, |case| place(&self.text, case.name.span().start).0)
    }

    /// The folder in which `file = …` is looked up.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }
}

impl Surface {
    /// Parses the text of this file.
    ///
    /// # Errors
    ///
    /// [`Broken`] with line and column.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Broken> {
        toml::from_str(text).map_err(|error| Broken {
            file: path.to_owned(),
            place: error.span().map(|span| place(text, span.start)),
            message: error.message().trim().to_owned(),
        })
    }

    /// Reads the file at the top of a folder of cases, or beside a case file. Returns an empty surface if
    /// there is no file.
    fn beside(path: &Path) -> Result<Self, Broken> {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let file = folder.join(SURFACE);
        match std::fs::read_to_string(&file) {
            Ok(text) => Self::parse(&text, &file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Broken::new(&file, error.to_string())),
        }
    }
}

/// Reads one file, or all `*.toml` below a folder in the order of their names, together with the
/// `surface.toml` at the top of the folder.
///
/// # Errors
///
/// All errors in all files.
pub fn read(path: &Path) -> Result<Vec<CaseFile>, Vec<Broken>> {
    let mut found = Vec::new();
    find(path, &mut found).map_err(|error| vec![Broken::new(path, error.to_string())])?;
    found.sort();
    let surface = Arc::new(Surface::beside(path).map_err(|broken| vec![broken])?);
    let (mut files, mut broken) = (Vec::new(), Vec::new());
    for path in found {
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| Broken::new(&path, error.to_string()));
        match text.and_then(|text| CaseFile::parse(&text, &path)) {
            Ok(file) => files.push(file.with_surface(surface.clone())),
            Err(error) => broken.push(error),
        }
    }
    if broken.is_empty() && files.is_empty() {
        broken.push(Broken::new(path, "no cases: no file ends with `.toml`"));
    }
    if broken.is_empty() { Ok(files) } else { Err(broken) }
}

fn find(path: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !path.is_dir() {
        std::fs::metadata(path)?;
        found.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        let is_cases = path.extension().is_some_and(|extension| extension == "toml")
            && path.file_name().is_some_and(|name| name != SURFACE);
        if path.is_dir() || is_cases {
            find(&path, found)?;
        }
    }
    Ok(())
}

/// The topic of a file: its name, or for a `case.toml` the name of its folder.
fn topic(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = path.parent().and_then(Path::file_name);
    match folder {
        Some(folder) if stem == "case" => folder.to_string_lossy().into_owned(),
        _ => stem.into_owned(),
    }
}

/// Line and column, from 1, for an offset in bytes.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(text: &str) -> String {
        CaseFile::parse(text, Path::new("a/b.toml")).unwrap_err().to_string()
    }

    #[test]
    fn mistakes_have_their_place() {
        let case = "[[case]]\nname = \"x\"\n";
        let step = "[[case]]\nname = \"x\"\n[[case.step]]\nsend = \"GET /\"\n";
        for (text, expected) in [
            (format!("{case}stepp = 1\n"), "a/b.toml:3:1: unknown field `stepp`"),
            (case.to_owned(), "a/b.toml:2:8: a case has steps"),
            (
                step.replace("GET /", "GET"),
                "a/b.toml:4:8: expected a request such as \"GET /path\", found \"GET\"",
            ),
            (
                format!("{step}advance = \"soon\"\n"),
                "a/b.toml:5:11: expected a duration such as \"90s\" or \"2h\", found \"soon\"",
            ),
            (format!("{step}expect.stat = 3\n"), "a/b.toml:5:8: unknown field `stat`"),
            (format!("{step}expect.status = \"x\"\n"), "a/b.toml:5:17: invalid type"),
            (format!("{step}expect.broken = \"(\"\n"), "a/b.toml:5:17: regex parse error"),
            (format!("{step}body = {{ textt = \"x\" }}\n"), "a/b.toml:5:10: unknown field `textt`"),
            (format!("{step}expect.body.json = \"{{\"\n"), "a/b.toml:5:20: expected JSON: "),
            (
                format!("world.clock = \"now\"\n{step}"),
                "a/b.toml:1:15: expected a time such as \"2026-01-31T23:59:58Z\", found \"now\"",
            ),
            (format!("{step}{step}"), "a/b.toml:6:8: another case"),
            ("case = [\n".to_owned(), "a/b.toml:1:9: unclosed array"),
        ] {
            let said = broken(&text);
            assert!(said.starts_with(expected), "{text}\n{said}\n{expected}");
        }
    }

    #[test]
    fn a_folder_with_a_case_is_called_like_the_folder() {
        assert_eq!(topic(Path::new("cases/upload.toml")), "upload");
        assert_eq!(topic(Path::new("cases/big-upload/case.toml")), "big-upload");
    }
}

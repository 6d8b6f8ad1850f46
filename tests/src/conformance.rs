//! The cases of restic's REST backend (`tests/conformance`), as part of the program, so that it can be carried to
//! where a server is. The case engine that plays them is `keepgate-harness`.

use std::path::Path;
use std::sync::Arc;

use keepgate_harness::case::{Broken, CaseFile, Surface, read};
use keepgate_harness::{Differences, Report, RunOptions, Target, run_against};

macro_rules! topics {
    ($($name:literal),* $(,)?) => {
        &[$((concat!($name, ".toml"), include_str!(concat!("../conformance/cases/", $name, ".toml")))),*]
    };
}

const SURFACE: &str = include_str!("../conformance/cases/surface.toml");
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

/// The cases that are part of the program.
pub fn stock() -> Result<Vec<CaseFile>, String> {
    let wrong = |broken: Broken| broken.to_string();
    let surface = Surface::parse(SURFACE, Path::new("surface.toml")).map_err(wrong)?;
    let surface = Arc::new(surface);
    let file = |(name, text): &(&str, &str)| {
        let file = CaseFile::parse(text, Path::new(name)).map_err(wrong)?;
        Ok(file.with_surface(surface.clone()))
    };
    TOPICS.iter().map(file).collect()
}

/// The cases of a folder that is made like `tests/conformance/cases`.
pub fn folder(path: &Path) -> Result<Vec<CaseFile>, String> {
    read(path).map_err(|broken| broken.iter().map(Broken::to_string).collect::<Vec<_>>().join("\n"))
}

/// Plays the cases whose names fit `only` against a target, `jobs` servers at a time.
pub fn play(
    cases: &[CaseFile],
    target: &Target<'_>,
    differences: Option<Differences>,
    only: Option<&str>,
    jobs: usize,
) -> Result<Report, String> {
    let unknown = differences.iter().flat_map(|differences| differences.unknown(cases));
    let unknown: Vec<_> = unknown.collect();
    if !unknown.is_empty() {
        return Err(format!("the differences name cases that do not exist: {unknown:?}"));
    }
    let options = RunOptions { filter: only.map(str::to_owned), threads: jobs.max(1), differences };
    let report = run_against(target, cases, &options);
    if report.ran.is_empty() && report.skipped.is_empty() {
        return Err("no case has such a name; --list prints all".to_owned());
    }
    Ok(report)
}

/// Whether every case that was played is right, or different as listed.
pub fn is_right(report: &Report) -> bool {
    report.wrong() == 0 && report.broken().is_empty()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_stock_cases_are_those_of_the_folder() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance/cases");
        let names = |files: Vec<CaseFile>| {
            let names = files.iter().flat_map(CaseFile::names).collect::<Vec<_>>();
            assert_eq!(names.len(), 733, "the count in tests/e2e/conformance.rs and README too");
            names
        };
        assert_eq!(names(stock().unwrap()), names(folder(&path).unwrap()));
    }
}

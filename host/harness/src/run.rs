//! Running the cases of files, several at a time, and what came of all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::case::{Broken, CaseFile, read};
use crate::mismatch::{Mismatch, updated};
use crate::play::{Outcome, play};
use crate::plugin::PluginUnderTest;

/// How cases are run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Only cases whose name, `FILE/CASE`, contains this.
    pub filter: Option<String>,
    /// Threads; 0: as many as the machine has.
    pub threads: usize,
}

/// One case and what came of it.
#[derive(Clone, Debug)]
pub struct Ran {
    /// `FILE/CASE`.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// Of the case in its file, from 1.
    pub line: usize,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// What came of all cases, in their order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Each case that was run.
    pub ran: Vec<Ran>,
    /// Cases that the filter left out.
    pub left_out: usize,
    /// From the first to the last.
    pub took: Duration,
}

impl Report {
    /// Cases that came out as expected.
    pub fn right(&self) -> usize {
        self.ran.iter().filter(|ran| matches!(ran.outcome, Outcome::Right)).count()
    }

    /// Cases that did not.
    pub fn wrong(&self) -> usize {
        self.ran.iter().filter(|ran| matches!(ran.outcome, Outcome::Wrong(..))).count()
    }

    /// Cases that could not be played.
    pub fn broken(&self) -> Vec<&Broken> {
        let broken = |ran: &Ran| matches!(ran.outcome, Outcome::Broken(_));
        let all = self.ran.iter().filter(|ran| broken(ran));
        all.filter_map(
            |ran| if let Outcome::Broken(broken) = &ran.outcome { Some(broken) } else { None },
        )
        .collect()
    }
}

/// Runs all cases of these files that the filter takes.
pub fn run(plugin: &PluginUnderTest, files: &[CaseFile], options: &RunOptions) -> Report {
    let mut wanted = Vec::new();
    let mut left_out = 0;
    for file in files {
        for (index, case) in file.cases.iter().enumerate() {
            let name = format!("{}/{}", file.topic, case.name.get_ref());
            match &options.filter {
                Some(filter) if !name.contains(filter.as_str()) => left_out += 1,
                _ => wanted.push((name, file, index)),
            }
        }
    }
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let begun = Instant::now();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(wanted.len()) {
            scope.spawn(|| {
                while let Some((number, (name, file, index))) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    wanted.get(number).map(|wanted| (number, wanted))
                } {
                    let ran = run_one(plugin, name, file, *index);
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(number, ran);
                }
            });
        }
    });
    let ran = done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect();
    Report { ran, left_out, took: begun.elapsed() }
}

fn run_one(plugin: &PluginUnderTest, name: &str, file: &CaseFile, index: usize) -> Ran {
    let begun = Instant::now();
    let outcome = play(plugin, file, index);
    let line = file.line(index);
    Ran { name: name.to_owned(), file: file.path.clone(), line, outcome, took: begun.elapsed() }
}

/// Rounds of an update: a step that fails hides those behind it.
const ROUNDS: usize = 100;

/// Runs the cases of a file or folder, writes into them what came in the place of what was expected,
/// and runs them again, until nothing is left that can be written. The last report, and the names of
/// the cases that were rewritten.
///
/// # Errors
///
/// Files that are broken, or cannot be written.
pub fn run_and_update(
    plugin: &PluginUnderTest,
    cases: &Path,
    options: &RunOptions,
) -> Result<(Report, BTreeSet<String>), Vec<Broken>> {
    let mut rewritten = BTreeSet::new();
    let mut report = run(plugin, &read(cases)?, options);
    for _ in 0..ROUNDS {
        let changed = update(&report).map_err(|broken| vec![broken])?;
        if changed.is_empty() {
            break;
        }
        rewritten.extend(changed);
        report = run(plugin, &read(cases)?, options);
    }
    Ok((report, rewritten))
}

/// Writes into the files what came, in the place of what was expected, wherever that can be said in
/// a case; the names of the cases that were changed.
fn update(report: &Report) -> Result<BTreeSet<String>, Broken> {
    let mut by_file = BTreeMap::<&PathBuf, Vec<&Mismatch>>::new();
    let mut cases = BTreeSet::new();
    for ran in &report.ran {
        if let Outcome::Wrong(wrong, _) = &ran.outcome {
            let can: Vec<_> = wrong.iter().filter(|mismatch| mismatch.is_updatable()).collect();
            if can.is_empty() {
                continue;
            }
            cases.insert(ran.name.clone());
            by_file.entry(&ran.file).or_default().extend(can);
        }
    }
    for (path, wrong) in by_file {
        let broken = |message: String| Broken::new(path, message);
        let text = std::fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
        let text = updated(&text, &wrong).map_err(broken)?;
        std::fs::write(path, text).map_err(|error| broken(error.to_string()))?;
    }
    Ok(cases)
}

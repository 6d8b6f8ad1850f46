//! Runs the cases of files against a target and collects the results.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::groups::{self, Group, Task};
use super::{Outcome, play_in_process};
use crate::case::{Broken, CaseFile, read, spread};
use crate::differences::{self, Differences, Verdict};
use crate::driver::in_process_lacks;
use crate::driver::socket::Server;
use crate::mismatch::{Mismatch, updated};
use crate::plugin::PluginUnderTest;

/// Options of a run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Only cases whose name (`FILE/CASE`) contains this text, or matches it if it contains `*`.
    pub filter: Option<String>,
    /// The number of threads, and of servers started at the same time; 0 for one per processor.
    pub threads: usize,
    /// Known differences of the server.
    pub differences: Option<Differences>,
}

/// What cases run against.
#[derive(Debug)]
pub enum Target<'a> {
    /// A plugin in this process.
    Plugin(&'a PluginUnderTest),
    /// A server that runs already.
    Running(&'a Server),
    /// Servers that this command line, with `{flags}` and `{path}`, starts.
    Start(&'a str),
}

/// A case that has run.
#[derive(Clone, Debug)]
pub struct Ran {
    /// `FILE/CASE`.
    pub name: String,
    /// The path of its file.
    pub file: PathBuf,
    /// The line of the case in its file, from 1.
    pub line: usize,
    /// The promise that the case checks.
    pub why: Option<String>,
    /// The outcome.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// A case that cannot run against the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// `FILE/CASE`.
    pub name: String,
    /// What the case needs that the target does not have.
    pub why: String,
}

/// The results of all cases, in order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// All cases that have run.
    pub ran: Vec<Ran>,
    /// Cases that cannot run against the target.
    pub skipped: Vec<Skipped>,
    /// Cases that ran, but whose final state is not visible over a socket.
    pub unseen: usize,
    /// Cases that the filter excludes.
    pub left_out: usize,
    /// Requests that were repeated because the server reset the connection before the reply was read.
    pub repeated: usize,
    /// Whether the cases ran against a server over a socket.
    pub is_over_socket: bool,
    /// The duration of the whole run.
    pub took: Duration,
}

impl Report {
    fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.ran.iter().filter(|ran| is(&ran.outcome)).count()
    }

    /// The number of cases that passed.
    pub fn right(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Right))
    }

    /// The number of cases that failed.
    pub fn wrong(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Wrong(..)))
    }

    /// The number of cases that differ as listed.
    pub fn known(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Known(_)))
    }

    /// Cases that could not run.
    pub fn broken(&self) -> Vec<&Broken> {
        self.ran
            .iter()
            .filter_map(|ran| match &ran.outcome {
                Outcome::Broken(broken) => Some(broken),
                _ => None,
            })
            .collect()
    }
}

/// Runs all cases of these files that the filter selects, with a plugin in this process.
pub fn run(plugin: &PluginUnderTest, files: &[CaseFile], options: &RunOptions) -> Report {
    run_against(&Target::Plugin(plugin), files, options)
}

/// Runs all cases of these files that the filter selects, against a target.
pub fn run_against(target: &Target<'_>, files: &[CaseFile], options: &RunOptions) -> Report {
    let mut report = Report::default();
    let mut tasks = Vec::new();
    for file in files {
        for single in spread(file) {
            let Some(case) = file.cases.get(single.index) else { continue };
            let filter = options.filter.as_deref();
            if filter.is_some_and(|filter| !differences::is_meant(filter, &single.name)) {
                report.left_out += 1;
                continue;
            }
            tasks.push(Task { number: tasks.len(), file, case, single });
        }
    }
    let begun = Instant::now();
    let mut groups = Vec::new();
    for task in tasks {
        let lacks = match target {
            Target::Plugin(_) => {
                in_process_lacks(task.case, &task.file.world.with(&task.case.world))
            }
            Target::Running(server) => groups::lacks(&task, Some(server)),
            Target::Start(_) => groups::lacks(&task, None),
        };
        match lacks {
            Some(why) => report.skipped.push(Skipped { name: task.single.name, why }),
            None => groups.push(Group::of(task)),
        }
    }
    let unseen = |group: &Group<'_>| group.tasks.iter().any(|task| task.case.after.looks_inside());
    report.is_over_socket = !matches!(target, Target::Plugin(_));
    if report.is_over_socket {
        report.unseen = groups.iter().filter(|group| unseen(group)).count();
    }
    let threads = match (target, options.threads) {
        (Target::Running(_), _) => 1,
        (_, 0) => std::thread::available_parallelism().map_or(1, usize::from),
        (_, threads) => threads,
    };
    let repeats = options.differences.as_ref().map_or(0, |known| known.repeats_after_a_reset);
    let outcomes = match target {
        Target::Plugin(plugin) => groups::work(groups, threads, |group| {
            let play = |task: &Task<'_>| {
                task.ran(|| play_in_process(plugin, task.file, task.case, &task.single))
            };
            group.tasks.iter().map(play).collect()
        }),
        Target::Running(server) => {
            groups::work(groups::together(groups), threads, |group| group.on(server, repeats))
        }
        Target::Start(template) => match groups::by_kind(groups) {
            Ok(groups) => groups::work(groups, threads, |group| group.start(template, repeats)),
            Err(ran) => vec![*ran],
        },
    };
    for done in outcomes {
        report.repeated += done.repeated;
        report.ran.push(done.ran);
    }
    if let Some(known) = &options.differences {
        report.ran.iter_mut().for_each(|ran| judge(ran, known));
    }
    report.took = begun.elapsed();
    report
}

/// Applies the known differences to an outcome.
fn judge(ran: &mut Ran, known: &Differences) {
    let failure = match &ran.outcome {
        Outcome::Right => None,
        Outcome::Wrong(wrong, _) => wrong.first(),
        Outcome::Known(_) | Outcome::Broken(_) => return,
    };
    let verdict = known.judge(&ran.name, failure.map(|mismatch| mismatch.got.as_str()));
    match verdict {
        Verdict::AsItIs => {}
        Verdict::Known(does) => ran.outcome = Outcome::Known(does),
        Verdict::Unexpected(text) => {
            let mismatch = Mismatch::new("difference", text);
            match &mut ran.outcome {
                Outcome::Wrong(wrong, _) => wrong.push(mismatch),
                outcome => *outcome = Outcome::Wrong(vec![mismatch], Vec::new()),
            }
        }
    }
}

/// The maximum number of rounds of an update. A step that fails hides those after it.
const ROUNDS: usize = 100;

/// Runs the cases of a file or folder, replaces their expectations with the actual results, and repeats this
/// until nothing changes. Returns the last report and the names of the changed cases.
///
/// # Errors
///
/// If files are invalid or cannot be written.
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

/// Writes the actual results to the files where a case can express them. Returns the names of the changed
/// cases.
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

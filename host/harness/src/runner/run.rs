//! Runs the cases of files against a target, and what came of all of them.

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

/// How cases are run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Only cases whose name, `FILE/CASE`, contains this; with `*` in it, cases whose whole name it fits.
    pub filter: Option<String>,
    /// Threads; 0: as many as the machine has. Servers are started as many at a time.
    pub threads: usize,
    /// Where a server is known to differ.
    pub differences: Option<Differences>,
}

/// What cases are played against.
#[derive(Debug)]
pub enum Target<'a> {
    /// A plugin in this process.
    Plugin(&'a PluginUnderTest),
    /// A server that runs already.
    Running(&'a Server),
    /// Servers that this command line starts, with `{flags}` and `{path}` in it.
    Start(&'a str),
}

/// One case and what came of it.
#[derive(Clone, Debug)]
pub struct Ran {
    /// `FILE/CASE`.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// The line of the case in its file, from 1.
    pub line: usize,
    /// What the case promises.
    pub why: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// A case that the target cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// `FILE/CASE`.
    pub name: String,
    /// What it does or needs that the target does not have.
    pub why: String,
}

/// What came of all cases, in their order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Each case that was run.
    pub ran: Vec<Ran>,
    /// Cases that the target cannot be asked.
    pub skipped: Vec<Skipped>,
    /// Cases that were played, but whose state in the end cannot be seen over a socket.
    pub unseen: usize,
    /// Cases that the filter left out.
    pub left_out: usize,
    /// Requests that were repeated because the server reset the connection before its reply was read.
    pub repeated: usize,
    /// The cases were played against a server over a socket.
    pub is_over_socket: bool,
    /// From the first to the last.
    pub took: Duration,
}

impl Report {
    fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.ran.iter().filter(|ran| is(&ran.outcome)).count()
    }

    /// Cases that came out as expected.
    pub fn right(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Right))
    }

    /// Cases that did not.
    pub fn wrong(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Wrong(..)))
    }

    /// Cases that differ as the file of differences says.
    pub fn known(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Known(_)))
    }

    /// Cases that could not be played.
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

/// Runs all cases of these files that the filter takes, with a plugin in this process.
pub fn run(plugin: &PluginUnderTest, files: &[CaseFile], options: &RunOptions) -> Report {
    run_against(&Target::Plugin(plugin), files, options)
}

/// Runs all cases of these files that the filter takes, against a target.
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

/// An outcome in the light of the differences that are known.
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

/// Rounds of an update: a step that fails hides those behind it.
const ROUNDS: usize = 100;

/// Runs the cases of a file or folder, writes what came into them in the place of what was expected, and
/// runs them again, until nothing is left that can be written. Returns the last report, and the names of the
/// cases that were rewritten.
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

/// Writes what came into the files, wherever a case can say it; the names of the cases that were changed.
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

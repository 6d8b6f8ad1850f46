//! All cases against a server, and the report. Cases that need the same flags share a server;
//! each has a repository of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::conformance::Failure;
use crate::conformance::differences::{Differences, Verdict, fits};
use crate::conformance::play::play;
use crate::conformance::server::{Kind, Server, Start};
use crate::conformance::suite::Single;

/// More cases than this get a second server, so that several work at the same time.
const AT_A_SERVER: usize = 60;

/// What the cases are held against.
#[derive(Debug)]
pub enum Target {
    /// Servers that are started by this command line.
    Start(String),
    /// One that serves already.
    Running(Box<Server>),
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// A line for each case that failed.
    pub failed: Vec<String>,
    /// Cases that are as they must be.
    pub right: usize,
    /// Cases that differ as the file of differences says.
    pub known: usize,
    /// Cases that this server cannot be asked.
    pub left_out: usize,
}

impl Report {
    /// The closing line.
    pub fn sum(&self) -> String {
        let Self { failed, right, known, left_out } = self;
        let all = failed.len() + right + known;
        let mut text = format!("{all} cases: {right} right, {} failed", failed.len());
        if *known > 0 {
            text += &format!(", {known} different as listed");
        }
        if *left_out > 0 {
            text += &format!("; {left_out} others need another server or its folder");
        }
        text
    }
}

type Outcomes = Vec<(String, Result<(), Failure>)>;

/// Runs the cases whose names fit `only`, `jobs` servers at a time.
pub fn run(
    cases: &[Single],
    target: &Target,
    differences: Option<&Differences>,
    only: Option<&str>,
    jobs: usize,
) -> Result<Report, String> {
    let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
    if let Some(differences) = differences {
        let unknown = differences.unknown(&names);
        if !unknown.is_empty() {
            return Err(format!("the differences name cases that there are not: {unknown:?}"));
        }
    }
    let mut chosen = cases.to_vec();
    chosen.retain(|case| only.is_none_or(|only| is_meant(only, &case.name)));
    if chosen.is_empty() {
        return Err("no case has such a name: --list shows them".to_owned());
    }
    let mut report = Report::default();
    let outcomes = match target {
        Target::Start(template) => on_started(template, &chosen, jobs)?,
        Target::Running(server) => {
            let before = chosen.len();
            chosen.retain(|case| {
                !case.needs_start() && (server.data.is_some() || !case.needs_folder())
            });
            report.left_out = before - chosen.len();
            in_turn(&chosen.iter().collect::<Vec<_>>(), server)
        }
    };
    let whys: BTreeMap<_, _> =
        chosen.iter().map(|case| (case.name.as_str(), case.case.why.as_str())).collect();
    for (name, outcome) in outcomes {
        let verdict = match differences {
            Some(differences) => differences.judge(&name, outcome),
            None => outcome.map_or_else(Verdict::Wrong, |()| Verdict::Right),
        };
        match verdict {
            Verdict::Right => report.right += 1,
            Verdict::Known => report.known += 1,
            Verdict::Wrong(Failure { sent, expected, got }) => {
                let why = whys.get(name.as_str()).map_or(String::new(), |why| format!(" [{why}]"));
                report.failed.push(format!(
                    "FAILED {name}: sent {sent}; expected {expected}; got {got}{why}"
                ));
            }
        }
    }
    Ok(report)
}

/// A part of the name, or with `*` the whole of it.
fn is_meant(only: &str, name: &str) -> bool {
    if only.contains('*') { fits(only, name) } else { name.contains(only) }
}

/// A name that no folder has yet.
fn unique() -> String {
    format!("conformance-{:08x}", RandomState::new().build_hasher().finish() & 0xffff_ffff)
}

fn in_turn(cases: &[&Single], server: &Server) -> Outcomes {
    let run = unique();
    (1..)
        .zip(cases)
        .map(|(number, case)| {
            let folder = format!("{run}-{number}");
            // A server that breaks HTTP so badly that the client gives up fails that case only.
            let played = catch_unwind(AssertUnwindSafe(|| play(case, server, &folder)));
            let outcome = played.unwrap_or_else(|_| {
                Err(Failure::new("a reply that is HTTP", "what the client takes for none"))
            });
            (case.name.clone(), outcome.map_err(|failure| failure.at("the case")))
        })
        .collect()
}

/// Cases that share a server.
struct Group<'a> {
    kind: Kind,
    cases: Vec<&'a Single>,
    shared: bool,
}

fn on_started(template: &str, cases: &[Single], jobs: usize) -> Result<Outcomes, String> {
    let mut shared: BTreeMap<Kind, Vec<&Single>> = BTreeMap::new();
    let mut groups = VecDeque::new();
    for case in cases {
        let kind = kind(case).map_err(|error| format!("{}: {error}", case.name))?;
        if case.is_alone() || case.case.refuses.is_some() {
            groups.push_back(Group { kind, cases: vec![case], shared: false });
        } else {
            shared.entry(kind).or_default().push(case);
        }
    }
    for (kind, cases) in shared {
        // The long ones first.
        for cases in cases.chunks(AT_A_SERVER) {
            let (kind, cases) = (kind.clone(), cases.to_vec());
            groups.push_front(Group { kind, cases, shared: true });
        }
    }
    let (queue, outcomes) = (Mutex::new(groups), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(group) = next else { break };
                    let found = group.run(template);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(outcomes)
}

fn kind(single: &Single) -> Result<Kind, String> {
    let mut values = single.values.clone();
    // These are filled when the server has its folder.
    for name in ["scratch", "data"] {
        values.set(name, format!("\u{1}{name}\u{2}"));
    }
    let (case, mut preload) = (&single.case, Vec::new());
    let fill = |text: &str| {
        let filled = values.fill(text)?;
        Ok::<_, String>(filled.replace('\u{1}', "{").replace('\u{2}', "}"))
    };
    for (name, body) in &case.preload {
        preload.push((fill(name)?, values.body(body)?.bytes.clone()));
    }
    let flags = case.flags.iter().map(|flag| fill(flag)).collect::<Result<_, _>>()?;
    let users = case.users.as_deref().map(|users| values.fill(users)).transpose()?;
    Ok(Kind { flags, users, preload })
}

impl Group<'_> {
    fn run(&self, template: &str) -> Outcomes {
        let sent = format!("the start with {}", self.kind.name());
        let all = |failure: &Failure| {
            let failure = failure.clone().at(&sent);
            self.cases.iter().map(|case| (case.name.clone(), Err(failure.clone()))).collect()
        };
        let refuses = self
            .cases
            .iter()
            .find_map(|case| case.case.refuses.as_deref().map(|pattern| (pattern, &case.values)));
        let mut start = Server::start(template, &self.kind);
        if refuses.is_some()
            && let Ok(Start::Serving(server)) = &mut start
            && let Some((success, said)) = server.ends_by_itself()
        {
            start = Ok(Start::Ended(success, said));
        }
        let server = match (start, refuses) {
            (Err(error), _) => return all(&Failure::new("a start", error)),
            (Ok(Start::Ended(success, said)), None) => {
                let how = if success { "it ended" } else { "it failed" };
                return all(&Failure::new("a server that serves", format!("{how}: {said:?}")));
            }
            (Ok(Start::Ended(success, said)), Some((pattern, values))) => {
                let fits = crate::conformance::expect::compile(pattern, values)
                    .is_ok_and(|pattern| pattern.is_match(&said));
                if fits && !success {
                    return self.cases.iter().map(|case| (case.name.clone(), Ok(()))).collect();
                }
                let expected = format!("a refusal to start like /{pattern}/");
                return all(&Failure::new(expected, format!("success {success}: {said:?}")));
            }
            (Ok(Start::Serving(server)), Some((pattern, _))) => {
                // Whether it can also be ended is another case's matter.
                let _ = server.stop();
                let expected = format!("a refusal to start like /{pattern}/");
                return all(&Failure::new(expected, "it serves"));
            }
            (Ok(Start::Serving(server)), None) => server,
        };
        let mut outcomes = in_turn(&self.cases, &server);
        if self.shared {
            let strays = strays(&server, &self.cases);
            if let Err(failure) = strays {
                outcomes.push((format!("server/strays {}", self.kind.name()), Err(failure)));
            }
        }
        if let Err(error) = server.stop() {
            let failure = Failure::new("an end without failure", error).at(&sent);
            outcomes.push((format!("server/stop {}", self.kind.name()), Err(failure)));
        }
        outcomes
    }
}

/// That no case has left anything beside its repository.
fn strays(server: &Server, cases: &[&Single]) -> Result<(), Failure> {
    let Some(data) = &server.data else { return Ok(()) };
    let entries = data.read_dir().map_err(|error| Failure::new("a folder", error.to_string()))?;
    let expected: BTreeSet<_> = cases.iter().filter_map(|case| case.at.split('/').next()).collect();
    let certificates = ["public_key", "private_key"];
    let strays: Vec<_> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            !(name.starts_with("conformance-")
                || name.starts_with('.')
                || certificates.contains(&name.as_str())
                || expected.contains(name.as_str()))
        })
        .collect();
    if strays.is_empty() {
        return Ok(());
    }
    let failure = Failure::new("nothing beside the cases' repositories", format!("{strays:?}"));
    Err(failure.at("the data folder after all cases"))
}

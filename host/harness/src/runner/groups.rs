//! Groups cases that can share a server: those that need the same flags share one, each with a repository of
//! its own. A case that needs a server to itself gets one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::run::Ran;
use super::{Outcome, play};
use crate::case::{Case, CaseFile, Pattern, Short, Single, StartRules, Values};
use crate::driver::socket::{Home, Kind, OverSocket, Server, Start};
use crate::driver::{Abilities, socket_lacks};
use crate::mismatch::Mismatch;

/// If more cases than this share a server, a second one is started to run them in parallel.
const AT_A_SERVER: usize = 60;
/// The prefix of the folders that cases create in a server's data folder.
const PREFIX: &str = "conformance-";

/// A case to run.
#[derive(Debug)]
pub(super) struct Task<'a> {
    /// Its position in the report.
    pub(super) number: usize,
    pub(super) file: &'a CaseFile,
    pub(super) case: &'a Case,
    pub(super) single: Single,
}

/// A case that has run.
#[derive(Debug)]
pub(super) struct Done {
    number: usize,
    pub(super) ran: Ran,
    pub(super) repeated: usize,
}

/// Cases that share a server.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) tasks: Vec<Task<'a>>,
    kind: Option<Kind>,
    is_shared: bool,
}

impl Task<'_> {
    /// Runs a case, and returns the outcome with its name and position.
    pub(super) fn ran(&self, play: impl FnOnce() -> Outcome) -> Done {
        let begun = Instant::now();
        let outcome = play();
        let Self { number, file, single, case } = self;
        let ran = Ran {
            name: single.name.clone(),
            file: file.path.clone(),
            line: file.line(single.index),
            why: case.why.clone(),
            outcome,
            took: begun.elapsed(),
        };
        Done { number: *number, ran, repeated: 0 }
    }

    /// Whether it needs a server that no other case uses.
    fn is_alone(&self) -> bool {
        let Case { server, refuses, .. } = self.case;
        server.fresh || self.single.at.is_empty() || !server.files.is_empty() || refuses.is_some()
    }

    /// What its server is started with.
    fn kind(&self) -> Result<Kind, String> {
        let mut values = self.single.values(self.file)?;
        // These are filled in when the server has its folders.
        for name in ["scratch", "data"] {
            values.save(name, format!("{{{name}}}"));
        }
        let server = &self.case.server;
        let mut files = Vec::new();
        for (name, Short(content)) in &server.files {
            files.push((values.fill(name)?, content.bytes(self.file.folder(), &values)?));
        }
        let flags = server.flags.iter().map(|flag| values.fill(flag));
        let flags = flags.collect::<Result<_, _>>()?;
        let users = server.users.as_deref().map(|users| values.fill(users)).transpose()?;
        Ok(Kind { flags, users, files })
    }
}

/// Why a case cannot run against a running server, or against one that is started for it.
pub(super) fn lacks(task: &Task<'_>, running: Option<&Server>) -> Option<String> {
    let abilities = match running {
        Some(server) => Abilities {
            starts: false,
            has_folder: server.data.is_some(),
            user: server.login.as_ref().and_then(|l| l.split(':').next()).map(str::to_owned),
        },
        None => Abilities { starts: true, has_folder: true, user: None },
    };
    let alone = task.single.at.is_empty() && !abilities.starts;
    let world = task.file.world.with(&task.case.world);
    let alone = alone.then(|| "needs a server of its own".to_owned());
    alone.or_else(|| socket_lacks(task.case, &world, &abilities))
}

/// Joins all cases into one group.
pub(super) fn together(groups: Vec<Group<'_>>) -> Vec<Group<'_>> {
    let tasks = groups.into_iter().flat_map(|group| group.tasks).collect();
    vec![Group { tasks, kind: None, is_shared: true }]
}

/// Joins groups that need the same kind of server. Long groups come first.
pub(super) fn by_kind(groups: Vec<Group<'_>>) -> Result<Vec<Group<'_>>, Box<Done>> {
    let mut shared: BTreeMap<Kind, Vec<Task<'_>>> = BTreeMap::new();
    let mut alone = Vec::new();
    for task in groups.into_iter().flat_map(|group| group.tasks) {
        let kind = match task.kind() {
            Ok(kind) => kind,
            Err(why) => {
                let broken = || Outcome::Broken(task.file.broken(task.case, why));
                return Err(Box::new(task.ran(broken)));
            }
        };
        if task.is_alone() {
            alone.push(Group { tasks: vec![task], kind: Some(kind), is_shared: false });
        } else {
            shared.entry(kind).or_default().push(task);
        }
    }
    let mut groups = Vec::new();
    for (kind, tasks) in shared {
        let mut tasks = VecDeque::from(tasks);
        while !tasks.is_empty() {
            let some = tasks.drain(..tasks.len().min(AT_A_SERVER)).collect();
            groups.push(Group { tasks: some, kind: Some(kind.clone()), is_shared: true });
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.tasks.len()));
    groups.extend(alone);
    Ok(groups)
}

/// Runs groups on several threads. Returns the results of all cases in the order of their files.
pub(super) fn work<'a>(
    groups: Vec<Group<'a>>,
    threads: usize,
    play: impl Fn(&Group<'a>) -> Vec<Done> + Sync,
) -> Vec<Done> {
    let threads = threads.min(groups.len());
    let (queue, done) = (Mutex::new(VecDeque::from(groups)), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(group) = next else { break };
                    let found = play(&group);
                    done.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|done| done.number);
    done
}

/// A name that no existing folder has.
fn unique() -> String {
    format!("{PREFIX}{:08x}", RandomState::new().build_hasher().finish() & 0xffff_ffff)
}

impl<'a> Group<'a> {
    /// A group of one case.
    pub(super) fn of(task: Task<'a>) -> Self {
        Self { tasks: vec![task], kind: None, is_shared: false }
    }

    fn rules(&self) -> StartRules {
        self.tasks.first().map(|task| task.file.surface.start.clone()).unwrap_or_default()
    }

    /// Runs the cases one after another against a server.
    pub(super) fn on(&self, server: &Server, repeats: usize) -> Vec<Done> {
        let run = unique();
        let play = |(number, task): (usize, &Task<'_>)| {
            let (mut repeated, unique) = (0, format!("{run}-{number}"));
            let done = task.ran(|| {
                let played = on_server(task, server, &unique, repeats, &mut repeated);
                let broken = |why| Outcome::Broken(task.file.broken(task.case, why));
                played.unwrap_or_else(broken)
            });
            Done { repeated, ..done }
        };
        (1..).zip(&self.tasks).map(play).collect()
    }

    /// Starts the server that the cases need, and runs them against it.
    pub(super) fn start(&self, template: &str, repeats: usize) -> Vec<Done> {
        let Some(kind) = &self.kind else { return Vec::new() };
        let rules = self.rules();
        let flags = kind.all_flags(&rules).join(" ");
        let all = |text: String, got: String| {
            let wrong = Mismatch::new(&format!("the start with {flags:?}"), text).got(got);
            let ran =
                |task: &Task<'_>| task.ran(|| Outcome::Wrong(vec![wrong.clone()], Vec::new()));
            self.tasks.iter().map(ran).collect::<Vec<_>>()
        };
        let refuses = self.tasks.iter().find_map(|task| Some((task, task.case.refuses.as_ref()?)));
        let mut start = Server::start(template, kind, &rules);
        if refuses.is_some()
            && let Ok(Start::Serving(server)) = &mut start
            && let Some((success, said)) = server.ends_by_itself()
        {
            start = Ok(Start::Ended(success, said));
        }
        let server = match (start, refuses) {
            (Err(error), _) => return all(error.clone(), error),
            (Ok(Start::Ended(success, said)), None) => {
                let how = if success { "it ended" } else { "it failed" };
                let got = format!("{how}: {said:?}");
                return all(format!("expected a server that serves; {got}"), got);
            }
            (Ok(Start::Ended(success, said)), Some((task, pattern))) => {
                if !success && fits(task, pattern, &said) {
                    return self.tasks.iter().map(|task| task.ran(|| Outcome::Right)).collect();
                }
                let got = format!("success {success}: {said:?}");
                return all(
                    format!("expected a refusal to start that matches `{pattern}`; {got}"),
                    got,
                );
            }
            (Ok(Start::Serving(server)), Some((_, pattern))) => {
                // Whether it stops is tested by another case.
                let _ = server.stop();
                let got = "it serves".to_owned();
                return all(
                    format!("expected a refusal to start that matches `{pattern}`; {got}"),
                    got,
                );
            }
            (Ok(Start::Serving(server)), None) => server,
        };
        let mut done = self.on(&server, repeats);
        if self.is_shared
            && let Some(strays) = self.strays(&server, &rules)
        {
            let text = format!("expected nothing outside the cases' repositories; {strays}");
            done.push(of_server("strays", &flags, text, strays));
        }
        if let Err(why) = server.stop() {
            done.push(of_server(
                "stop",
                &flags,
                format!("expected it to exit successfully; {why}"),
                why,
            ));
        }
        done
    }

    /// Files that the cases left outside their repositories.
    fn strays(&self, server: &Server, rules: &StartRules) -> Option<String> {
        let entries = match server.data.as_ref()?.read_dir() {
            Ok(entries) => entries,
            Err(error) => return Some(error.to_string()),
        };
        let mut expected: BTreeSet<&str> =
            self.tasks.iter().filter_map(|task| task.single.at.split('/').next()).collect();
        let certificates = rules.certificate.iter();
        let certificates =
            certificates.flat_map(|rules| rules.certificate.iter().chain(&rules.key));
        expected.extend(certificates.filter_map(|file| file.rsplit('/').next()));
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let is_stray = |name: &String| {
            !(name.starts_with(PREFIX) || name.starts_with('.') || expected.contains(name.as_str()))
        };
        let strays: Vec<String> = names.filter(is_stray).collect();
        (!strays.is_empty()).then(|| format!("{strays:?}"))
    }
}

/// A failure of a server after its cases.
fn of_server(what: &str, flags: &str, text: String, got: String) -> Done {
    let outcome = Outcome::Wrong(vec![Mismatch::new("the server", text).got(got)], Vec::new());
    let ran = Ran {
        name: format!("server/{what} {flags}"),
        file: PathBuf::new(),
        line: 0,
        why: None,
        outcome,
        took: Duration::ZERO,
    };
    Done { number: usize::MAX, ran, repeated: 0 }
}

fn fits(task: &Task<'_>, pattern: &Pattern, said: &str) -> bool {
    let values: Result<Values, String> = task.single.values(task.file);
    values.and_then(|values| pattern.regex(&values)).is_ok_and(|pattern| pattern.is_match(said))
}

/// Runs one case against a server. `Err` if the case is invalid.
fn on_server(
    task: &Task<'_>,
    server: &Server,
    unique: &str,
    repeats: usize,
    repeated: &mut usize,
) -> Result<Outcome, String> {
    let Task { file, case, single, .. } = task;
    let mut values = single.values(file)?;
    let apart = file.surface.apart && !server.is_started();
    let home = Home::of(server, &single.at, unique, apart, &mut values)?;
    for pattern in &case.server.says {
        let (pattern, said) = (pattern.regex(&values)?, server.said());
        if !pattern.is_match(&said) {
            let text = format!("expected `{pattern}` on standard error; {said:?}");
            let wrong = Mismatch::new("the start", text).got(format!("{said:?}"));
            return Ok(Outcome::Wrong(vec![wrong], Vec::new()));
        }
    }
    let world = file.world.with(&case.world);
    let layout = file.surface.layout.as_ref();
    let mut driver = OverSocket::new(server, layout, &world, &home, repeats);
    let outcome = play(&mut driver, file, case, single, values);
    *repeated = driver.repeated;
    outcome
}

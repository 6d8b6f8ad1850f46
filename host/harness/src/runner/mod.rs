//! Runs one case: its preconditions, its steps, and the check of the final state. The driver carries steps
//! out; the results are compared here.

mod groups;
mod run;

use std::thread;
use std::time::{Duration, Instant};

use crate::case::{Broken, Case, CaseFile, Given, Single, Step, Values};
use crate::compare::response::{self, At};
use crate::compare::{Known, job};
use crate::driver::{Driver, InProcess, Received};
use crate::fixture::NoFixture;
use crate::mismatch::{Mismatch, Place};
use crate::plugin::PluginUnderTest;

pub use run::{Ran, Report, RunOptions, Skipped, Target, run, run_against, run_and_update};

/// How long a step marked `eventually` may take to succeed.
pub(crate) const EVENTUALLY: Duration = Duration::from_secs(10);
/// The interval at which it is repeated.
pub(crate) const AGAIN: Duration = Duration::from_millis(20);

/// The outcome of a case.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The case passed.
    Right,
    /// The case differs as the file of differences lists. The text says what the server does instead.
    Known(String),
    /// The case failed: the differences, and the trace.
    Wrong(Vec<Mismatch>, Vec<String>),
    /// The case cannot run.
    Broken(Broken),
}

/// Runs a case with the plugin in this process.
pub(crate) fn play_in_process(
    plugin: &PluginUnderTest,
    file: &CaseFile,
    case: &Case,
    single: &Single,
) -> Outcome {
    let played = || {
        let mut values = single.values(file)?;
        // The store `main` is the repository.
        for name in ["base", "repo", "folder", "at"] {
            values.save(name, String::new());
        }
        values.save("unique", "unique".to_owned());
        let world = file.world.with(&case.world);
        let mut driver = match InProcess::start(plugin, &world, file.folder(), &values) {
            Ok(driver) => driver,
            Err(NoFixture::Invalid(why)) => return Err(why),
            Err(NoFixture::Refused(why)) => return refused(case, &why, &values),
        };
        if let Some(pattern) = &case.refuses {
            let text = format!(
                "expected the settings to be rejected with `{pattern}`; they were accepted"
            );
            return Ok(Outcome::Wrong(vec![Mismatch::new("settings", text)], Vec::new()));
        }
        play(&mut driver, file, case, single, values)
    };
    played().unwrap_or_else(|message| Outcome::Broken(file.broken(case, message)))
}

fn refused(case: &Case, why: &str, values: &Values) -> Result<Outcome, String> {
    let text = match &case.refuses {
        Some(pattern) if pattern.regex(values)?.is_match(why) => return Ok(Outcome::Right),
        Some(pattern) => format!("rejected, but nothing matches `{pattern}` in:\n{why}"),
        None => format!("the mount is refused: {why}"),
    };
    Ok(Outcome::Wrong(vec![Mismatch::new("settings", text)], Vec::new()))
}

/// Runs a case with a driver that is ready for it. `Err` if the case is invalid.
pub(crate) fn play(
    driver: &mut dyn Driver,
    file: &CaseFile,
    case: &Case,
    single: &Single,
    values: Values,
) -> Result<Outcome, String> {
    let place = Place::case(single.index);
    let mut player = Player { driver, file, values, wrong: Vec::new(), place };
    player.case(case)?;
    let Player { mut wrong, driver, .. } = player;
    if wrong.is_empty() {
        return Ok(Outcome::Right);
    }
    if single.is_one_of_several(case) {
        wrong.iter_mut().for_each(Mismatch::forget_changes);
    }
    Ok(Outcome::Wrong(wrong, driver.trace()))
}

struct Player<'a> {
    driver: &'a mut dyn Driver,
    file: &'a CaseFile,
    values: Values,
    wrong: Vec<Mismatch>,
    place: Place,
}

impl Player<'_> {
    /// The first failure ends the case, because what follows would not test what its author meant.
    fn case(&mut self, case: &Case) -> Result<(), String> {
        for given in &case.given {
            self.give(given)?;
            if !self.wrong.is_empty() {
                return Ok(());
            }
        }
        let known = Known { folder: self.file.folder(), values: &self.values };
        self.driver.furnish(&self.file.world.with(&case.world), known)?;
        for (number, step) in (1..).zip(&case.steps) {
            let place = self.place.step(number - 1);
            let name = step.label(number);
            self.step(step, &At { name: &name, place: &place })
                .map_err(|why| format!("{name}: {why}"))?;
            if !self.wrong.is_empty() {
                return Ok(());
            }
        }
        let known = Known { folder: self.file.folder(), values: &self.values };
        let wrong = self.driver.final_state(case, known, &self.place)?;
        self.wrong.extend(wrong);
        Ok(())
    }

    /// Establishes a precondition that the surface defines.
    fn give(&mut self, name: &str) -> Result<(), String> {
        let surface = self.file.surface.clone();
        let filled = self.values.fill(name)?;
        let found = surface.given(&filled);
        let (Given { steps, otherwise }, parts) =
            found.ok_or_else(|| format!("the surface has no precondition {filled:?}"))?;
        let before = self.values.clone();
        for (name, value) in parts {
            self.values.template(&name, value);
        }
        self.all(steps, &filled)?;
        if !self.wrong.is_empty() && !otherwise.is_empty() {
            self.wrong.clear();
            self.all(otherwise, &filled)?;
        }
        self.values = before;
        Ok(())
    }

    fn all(&mut self, steps: &[Step], given: &str) -> Result<(), String> {
        for (number, step) in (1..).zip(steps) {
            let (name, place) =
                (format!("given {given}, {}", step.label(number)), self.place.clone());
            self.step(step, &At { name: &name, place: &place })
                .map_err(|why| format!("{name}: {why}"))?;
            // The step is in the surface's file, so it has no position in the case file.
            self.wrong.iter_mut().for_each(Mismatch::forget_changes);
            if !self.wrong.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step, at: &At<'_>) -> Result<(), String> {
        if step.is_request() && step.run.is_some() {
            return Err("both `send` and `run`; expected one of them".to_owned());
        }
        let known = Known { folder: self.file.folder(), values: &self.values };
        self.driver.prepare(step, known)?;
        let expect = step.expect.as_ref();
        let calls = self.driver.calls().len();
        if step.is_request() {
            self.request(step, at)?;
        } else if let Some(kind) = &step.run {
            let input = match &step.input {
                Some(input) => known.values.fill_json(&input.0)?.to_string(),
                None => String::new(),
            };
            let wrong = match self.driver.run_job(kind, input.as_bytes()) {
                Ok(ran) => job::ran(&ran, at, expect, known)?,
                Err(why) => job::refused(&why, at, expect, known)?,
            };
            self.wrong.extend(wrong);
        }
        if step.settle {
            self.driver.settle()?;
        }
        let Some(expect) = expect else { return Ok(()) };
        let known = Known { folder: self.file.folder(), values: &self.values };
        if expect.calls.is_some() || !expect.no_calls.is_empty() {
            let all = self.driver.calls();
            let made = all.get(calls..).unwrap_or_default();
            self.wrong.extend(crate::compare::calls_made(made, expect, at, known.values)?);
        }
        if expect.disk.is_some() && self.wrong.is_empty() {
            let wrong = self.driver.disk(expect.disk.as_ref(), step.eventually, known)?;
            self.wrong.extend(wrong.map(|wrong| wrong.within(at.name)));
        }
        Ok(())
    }

    fn request(&mut self, step: &Step, at: &At<'_>) -> Result<(), String> {
        let end = Instant::now() + EVENTUALLY;
        loop {
            let known = Known { folder: self.file.folder(), values: &self.values };
            let received = self.driver.send(step, known)?;
            let wrong = response::received(&received, step, at, known)?;
            if !wrong.is_empty() && step.eventually && Instant::now() < end {
                thread::sleep(AGAIN);
                continue;
            }
            self.wrong.extend(wrong);
            if let Received::Response(response) = &received {
                self.save(step, response)?;
            }
            return Ok(());
        }
    }
    fn save(&mut self, step: &Step, response: &crate::fixture::Response) -> Result<(), String> {
        for (name, from) in &step.save {
            let found = if let Some(header) = from.strip_prefix("header ") {
                response.header(&header.to_ascii_lowercase()).map(str::to_owned)
            } else if from.starts_with('/') {
                response.json().pointer(from).map(|value| match value {
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                })
            } else {
                return Err(format!(
                    "save {name}: {from:?}: write \"/pointer\" or \"header NAME\""
                ));
            };
            match found {
                Some(text) => self.values.save(name, text),
                None => self.wrong.push(Mismatch::new(
                    &format!("save {name}"),
                    format!("the reply has no {from}:\n{}", crate::compare::shown(&response.body)),
                )),
            }
        }
        Ok(())
    }
}

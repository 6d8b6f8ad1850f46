//! One case from its beginning to its end: what is given, the steps, the disk.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::conformance::Failure;
use crate::conformance::case::{Scalar, Step};
use crate::conformance::disk::{self, Place};
use crate::conformance::exchange::Exchange;
use crate::conformance::expect;
use crate::conformance::fill::Values;
use crate::conformance::server::Server;
use crate::conformance::suite::Single;

/// How long what happens `eventually` may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a case is played with.
struct Player<'a> {
    server: &'a Server,
    values: Values,
    place: Option<Place>,
    /// What was put into the repository behind the server's back.
    placed: BTreeSet<String>,
}

/// Plays a case. `unique` is a folder's name that nobody else uses.
pub fn play(single: &Single, server: &Server, unique: &str) -> Result<(), Failure> {
    let case = &*single.case;
    let data = |error: String| Failure::new("data that makes sense", error).at("the case's data");
    let mut values = single.values.clone();
    values.set("unique", unique);
    values.set("base", server.base.as_str());
    values.set("scratch", server.scratch.display().to_string());
    values.set("at", single.at.as_str());
    let folder = values.fill("{at}").map_err(data)?;
    let slash = if folder.is_empty() { "" } else { "/" };
    values.set("repo", format!("{}{slash}{folder}", server.base));
    values.set("folder", folder.as_str());
    let place = server.data.clone().map(|data| {
        let repository = if folder.is_empty() { data.clone() } else { data.join(&folder) };
        Place { repository, scratch: server.scratch.clone(), data }
    });
    let placed = case.preload.keys().cloned().collect();
    let mut player = Player { server, values, place, placed };

    let mut exchange = Exchange::new(&server.endpoint, case, server.login.as_deref());
    for given in &case.given {
        player.give(&exchange, given).map_err(|failure| failure.at(&format!("given {given}")))?;
    }
    player.put(&case.place).map_err(data)?;
    for pattern in &case.says {
        let pattern = expect::compile(pattern, &player.values).map_err(data)?;
        let said = server.said();
        if !pattern.is_match(&said) {
            let expected = format!("/{pattern}/ on standard error");
            return Err(Failure::new(expected, format!("{said:?}")).at("the start"));
        }
    }
    for (number, step) in (1..).zip(&case.steps) {
        let done = player.step(&mut exchange, step);
        done.map_err(|failure| failure.at(&player.describe(step, number, case.steps.len())))?;
    }
    // A client that is gone is noticed when its socket is looked at, not before.
    let patient = case.steps.iter().any(|step| step.gone || step.close);
    player
        .disk(case.disk.as_ref(), patient)
        .map_err(|failure| failure.at("the disk after all steps"))
}

impl Player<'_> {
    fn give(&self, exchange: &Exchange<'_>, given: &str) -> Result<(), Failure> {
        let data = |error: String| Failure::new("data that makes sense", error);
        let given = self.values.fill(given).map_err(data)?;
        let (path, body) = match given.split_once('/') {
            None if given == "repository" => ("{repo}/?create=true".to_owned(), None),
            None if given == "config" => ("{repo}/config".to_owned(), Some("config")),
            None => return Err(data(format!("`{given}` is nothing that can be given"))),
            Some((kind, body)) => (format!("{{repo}}/{kind}/{{{body}}}"), Some(body)),
        };
        let path = self.values.fill(&path).map_err(data)?;
        let body = body.map(|body| self.values.body(body)).transpose().map_err(data)?;
        let bytes = body.as_ref().map_or(&[][..], |body| &body.bytes);
        let post = |path: &str, bytes: &[u8]| match exchange.simple("POST", path, bytes) {
            Ok(reply) if reply.status == 200 => Ok(()),
            Ok(reply) => Err(Failure::new("status 200", format!("status {}", reply.status))),
            Err(error) => Err(Failure::new("status 200", error)),
        };
        post(&path, bytes).or_else(|failure| {
            if given != "config" {
                return Err(failure);
            }
            // Some servers take it only where a repository was made, which takes longer.
            post(&self.values.fill("{repo}/?create=true").map_err(data)?, b"")?;
            post(&path, bytes)
        })
    }

    fn step(&mut self, exchange: &mut Exchange<'_>, step: &Step) -> Result<(), Failure> {
        let data = |error: String| Failure::new("data that makes sense", error);
        self.put(&step.place).map_err(data)?;
        for name in &step.remove {
            self.remove(name).map_err(data)?;
        }
        for (name, text) in &step.write {
            let folder = self.server.data.as_ref().ok_or_else(|| data("no folder".into()))?;
            let text = self.values.fill(text).map_err(data)?;
            write(&folder.join(name), text.as_bytes()).map_err(data)?;
        }
        if let Some(signal) = &step.signal {
            self.server.signal(signal).map_err(data)?;
        }
        if step.send.is_some() || step.raw.is_some() || step.resume || step.close {
            let end = Instant::now() + PATIENCE;
            loop {
                let outcome = exchange.step(step, &self.values)?;
                let checked = expect::outcome(step, &outcome, &self.values);
                if checked.is_ok() || !step.eventually || Instant::now() > end {
                    checked?;
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        match &step.disk {
            None => Ok(()),
            disk => self.disk(disk.as_ref(), step.eventually),
        }
    }

    fn disk(
        &self,
        disk: Option<&crate::conformance::case::Disk>,
        patient: bool,
    ) -> Result<(), Failure> {
        let Some(place) = &self.place else { return Ok(()) };
        let end = Instant::now() + PATIENCE;
        loop {
            let checked = disk::check(disk, place, &self.placed, &self.values);
            if checked.is_ok() || !patient || Instant::now() > end {
                return checked;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Puts files, and folders where a name ends with a slash, into the repository.
    fn put(&mut self, files: &std::collections::BTreeMap<String, String>) -> Result<(), String> {
        for (name, body) in files {
            let name = self.values.fill(name)?;
            let place = self.place.as_ref().ok_or("the data folder cannot be reached")?;
            let path = place.path(&name);
            if name.ends_with('/') {
                fs::create_dir_all(&path)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
            } else {
                write(&path, &self.values.body(body)?.bytes)?;
                self.placed.insert(name);
            }
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), String> {
        let name = self.values.fill(name)?;
        let place = self.place.as_ref().ok_or("the data folder cannot be reached")?;
        let path = place.path(&name);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        self.placed.remove(&name);
        removed.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// A step for people: enough to send it by hand.
    fn describe(&self, step: &Step, number: usize, all: usize) -> String {
        let text = match (&step.raw, &step.send) {
            (Some(raw), _) => format!("{:?}", self.values.fill(raw).unwrap_or_default()),
            (None, Some(send)) => self.values.fill(send).unwrap_or_default(),
            (None, None) if step.resume => "the rest of the body".to_owned(),
            (None, None) => "what is no request".to_owned(),
        };
        let mut words = vec![text];
        for (name, value) in &step.headers {
            for value in value.list() {
                let header = format!("{name}: {value}");
                words.push(self.values.fill(&header).unwrap_or(header));
            }
        }
        if let Some(login) = &step.login {
            words.push(format!("as {login:?}"));
        }
        if let Some(body) = &step.body {
            let body = self.values.fill(body).unwrap_or_default();
            let size = self.values.body(&body).map_or(0, |body| body.bytes.len());
            words.push(format!("body `{body}` of {size} bytes"));
        }
        let filled = |number: &Option<Scalar>| self.values.number(number.as_ref()).ok().flatten();
        if let Some(chunks) = filled(&step.chunks) {
            words.push(format!("in chunks of {chunks}"));
        }
        if let Some(length) = filled(&step.length) {
            words.push(format!("announced as {length}"));
        }
        if let Some(cut) = filled(&step.cut) {
            words.push(format!("cut after {cut}"));
        }
        let place = if all == 1 { String::new() } else { format!(" (step {number} of {all})") };
        format!("{}{place}", words.join(", "))
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let written = || -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)
    };
    written().map_err(|error| format!("{}: {error}", path.display()))
}

//! A server over a socket: any URL, or one that a command line starts.

pub mod connection;
mod endpoint;
mod exchange;
mod files;
mod process;
mod reply;
mod server;

use std::collections::BTreeSet;
use std::thread;
use std::time::Instant;

use keepgate_jobs::Job;

use super::{Driver, Received};
use crate::case::{Case, Content, Disk, Layout, Short, Step, User, Values, World};
use crate::compare::Known;
use crate::mismatch::{Mismatch, Place};
use crate::runner::{AGAIN, EVENTUALLY};
use exchange::{Client, Connections, Reset};
use files::Folders;

pub use endpoint::{Endpoint, Trust};
pub use server::Server;
pub(crate) use server::{Kind, Start};

/// A case's connection to a server.
pub(crate) struct OverSocket<'a> {
    server: &'a Server,
    client: Client<'a>,
    connections: Connections,
    folders: Option<Folders>,
    layout: Option<&'a Layout>,
    /// Files that the case wrote to the repository behind the server's back.
    placed: BTreeSet<String>,
    /// How often to repeat a request if the server resets the connection before the reply was read.
    repeats: usize,
    /// How often a request was repeated.
    pub(crate) repeated: usize,
    trace: Vec<String>,
}

impl<'a> OverSocket<'a> {
    /// A client for one case.
    pub(crate) fn new(
        server: &'a Server,
        layout: Option<&'a Layout>,
        world: &World,
        home: &Home,
        repeats: usize,
    ) -> Self {
        let login = world.login.clone().or_else(|| server.login.clone());
        let Server { endpoint, host, .. } = server;
        let client = Client { endpoint, host, base: home.base.clone(), login };
        let folders = server.data.clone().map(|data| {
            let repository = match home.folder.as_str() {
                "" => data.clone(),
                folder => data.join(folder),
            };
            Folders { repository, scratch: server.scratch.clone(), data }
        });
        Self {
            server,
            client,
            connections: Connections::new(),
            folders,
            layout,
            placed: BTreeSet::new(),
            repeats,
            repeated: 0,
            trace: Vec::new(),
        }
    }
}

impl OverSocket<'_> {
    fn folders(&self) -> Result<&Folders, String> {
        self.folders.as_ref().ok_or_else(|| "the server's data folder is not accessible".to_owned())
    }

    fn put(&mut self, name: &str, content: &Content, known: Known<'_>) -> Result<(), String> {
        let name = known.values.fill(name)?;
        self.folders()?.put(&name, content, known)?;
        if !name.ends_with('/') {
            self.placed.insert(name);
        }
        Ok(())
    }

    /// Checks that this client has the login of a user.
    fn check_user(&self, user: &User) -> Result<(), String> {
        let login = self.client.login.as_deref().unwrap_or_default();
        let known = user.name.is_empty() || login.split(':').next() == Some(&user.name);
        if known { Ok(()) } else { Err(format!("no login for user {:?}", user.name)) }
    }
}

impl Driver for OverSocket<'_> {
    fn furnish(&mut self, world: &World, known: Known<'_>) -> Result<(), String> {
        for (name, Short(content)) in &world.blobs {
            self.put(name, content, known)?;
        }
        for folder in &world.folders {
            self.put(&format!("{folder}/"), &Content::default(), known)?;
        }
        Ok(())
    }

    fn prepare(&mut self, step: &Step, known: Known<'_>) -> Result<(), String> {
        for (name, Short(kept)) in &step.place {
            if let Some(content) = kept.content() {
                self.put(name, &content, known)?;
            } else {
                let name = known.values.fill(name)?;
                self.folders()?.remove(&name)?;
                self.placed.remove(&name);
            }
        }
        for (name, text) in &step.write {
            let path = self.folders()?.data.join(known.values.fill(name)?);
            let text = known.values.fill(text)?;
            let written = files::write(&path, text.as_bytes());
            written.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if let Some(signal) = &step.signal {
            self.trace.push(format!("signal {signal}"));
            self.server.signal(signal)?;
        }
        Ok(())
    }

    fn send(&mut self, step: &Step, known: Known<'_>) -> Result<Received, String> {
        if let Some(user) = &step.user {
            self.check_user(&user.0)?;
        }
        let is_alone = step.on.is_none();
        let mut left = if is_alone { self.repeats } else { 0 };
        loop {
            let request = self.client.request(step, known)?;
            let shown = request.shown.clone();
            let received = match self.client.exchange(&mut self.connections, step, request) {
                Ok(received) => received,
                Err(Reset(why)) if left > 0 => {
                    left -= 1;
                    self.repeated += 1;
                    self.trace.push(format!("{shown} -> {why}; repeated"));
                    continue;
                }
                Err(Reset(why)) => Received::Closed(why),
            };
            let came = match &received {
                Received::Response(response) => response.in_one_line(),
                Received::Closed(why) => format!("the connection ended: {why}"),
                Received::Failed { got, .. } => got.clone(),
                Received::Nothing => "(not waited for)".to_owned(),
            };
            self.trace.push(format!("{shown} -> {came}"));
            return Ok(received);
        }
    }

    fn run_job(&mut self, _: &str, _: &[u8]) -> Result<Job, String> {
        Err("cannot run jobs over a socket".to_owned())
    }

    fn settle(&mut self) -> Result<(), String> {
        Err("cannot see jobs over a socket".to_owned())
    }

    fn calls(&self) -> Vec<String> {
        Vec::new()
    }

    fn disk(
        &mut self,
        disk: Option<&Disk>,
        patient: bool,
        known: Known<'_>,
    ) -> Result<Option<Mismatch>, String> {
        let Some(folders) = &self.folders else { return Ok(None) };
        let end = Instant::now() + EVENTUALLY;
        loop {
            let differs = folders.differs(disk, &self.placed, self.layout, known)?;
            if differs.is_some() && patient && Instant::now() < end {
                thread::sleep(AGAIN);
                continue;
            }
            let mismatch = differs.map(|(expected, got)| {
                let text = format!("expected {expected}; {got}");
                Mismatch::new("disk", text).got(got)
            });
            return Ok(mismatch);
        }
    }

    fn final_state(
        &mut self,
        case: &Case,
        known: Known<'_>,
        _: &Place,
    ) -> Result<Vec<Mismatch>, String> {
        // A server only notices that a client has gone when it uses its socket.
        let leaves = |step: &Step| step.close || step.leaves.is_some();
        let patient = case.steps.iter().any(leaves);
        let wrong = self.disk(case.after.disk.as_ref(), patient, known)?;
        Ok(wrong.into_iter().collect())
    }

    fn trace(&self) -> Vec<String> {
        self.trace.clone()
    }
}

/// Where a case's repository is on a server.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    /// The path of the mount, without a slash at the end.
    base: String,
    /// The repository's folder in the server's data folder.
    folder: String,
}

impl Home {
    /// Determines it, and sets the placeholders that name it. `unique` is a name that no other case uses; a
    /// case that is kept `apart` has everything below a folder of that name.
    pub(crate) fn of(
        server: &Server,
        at: &str,
        unique: &str,
        apart: bool,
        values: &mut Values,
    ) -> Result<Self, String> {
        values.save("unique", unique.to_owned());
        values.save("scratch", server.scratch.display().to_string());
        let at = if apart { "" } else { at };
        values.template("at", at.to_owned());
        let below = values.fill(at)?;
        let base = match apart {
            true => format!("{}/{unique}", server.base),
            false => server.base.clone(),
        };
        let slash = if below.is_empty() { "" } else { "/" };
        values.save("base", base.clone());
        values.save("repo", format!("{base}{slash}{below}"));
        values.save("folder", below.clone());
        let folder = if apart { unique.to_owned() } else { below };
        Ok(Self { base, folder })
    }
}

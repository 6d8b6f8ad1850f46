//! A plugin in this process: the server's runtime with a fixture around it. Everything is visible, and no
//! test sleeps: the clock stands still while anything works, and jumps ahead when everything waits.

use std::collections::BTreeMap;
use std::path::Path;

use keepgate_jobs::Job;
use tokio::runtime::{Builder, Runtime};

use super::{Driver, Received};
use crate::case::{Case, Disk, Short, Step, User, Values, World};
use crate::compare::Known;
use crate::final_state::{self, FinalState};
use crate::fixture::{Blobs, Fixture, MAIN, NoFixture, Sending, principal};
use crate::mismatch::{Mismatch, Place};
use crate::plugin::PluginUnderTest;

/// A plugin in its world.
pub(crate) struct InProcess {
    // Dropped before the runtime, because its timers belong to that.
    fixture: Fixture,
    /// The content of the stores before the plugin changed anything.
    before: BTreeMap<String, Blobs>,
    /// The user of steps that name none.
    user: Option<Short<User>>,
    runtime: Runtime,
}

impl InProcess {
    /// Starts the world of a case.
    pub(crate) fn start(
        plugin: &PluginUnderTest,
        world: &World,
        folder: &Path,
        values: &Values,
    ) -> Result<Self, NoFixture> {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| NoFixture::Invalid(error.to_string()))?;
        let (fixture, before) = runtime.block_on(async {
            let fixture = Fixture::start(plugin, world, folder, values).await?;
            let before = fixture.blobs().await?;
            Ok::<_, NoFixture>((fixture, before))
        })?;
        Ok(Self { fixture, before, user: world.user.clone(), runtime })
    }

    fn sending(&self, step: &Step, known: Known<'_>) -> Result<Sending, String> {
        let Some(send) = &step.send else { return Err("the step has no `send`".to_owned()) };
        let Known { folder, values } = known;
        let (method, target) = send.fill(values, "")?;
        let mut headers = Vec::new();
        for (name, all) in &step.headers {
            for value in &all.0 {
                let name = values.fill(name)?.to_ascii_lowercase();
                headers.push((name, values.fill(value)?));
            }
        }
        let leaves = step.leaves.clone().unwrap_or_default();
        let user = step.user.as_ref().or(self.user.as_ref());
        let body = match &step.body {
            Some(Short(content)) => content.bytes(folder, values)?,
            None => Vec::new(),
        };
        let number = |number: &Option<crate::case::Number>| {
            number.as_ref().map(|number| number.get(values)).transpose()
        };
        Ok(Sending {
            method,
            target,
            headers,
            base: step.base.as_ref().map(|base| values.fill(base)).transpose()?,
            address: step.address,
            principal: user.and_then(|user| principal(&user.0)),
            body,
            unsized_body: step.unsized_body || step.chunks.is_some(),
            cut: number(&step.cut)?,
            stall: step.stall,
            leaves_after_sending: number(&leaves.sent)?,
            leaves_after_receiving: leaves.received,
            leaves_after: leaves.after.map(|span| span.0),
        })
    }

    /// Places blobs, and remembers that it was not the plugin that wrote them.
    fn place(&mut self, step: &Step, known: Known<'_>) -> Result<(), String> {
        let Known { folder, values } = known;
        let mut keys = Vec::new();
        for (key, Short(kept)) in &step.place {
            let (key, content) = (values.fill(key)?, kept.content());
            let placed = self.fixture.place(&key, content.as_ref(), folder, values);
            self.runtime.block_on(placed)?;
            keys.push(key);
        }
        if keys.is_empty() {
            return Ok(());
        }
        let now = self.runtime.block_on(self.fixture.blobs())?;
        let before = self.before.entry(MAIN.to_owned()).or_default();
        for key in keys {
            match now.get(MAIN).and_then(|blobs| blobs.get(&key)).cloned() {
                Some(found) => before.insert(key, found),
                None => before.remove(&key),
            };
        }
        Ok(())
    }
}

impl Driver for InProcess {
    fn prepare(&mut self, step: &Step, known: Known<'_>) -> Result<(), String> {
        if let Some(span) = step.advance {
            self.runtime.block_on(tokio::time::advance(span.0));
        }
        self.place(step, known)
    }

    fn send(&mut self, step: &Step, known: Known<'_>) -> Result<Received, String> {
        let sending = self.sending(step, known)?;
        self.runtime.block_on(self.fixture.send(sending)).map(Received::Response)
    }

    fn run_job(&mut self, kind: &str, input: &[u8]) -> Result<Job, String> {
        self.runtime.block_on(self.fixture.run(kind, input))
    }

    fn settle(&mut self) -> Result<(), String> {
        self.runtime.block_on(self.fixture.settle())
    }

    fn calls(&self) -> Vec<String> {
        self.fixture.recorder.recorded().calls.iter().map(ToString::to_string).collect()
    }

    fn disk(
        &mut self,
        _: Option<&Disk>,
        _: bool,
        _: Known<'_>,
    ) -> Result<Option<Mismatch>, String> {
        Ok(None)
    }

    fn final_state(
        &mut self,
        case: &Case,
        known: Known<'_>,
        place: &Place,
    ) -> Result<Vec<Mismatch>, String> {
        let (fixture, before) = (&self.fixture, &self.before);
        let mut state = FinalState { fixture, case, known, before, wrong: Vec::new() };
        self.runtime.block_on(final_state::check(&mut state, place))?;
        Ok(state.wrong)
    }

    fn trace(&self) -> Vec<String> {
        let recorded = self.fixture.recorder.recorded();
        let mut lines: Vec<String> = recorded.calls.iter().map(ToString::to_string).collect();
        lines.extend(recorded.log.iter().map(|line| format!("log {line}")));
        lines
    }
}

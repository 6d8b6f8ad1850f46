//! One case from its beginning to its end: the world is made, the steps are played, and what came is
//! held against what is expected.

use std::collections::BTreeMap;

use crate::after;
use crate::case::{self, Broken, Case, CaseFile, Short, Step, Values};
use crate::judge::{self, Known};
use crate::mismatch::{Mismatch, Place};
use crate::plugin::PluginUnderTest;
use crate::reply::At;
use crate::world::{Blobs, MAIN, NoWorld, Response, Sending, World, principal};

/// How a case came out.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// As expected.
    Right,
    /// Otherwise: each difference, and what the plugin did.
    Wrong(Vec<Mismatch>, Vec<String>),
    /// The case says nothing that can be played.
    Broken(Broken),
}

/// Plays a case in a runtime of its own, whose clock stands while anything works.
pub(crate) fn play(plugin: &PluginUnderTest, file: &CaseFile, index: usize) -> Outcome {
    let Some(case) = file.cases.get(index) else {
        return Outcome::Broken(Broken::new(&file.path, "there is no such case"));
    };
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let played = match builder.enable_time().start_paused(true).build() {
        Ok(runtime) => runtime.block_on(Player::play(plugin, file, case, index)),
        Err(error) => Err(error.to_string()),
    };
    played.unwrap_or_else(|message| Outcome::Broken(file.broken(case, message)))
}

pub(crate) struct Player<'a> {
    pub(crate) file: &'a CaseFile,
    pub(crate) case: &'a Case,
    pub(crate) values: Values,
    pub(crate) world: World,
    /// What the stores hold as long as nobody but the case has changed them.
    pub(crate) before: BTreeMap<String, Blobs>,
    pub(crate) wrong: Vec<Mismatch>,
    user: Option<Short<case::User>>,
    place: Place,
}

impl<'a> Player<'a> {
    async fn play(
        plugin: &PluginUnderTest,
        file: &'a CaseFile,
        case: &'a Case,
        index: usize,
    ) -> Result<Outcome, String> {
        let mut values = Values::default();
        for (name, Short(content)) in &file.bodies {
            let bytes = content.bytes(file.folder(), &values);
            values.name_body(name, bytes.map_err(|why| format!("the body {name:?}: {why}"))?);
        }
        let told = file.world.with(&case.world);
        let place = Place::case(index);
        let world = match World::start(plugin, &told, file.folder(), &values).await {
            Ok(world) => world,
            Err(NoWorld::Told(why)) => return Err(why),
            Err(NoWorld::Refused(why)) => return Ok(refused(case, &why)),
        };
        if let Some(pattern) = &case.refuses {
            let text = format!("the settings were accepted; expected: `{}`", pattern.0);
            return Ok(Outcome::Wrong(vec![Mismatch::new("settings", text)], Vec::new()));
        }
        let before = world.blobs().await?;
        let (wrong, user) = (Vec::new(), told.user);
        let mut player = Self { file, case, values, world, before, wrong, user, place };
        for (number, step) in case.steps.iter().enumerate() {
            player.step(number, step).await?;
            if !player.wrong.is_empty() {
                break;
            }
        }
        // A step that failed has left the world as nobody expects it.
        if player.wrong.is_empty() {
            let place = player.place.clone();
            after::judge(&mut player, &place).await?;
        }
        let heard = player.world.ear.heard();
        let mut did: Vec<String> = heard.calls.iter().map(ToString::to_string).collect();
        did.extend(heard.log.iter().map(|line| format!("log {line}")));
        drop(heard);
        Ok(if player.wrong.is_empty() { Outcome::Right } else { Outcome::Wrong(player.wrong, did) })
    }

    pub(crate) fn known(&self) -> Known<'_> {
        Known { folder: self.file.folder(), values: &self.values }
    }

    async fn step(&mut self, number: usize, step: &Step) -> Result<(), String> {
        let place = self.place.step(number);
        let name = match (&step.send, &step.run) {
            (Some(send), None) => format!("step {} `{} {}`", number + 1, send.method, send.target),
            (None, Some(kind)) => format!("step {} job `{kind}`", number + 1),
            (None, None) => format!("step {}", number + 1),
            (Some(_), Some(_)) => {
                return Err(format!("step {}: `send` and `run`: write one of them", number + 1));
            }
        };
        let in_step = |why: String| format!("{name}: {why}");
        if let Some(span) = step.advance {
            tokio::time::advance(span.0).await;
        }
        self.put_in_place(step).await.map_err(in_step)?;
        let heard = self.world.ear.heard().calls.len();
        let expect = step.expect.as_ref();
        let at = At { name: &name, place: &place };
        if step.send.is_some() {
            let sending = self.sending(step).map_err(in_step)?;
            let response = self.world.send(sending).await.map_err(in_step)?;
            self.response(&at, &response, expect, step.leaves.is_some()).map_err(in_step)?;
            self.save(step, &response).map_err(in_step)?;
        } else if let Some(kind) = &step.run {
            let input = match &step.input {
                Some(input) => self.values.fill_json(&input.0).map_err(in_step)?.to_string(),
                None => String::new(),
            };
            match self.world.run(kind, input.as_bytes()).await {
                Ok(job) => self.job_ran(&at, &job, expect).map_err(in_step)?,
                Err(why) => self.job_refused(&at, &why, expect),
            }
        }
        if step.settle {
            self.world.settle().await.map_err(in_step)?;
        }
        if let Some(expect) = expect {
            self.calls(&at, heard, expect).map_err(in_step)?;
        }
        Ok(())
    }

    /// What happens behind the plugin's back.
    async fn put_in_place(&mut self, step: &Step) -> Result<(), String> {
        for (key, Short(kept)) in &step.place {
            let (key, content) = (self.values.fill(key)?, kept.content());
            let known = self.known();
            self.world.place(&key, content.as_ref(), known.folder, known.values).await?;
        }
        if !step.place.is_empty() {
            let now = self.world.blobs().await?;
            let keys = step.place.keys().map(|key| self.values.fill(key));
            for key in keys.collect::<Result<Vec<_>, _>>()? {
                let found = now.get(MAIN).and_then(|blobs| blobs.get(&key)).cloned();
                let before = self.before.entry(MAIN.to_owned()).or_default();
                match found {
                    Some(found) => before.insert(key, found),
                    None => before.remove(&key),
                };
            }
        }
        Ok(())
    }

    fn sending(&self, step: &Step) -> Result<Sending, String> {
        let Some(send) = &step.send else { return Err("there is nothing to send".to_owned()) };
        let mut headers = Vec::new();
        for (name, values) in &step.headers {
            for value in &values.0 {
                headers.push((name.to_ascii_lowercase(), self.values.fill(value)?));
            }
        }
        let leaves = step.leaves.unwrap_or_default();
        let user = step.user.as_ref().or(self.user.as_ref());
        let body = match &step.body {
            Some(Short(content)) => content.bytes(self.file.folder(), &self.values)?,
            None => Vec::new(),
        };
        Ok(Sending {
            method: send.method.clone(),
            target: self.values.fill(&send.target)?,
            headers,
            base: step.base.as_ref().map(|base| self.values.fill(base)).transpose()?,
            address: step.address,
            principal: user.and_then(|user| principal(&user.0)),
            body,
            unsized_body: step.unsized_body,
            cut: step.cut,
            stall: step.stall,
            leaves_after_sending: leaves.sent,
            leaves_after_receiving: leaves.received,
            leaves_after: leaves.after.map(|span| span.0),
        })
    }

    fn save(&mut self, step: &Step, response: &Response) -> Result<(), String> {
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
                    format!("the reply has no {from}:\n{}", judge::shown(&response.body)),
                )),
            }
        }
        Ok(())
    }
}

fn refused(case: &Case, why: &str) -> Outcome {
    let text = match &case.refuses {
        Some(pattern) if pattern.0.is_match(why) => return Outcome::Right,
        Some(pattern) => format!("refused, and nothing matches `{}` in:\n{why}", pattern.0),
        None => format!("the mount is refused: {why}"),
    };
    Outcome::Wrong(vec![Mismatch::new("settings", text)], Vec::new())
}

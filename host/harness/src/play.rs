//! One case from its beginning to its end: the world is made, the steps are played, and what came is
//! held against what is expected.

use std::collections::BTreeMap;

use keepgate_jobs::Job;

use crate::after;
use crate::case::{
    self, Broken, Case, CaseFile, Expect, HeaderRule, JobRule, Rule, Short, Step, Values,
};
use crate::judge::{self, Known};
use crate::mismatch::{Change, Mismatch, Place, told};
use crate::plugin::PluginUnderTest;
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

    fn response(
        &mut self,
        at: &At<'_>,
        response: &Response,
        expect: Option<&Expect>,
        may_leave: bool,
    ) -> Result<(), String> {
        if may_leave && response.left && expect.is_none_or(|expect| expect.status.is_none()) {
            return Ok(());
        }
        let Some(expect) = expect else {
            self.nothing_expected(at, response);
            return Ok(());
        };
        self.status(at, response, expect);
        for (name, Short(rule)) in &expect.headers {
            self.header(at, response, name, rule)?;
        }
        match (&expect.broken, &response.broken) {
            (Some(pattern), Some(why)) if pattern.0.is_match(why) => {}
            (Some(pattern), found) => {
                let found = found.as_deref().unwrap_or("it came to its end");
                let text = format!("it must break off with `{}`; {found}", pattern.0);
                self.wrong.push(at.mismatch("body", text));
            }
            (None, Some(why)) => {
                self.wrong.push(at.mismatch("body", format!("it broke off: {why}")));
            }
            (None, None) => {}
        }
        if let Some(Short(rule)) = &expect.body {
            self.body(at, &response.body, rule, "body")?;
        }
        if let Some(expected) = &expect.reason {
            let (word, why) = match &response.reason {
                Some((word, why)) => (*word, why.as_str()),
                None => ("reply", "the plugin replied"),
            };
            if word != expected {
                let text = format!("`{expected}` expected, got `{word}`: {why}");
                let change = Change::set(at.expect("reason"), word.into());
                self.wrong.push(at.mismatch("reason", text).with(change));
            }
        }
        Ok(())
    }

    fn nothing_expected(&mut self, at: &At<'_>, response: &Response) {
        let mut text = format!("nothing is expected yet; it came {}", response.status);
        if !response.body.is_empty() {
            text.push_str(&format!(" with:\n{}", judge::shown(&response.body)));
        }
        let status = Change::set(at.expect("status"), i64::from(response.status).into());
        let mut mismatch = at.mismatch("expect", text).with(status);
        if !response.body.is_empty() {
            let body = told(&response.body, &Rule::default(), &self.values);
            mismatch = mismatch.with(Change::set(at.expect("body"), body));
        }
        self.wrong.push(mismatch);
    }

    fn status(&mut self, at: &At<'_>, response: &Response, expect: &Expect) {
        let found = response.status;
        let right = match &expect.status {
            Some(statuses) => statuses.0.contains(&found),
            None => false,
        };
        if right {
            return;
        }
        let expected = match &expect.status {
            Some(statuses) => {
                statuses.0.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ")
            }
            None => "a status must be".to_owned(),
        };
        let mut text = format!("{expected} expected, got {found}");
        if response.left {
            text = format!("{expected} expected; the client left before");
        }
        if let Some((word, why)) = &response.reason {
            text.push_str(&format!("\nno reply ({word}): {why}"));
        }
        if !response.body.is_empty() {
            text.push_str(&format!(
                "\nthe reply says: {}",
                judge::shown(&response.body).trim_end()
            ));
        }
        let change = Change::set(at.expect("status"), i64::from(found).into());
        self.wrong.push(at.mismatch("status", text).with(change));
    }

    fn header(
        &mut self,
        at: &At<'_>,
        response: &Response,
        name: &str,
        rule: &HeaderRule,
    ) -> Result<(), String> {
        let found = response.header(&name.to_ascii_lowercase());
        let what = format!("header {name}");
        let path = at.place.key("expect").key("headers").key(name);
        let expected = rule.exact.as_ref().map(|text| self.values.fill(text)).transpose()?;
        let text = match (found, &expected, &rule.matches) {
            (None, ..) if rule.absent => return Ok(()),
            (Some(found), ..) if rule.absent => format!("must not be there; it is {found:?}"),
            (None, ..) => "is not there".to_owned(),
            (Some(found), Some(expected), _) if found != expected => {
                format!("{expected:?} expected, got {found:?}")
            }
            (Some(found), _, Some(pattern)) if !pattern.0.is_match(found) => {
                format!("nothing matches `{}` in {found:?}", pattern.0)
            }
            _ => return Ok(()),
        };
        let change = match found {
            Some(found) => Change::set(path, found.into()),
            None => Change::set(path, false.into()),
        };
        self.wrong.push(at.mismatch(&what, text).with(change));
        Ok(())
    }

    fn body(&mut self, at: &At<'_>, found: &[u8], rule: &Rule, what: &str) -> Result<(), String> {
        if let Some(different) = judge::bytes(found, rule, self.known())? {
            let change = Change::set(at.expect(what), told(found, rule, &self.values));
            self.wrong.push(at.mismatch(what, different).with(change));
        }
        Ok(())
    }

    fn calls(&mut self, at: &At<'_>, from: usize, expect: &Expect) -> Result<(), String> {
        let heard = self.world.ear.heard();
        let calls = heard.calls.iter().skip(from).map(ToString::to_string);
        let calls = calls.collect::<Vec<_>>();
        drop(heard);
        if let Some(expected) = &expect.calls
            && let Some(different) = judge::calls(&calls, expected, &self.values)?
        {
            let list = calls.iter().map(String::as_str).collect::<toml_edit::Array>();
            let change = Change::set(at.expect("calls"), list.into());
            self.wrong.push(at.mismatch("calls", different).with(change));
        }
        for start in &expect.no_calls {
            let start = self.values.fill(start)?;
            if let Some(call) = calls.iter().find(|call| call.starts_with(&start)) {
                self.wrong.push(at.mismatch("calls", format!("`{start}` must not be: {call}")));
            }
        }
        Ok(())
    }

    fn job_ran(&mut self, at: &At<'_>, job: &Job, expect: Option<&Expect>) -> Result<(), String> {
        let rule = expect.and_then(|expect| expect.job.clone());
        let Some(rule) = rule else {
            let state = job.state.as_str();
            let text = format!("nothing is expected yet; it {state}: {}", job.message);
            let change = Change::set(at.place.key("expect").key("job").key("state"), state.into());
            self.wrong.push(at.mismatch("job", text).with(change));
            return Ok(());
        };
        if let Some(different) = job_differs(job, &rule, self.known())? {
            self.wrong.push(at.mismatch("job", different));
        }
        Ok(())
    }

    fn job_refused(&mut self, at: &At<'_>, why: &str, expect: Option<&Expect>) {
        let rule = expect.and_then(|expect| expect.job.as_ref());
        let right = rule.is_some_and(|rule| {
            let state = rule.state.as_deref();
            let message = rule.message.as_ref();
            state == Some("refused") && message.is_none_or(|message| message.0.is_match(why))
        });
        if !right {
            self.wrong.push(at.mismatch("job", format!("it is refused: {why}")));
        }
    }
}

/// A step, for messages and for `--update`.
struct At<'a> {
    name: &'a str,
    place: &'a Place,
}

impl At<'_> {
    fn mismatch(&self, what: &str, text: String) -> Mismatch {
        Mismatch::new(&format!("{}: {what}", self.name), text)
    }

    fn expect(&self, key: &str) -> Place {
        self.place.key("expect").key(key)
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

/// How a job is not what it must be.
pub(crate) fn job_differs(
    job: &Job,
    rule: &JobRule,
    known: Known<'_>,
) -> Result<Option<String>, String> {
    let state = job.state.as_str();
    for (what, expected, found) in [
        ("kind", &rule.kind, job.kind.as_str()),
        ("key", &rule.key, &job.key),
        ("state", &rule.state, state),
        ("origin", &rule.origin, &job.origin),
    ] {
        if let Some(expected) = expected {
            let expected = known.values.fill(expected)?;
            if expected != found {
                let why = &job.message;
                return Ok(Some(format!("{what} {expected:?} expected, got {found:?} ({why})")));
            }
        }
    }
    if let Some(pattern) = rule.message.as_ref().filter(|text| !text.0.is_match(&job.message)) {
        return Ok(Some(format!("nothing matches `{}` in {:?}", pattern.0, job.message)));
    }
    if let Some(attempt) = rule.attempt.filter(|attempt| *attempt != job.attempt) {
        return Ok(Some(format!("attempt {attempt} expected, got {}", job.attempt)));
    }
    match &rule.output {
        Some(Short(rule)) => judge::bytes(&job.output, rule, known),
        None => Ok(None),
    }
}

//! What came of one step, held against what the case expects of it.

use keepgate_jobs::Job;

use crate::case::{Expect, HeaderRule, JobRule, Rule, Short};
use crate::judge::{self, Known};
use crate::mismatch::{Change, Mismatch, Place, told};
use crate::play::Player;
use crate::world::Response;

/// A step, for messages and for `--update`.
pub(crate) struct At<'a> {
    pub(crate) name: &'a str,
    pub(crate) place: &'a Place,
}

impl At<'_> {
    fn mismatch(&self, what: &str, text: String) -> Mismatch {
        Mismatch::new(&format!("{}: {what}", self.name), text)
    }

    fn expect(&self, key: &str) -> Place {
        self.place.key("expect").key(key)
    }
}

impl Player<'_> {
    pub(crate) fn response(
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

    pub(crate) fn calls(
        &mut self,
        at: &At<'_>,
        from: usize,
        expect: &Expect,
    ) -> Result<(), String> {
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

    pub(crate) fn job_ran(
        &mut self,
        at: &At<'_>,
        job: &Job,
        expect: Option<&Expect>,
    ) -> Result<(), String> {
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

    pub(crate) fn job_refused(&mut self, at: &At<'_>, why: &str, expect: Option<&Expect>) {
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
    let user = job.user.as_ref().map_or("", |user| &user.name);
    if let Some(expected) = rule.user.as_ref().filter(|expected| *expected != user) {
        return Ok(Some(format!("user {expected:?} expected, got {user:?}")));
    }
    if let Some(attempts) = rule.attempts.filter(|attempts| *attempts != job.attempts) {
        return Ok(Some(format!("{attempts} attempts at most expected, got {}", job.attempts)));
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

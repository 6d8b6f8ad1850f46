//! Compares the result of a step with what the case expects.

use regex::Regex;

use super::{Known, bytes, metrics, shown};
use crate::case::{Expect, HeaderRule, Many, Number, Rule, Short, Step};
use crate::driver::Received;
use crate::fixture::Response;
use crate::mismatch::{Change, Mismatch, Place, written};

/// A step, for messages and for `--update`.
pub(crate) struct At<'a> {
    pub(crate) name: &'a str,
    pub(crate) place: &'a Place,
}

impl At<'_> {
    pub(crate) fn mismatch(&self, what: &str, text: String) -> Mismatch {
        Mismatch::new(&format!("{}: {what}", self.name), text)
    }

    pub(crate) fn expect(&self, key: &str) -> Place {
        self.place.key("expect").key(key)
    }
}

/// All differences, in the order of the checks. Fails if the case is invalid.
pub(crate) fn received(
    received: &Received,
    step: &Step,
    at: &At<'_>,
    known: Known<'_>,
) -> Result<Vec<Mismatch>, String> {
    let mut comparison = Comparison { at, known, wrong: Vec::new() };
    let expect = step.expect.as_ref();
    match received {
        Received::Response(response) => {
            let may_leave = step.leaves.is_some();
            comparison.response(response, expect, may_leave)?;
            for mismatch in &mut comparison.wrong {
                mismatch.came(&response.in_one_line());
            }
        }
        Received::Nothing if expect.is_none_or(|expect| expect.status.is_none()) => {}
        Received::Nothing => {
            let text = "the step did not wait for a reply, so it cannot expect one";
            comparison.wrong.push(at.mismatch("expect", text.to_owned()));
        }
        Received::Closed(_) if expect.is_some_and(|expect| expect.or_closed) => {}
        Received::Closed(why) => {
            let got = format!("the connection ended without a reply: {why}");
            let status = comparison.status_text(expect)?;
            let text = format!("expected {status}; {got}");
            comparison.wrong.push(at.mismatch("status", text).got(got));
        }
        Received::Failed { expected, got } => {
            let text = format!("expected {expected}; {got}");
            comparison.wrong.push(at.mismatch("connection", text).got(got.clone()));
        }
    }
    Ok(comparison.wrong)
}

struct Comparison<'a> {
    at: &'a At<'a>,
    known: Known<'a>,
    wrong: Vec<Mismatch>,
}

impl Comparison<'_> {
    fn response(
        &mut self,
        response: &Response,
        expect: Option<&Expect>,
        may_leave: bool,
    ) -> Result<(), String> {
        let at = self.at;
        if may_leave && response.left && expect.is_none_or(|expect| expect.status.is_none()) {
            return Ok(());
        }
        let Some(expect) = expect else {
            self.nothing_expected(response);
            return Ok(());
        };
        self.status(response, expect)?;
        for (name, Short(rule)) in &expect.headers {
            self.header(response, name, rule)?;
        }
        let pattern = expect.broken.as_ref().map(|pattern| pattern.regex(self.known.values));
        match (pattern.transpose()?, &response.broken) {
            (Some(pattern), Some(why)) if pattern.is_match(why) => {}
            (Some(pattern), found) => {
                let found = found.as_deref().unwrap_or("it ended regularly");
                let text = format!("expected it to break off with `{pattern}`; {found}");
                self.wrong.push(at.mismatch("body", text));
            }
            (None, Some(why)) => {
                let text = format!("it broke off: {why}");
                self.wrong.push(at.mismatch("body", text).got(format!("it broke off: {why}")));
            }
            (None, None) => {}
        }
        if let Some(Short(rule)) = &expect.body
            && let Some(different) = bytes(&response.body, rule, self.known)?
        {
            let change =
                Change::set(at.expect("body"), written(&response.body, rule, self.known.values));
            let size = || format!("{} bytes", response.body.len());
            let got = rule.named.as_ref().map_or_else(String::new, |_| size());
            self.wrong.push(at.mismatch("body", different).with(change).got(got));
        }
        for rule in &expect.metrics {
            if let Some((text, got)) = metrics::differs(&response.body, rule, self.known.values)? {
                self.wrong.push(at.mismatch("metrics", text).got(got));
            }
        }
        if expect.closed && response.closed != Some(true) {
            let text = "expected the connection to be closed after the reply; it stays open, or more bytes arrive";
            let got = "it stays open, or more bytes arrive".to_owned();
            self.wrong.push(at.mismatch("connection", text.to_owned()).got(got));
        }
        self.reason(response, expect);
        Ok(())
    }

    fn reason(&mut self, response: &Response, expect: &Expect) {
        let Some(expected) = &expect.reason else { return };
        let (word, why) = match &response.reason {
            Some((word, why)) => (*word, why.as_str()),
            None => ("reply", "the plugin replied"),
        };
        if word != expected {
            let text = format!("expected `{expected}`, got `{word}`: {why}");
            let change = Change::set(self.at.expect("reason"), word.into());
            self.wrong.push(self.at.mismatch("reason", text).with(change));
        }
    }

    fn nothing_expected(&mut self, response: &Response) {
        let mut text = format!("the step has no expectation; the status is {}", response.status);
        if !response.body.is_empty() {
            text.push_str(&format!(" with:\n{}", shown(&response.body)));
        }
        let status = Change::set(self.at.expect("status"), i64::from(response.status).into());
        let mut mismatch = self.at.mismatch("expect", text).with(status);
        if !response.body.is_empty() {
            let body = written(&response.body, &Rule::default(), self.known.values);
            mismatch = mismatch.with(Change::set(self.at.expect("body"), body));
        }
        self.wrong.push(mismatch);
    }

    /// The accepted statuses, for people.
    fn status_text(&self, expect: Option<&Expect>) -> Result<String, String> {
        let Some(Many(statuses)) = expect.and_then(|expect| expect.status.as_ref()) else {
            return Ok("a status".to_owned());
        };
        if statuses.iter().any(Number::is_any) {
            return Ok("a reply".to_owned());
        }
        let all = statuses.iter().map(|number| number.get(self.known.values));
        let all = all.collect::<Result<Vec<_>, _>>()?;
        Ok(all.iter().map(u64::to_string).collect::<Vec<_>>().join(" or "))
    }

    fn status(&mut self, response: &Response, expect: &Expect) -> Result<(), String> {
        let found = response.status;
        let mut right = false;
        for status in expect.status.iter().flat_map(|Many(statuses)| statuses) {
            right |= status.is_any() || status.get(self.known.values)? == u64::from(found);
        }
        if right {
            return Ok(());
        }
        let expected = self.status_text(Some(expect))?;
        let mut text = format!("expected {expected}, got {found}");
        if response.left {
            text = format!("expected {expected}; the client had disconnected");
        }
        if let Some((word, why)) = &response.reason {
            text.push_str(&format!("\nno reply ({word}): {why}"));
        }
        if !response.body.is_empty() {
            text.push_str(&format!("\nthe reply says: {}", shown(&response.body).trim_end()));
        }
        let change = Change::set(self.at.expect("status"), i64::from(found).into());
        self.wrong.push(self.at.mismatch("status", text).with(change));
        Ok(())
    }

    fn header(&mut self, response: &Response, name: &str, rule: &HeaderRule) -> Result<(), String> {
        let found = response.header_values(name);
        let Some(text) = header_differs(&found, rule, self.known)? else { return Ok(()) };
        let path = self.at.expect("headers").key(name);
        let change = match found.as_slice() {
            [] => Change::set(path, false.into()),
            [found] => Change::set(path, (*found).into()),
            _ => Change::set(path, true.into()),
        };
        let got = match found.as_slice() {
            [] => format!("no {name}"),
            found => format!("{name}: {}", found.join(" | ")),
        };
        let what = format!("header {name}");
        self.wrong.push(self.at.mismatch(&what, text).with(change).got(got));
        Ok(())
    }
}

/// How the values of a header differ from a rule.
fn header_differs(
    found: &[&str],
    rule: &HeaderRule,
    known: Known<'_>,
) -> Result<Option<String>, String> {
    let all = found.join(", ");
    if rule.absent {
        return Ok((!found.is_empty()).then(|| format!("expected none, got {all:?}")));
    }
    if found.is_empty() {
        return Ok(match &rule.words {
            Some(words) if self::words(words).is_empty() => None,
            _ => Some("is missing".to_owned()),
        });
    }
    if let Some(expected) = &rule.exact {
        let expected = known.values.fill(expected)?;
        return Ok((found != [expected.as_str()])
            .then(|| format!("expected {expected:?}, got {:?}", found.join(" | "))));
    }
    if let Some(pattern) = &rule.matches {
        let pattern: Regex = pattern.regex(known.values)?;
        if !pattern.is_match(&all) {
            return Ok(Some(format!("nothing matches `{pattern}` in {all:?}")));
        }
        return Ok(None);
    }
    if let Some(expected) = &rule.words {
        return Ok((words(&all) != words(expected))
            .then(|| format!("expected exactly the words {expected:?}, got {all:?}")));
    }
    Ok((found.len() > 1).then(|| format!("occurs {} times: {all:?}", found.len())))
}

/// Comma-separated words, in upper case and sorted.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<_> = text.split(',').map(|word| word.trim().to_ascii_uppercase()).collect();
    words.retain(|word| !word.is_empty());
    words.sort();
    words
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::case::Values;

    fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Received {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let (headers, body) = (headers.collect(), body.as_bytes().to_vec());
        Received::Response(Response { status, headers, body, ..Response::default() })
    }

    fn wrong(expect: &str, found: &Received) -> Vec<Mismatch> {
        let text = format!("send = \"GET /\"\n[expect]\n{expect}");
        let step: Step = toml::from_str(&text).unwrap();
        let (values, place) = (Values::default(), Place::case(0));
        let at = At { name: "step 1", place: &place };
        let known = Known { folder: Path::new("."), values: &values };
        received(found, &step, &at, known).unwrap()
    }

    #[test]
    fn statuses_and_headers() {
        let refusal = reply(405, &[("allow", "GET, HEAD"), ("x", "1")], "Method Not Allowed\n");
        for right in [
            "status = 405",
            "status = [404, 405]",
            "status = \"*\"",
            "status = 405\nheaders = { allow = { words = \"HEAD,get\" }, x = \"1\", server = false }",
            "status = 405\nheaders = { x = { matches = \"^1\" } }",
        ] {
            assert!(wrong(right, &refusal).is_empty(), "{right}");
        }
        let found = wrong("status = 404", &refusal);
        assert!(found[0].text.starts_with("expected 404, got 405"), "{found:?}");
        assert!(found[0].got.starts_with("status 405 [allow: GET, HEAD, x: 1]"), "{found:?}");
        let found = wrong("status = 405\nheaders = { y = true }", &refusal);
        assert!(found[0].got.starts_with("no y; status 405 ["), "{found:?}");
        for rule in ["allow = { words = \"GET\" }", "x = false", "x = { matches = \"^2\" }"] {
            let rule = format!("status = 405\nheaders = {{ {rule} }}");
            assert_eq!(wrong(&rule, &refusal).len(), 1, "{rule}");
        }
        let twice = reply(200, &[("x", "1"), ("x", "1")], "");
        for rule in ["x = \"1\"", "x = true"] {
            assert_eq!(wrong(&format!("status = 200\nheaders = {{ {rule} }}"), &twice).len(), 1);
        }
    }

    #[test]
    fn bodies() {
        let list = reply(200, &[], "[\"b\",\"a\"]");
        let body = |rule: &str| wrong(&format!("status = 200\nbody = {rule}"), &list).len();
        assert_eq!(body("{ set = [\"a\", \"b\"] }"), 0);
        for rule in [
            "{ json = [\"a\", \"b\"] }",
            "{ set = [\"a\"] }",
            "{ set = [\"a\", \"b\", \"b\"] }",
            "\"[]\"",
            "{ matches = \"^a\" }",
            "{ lacks = \"b\" }",
        ] {
            assert_eq!(body(rule), 1, "{rule}");
        }
        assert_eq!(wrong("status = 200\nclosed = true", &list).len(), 1);
    }

    #[test]
    fn a_connection_may_end_without_a_reply_only_if_the_case_says_so() {
        let closed = Received::Closed("reset".to_owned());
        let found = wrong("status = 200", &closed);
        assert_eq!(found[0].got, "the connection ended without a reply: reset");
        assert!(wrong("status = 200\nor_closed = true", &closed).is_empty());
    }
}

//! What a reply must be. Each check says on its own what was right and what came.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use crate::client::Reply;
use crate::conformance::Failure;
use crate::conformance::case::{Metric, Rule, Scalar, Step};
use crate::conformance::exchange::Outcome;
use crate::conformance::fill::Values;

/// Bytes of a body that are shown.
const SHOWN: usize = 120;

/// Holds an outcome against what the step expects.
pub fn outcome(step: &Step, outcome: &Outcome, values: &Values) -> Result<(), Failure> {
    match outcome {
        Outcome::Nothing => Ok(()),
        Outcome::Silence => {
            Err(Failure::new("a reply, or the end of the connection", "neither within a minute"))
        }
        Outcome::Closed(_) if step.or_closed => Ok(()),
        Outcome::Closed(why) => {
            let status = step.status.as_ref().map(|status| {
                let all: Vec<_> = status.list().iter().map(Scalar::text).collect();
                format!("status {}", all.join(" or "))
            });
            let status = status.unwrap_or_else(|| "a reply".to_owned());
            Err(Failure::new(status, format!("the connection ended without a reply: {why}")))
        }
        Outcome::Reply(reply, closed) => {
            check(step, reply, values).map_err(|why| why.of(reply))?;
            if step.closed && !closed {
                return Err(Failure::new(
                    "the connection closes after the reply",
                    "it stays open, or more bytes come",
                ));
            }
            Ok(())
        }
    }
}

/// What was expected, and what came where that is not the whole reply.
struct Wrong(String, Option<String>);

impl Wrong {
    fn of(self, reply: &Reply) -> Failure {
        let got = self.1.map_or_else(String::new, |part| format!("{part}; "));
        Failure::new(self.0, format!("{got}{}", show(reply)))
    }
}

impl From<String> for Wrong {
    fn from(mistake: String) -> Self {
        Self("data that makes sense".to_owned(), Some(mistake))
    }
}

fn check(step: &Step, reply: &Reply, values: &Values) -> Result<(), Wrong> {
    if let Some(status) = &step.status {
        let mut right = Vec::new();
        for one in status.list() {
            right.push(values.fill(&one.text())?);
        }
        if !right.contains(&reply.status.to_string()) {
            return Err(Wrong(format!("status {}", right.join(" or ")), None));
        }
    }
    for (name, rule) in &step.reply {
        header(name, rule, reply, values)?;
    }
    body(step, reply, values)?;
    if !step.metrics.is_empty() {
        let text = String::from_utf8_lossy(&reply.body);
        for metric in &step.metrics {
            series(metric, &text, values)?;
        }
    }
    Ok(())
}

fn header(name: &str, rule: &Rule, reply: &Reply, values: &Values) -> Result<(), Wrong> {
    let found: Vec<&str> = reply
        .headers
        .iter()
        .filter(|(header, _)| header.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect();
    let got = match found.as_slice() {
        [] => format!("no {name}"),
        all => format!("{name}: {}", all.join(" | ")),
    };
    let wrong = |expected: String| Err(Wrong(expected, Some(got.clone())));
    match (rule, found.as_slice()) {
        (Rule::There(false), []) | (Rule::There(true), [_]) => Ok(()),
        (Rule::There(false), _) => wrong(format!("no header {name}")),
        (Rule::There(true), _) => wrong(format!("a header {name}")),
        (Rule::Exact(right), found) => {
            let right = values.fill(right)?;
            if found == [right.as_str()] { Ok(()) } else { wrong(format!("{name}: {right}")) }
        }
        (Rule::Loose(loose), found) => {
            let all = found.join(", ");
            if let Some(pattern) = &loose.matches
                && (found.is_empty() || !compile(pattern, values)?.is_match(&all))
            {
                return wrong(format!("{name} like /{pattern}/"));
            }
            if let Some(right) = &loose.words
                && words(&all) != words(right)
            {
                return wrong(format!("{name} with exactly {right}"));
            }
            Ok(())
        }
    }
}

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<_> = text.split(',').map(|word| word.trim().to_ascii_uppercase()).collect();
    words.retain(|word| !word.is_empty());
    words.sort();
    words
}

fn body(step: &Step, reply: &Reply, values: &Values) -> Result<(), Wrong> {
    if let Some(name) = &step.gives {
        let whole = values.body(name)?;
        let mut right = whole.bytes.as_slice();
        let mut what = format!("the {} bytes of `{}`", right.len(), values.fill(name)?);
        if let Some(part) = &step.part {
            let part = values.fill(part)?;
            right = slice(right, &part).ok_or_else(|| format!("`{part}` is no part of it"))?;
            what = format!("bytes {part} of `{}`", values.fill(name)?);
        }
        if reply.body != right {
            return Err(Wrong(what, Some(format!("{} bytes", reply.body.len()))));
        }
    }
    let text = String::from_utf8_lossy(&reply.body);
    if let Some(right) = &step.text {
        let right = values.fill(right)?;
        if text != right {
            return Err(Wrong(format!("the body {right:?}"), None));
        }
    }
    if let Some(pattern) = &step.matches
        && !compile(pattern, values)?.is_match(&text)
    {
        return Err(Wrong(format!("a body like /{}/", values.fill(pattern)?), None));
    }
    if let Some(pattern) = &step.lacks
        && let Some(found) = compile(pattern, values)?.find(&text)
    {
        let expected = format!("a body without /{}/", values.fill(pattern)?);
        return Err(Wrong(expected, Some(format!("{:?} in it", found.as_str()))));
    }
    if let Some(right) = &step.json {
        let right = fill_json(right, values)?;
        let got = serde_json::from_slice(&reply.body).ok().map(sorted);
        if got.as_ref() != Some(&sorted(right.clone())) {
            return Err(Wrong(format!("the JSON {right}"), None));
        }
    }
    Ok(())
}

fn slice<'a>(bytes: &'a [u8], part: &str) -> Option<&'a [u8]> {
    let (first, last) = part.split_once('-')?;
    bytes.get(first.parse().ok()?..=last.parse().ok()?)
}

fn sorted(mut value: Value) -> Value {
    if let Value::Array(elements) = &mut value {
        elements.sort_by_cached_key(Value::to_string);
    }
    value
}

fn fill_json(value: &Value, values: &Values) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(values.fill(text)?),
        Value::Array(all) => {
            Value::Array(all.iter().map(|one| fill_json(one, values)).collect::<Result<_, _>>()?)
        }
        Value::Object(all) => Value::Object(
            all.iter()
                .map(|(name, one)| Ok((name.clone(), fill_json(one, values)?)))
                .collect::<Result<_, String>>()?,
        ),
        other => other.clone(),
    })
}

/// A pattern of the data.
pub fn compile(pattern: &str, values: &Values) -> Result<Regex, String> {
    let pattern = values.fill(pattern)?;
    Regex::new(&pattern).map_err(|error| format!("/{pattern}/: {error}"))
}

fn series(metric: &Metric, text: &str, values: &Values) -> Result<(), Wrong> {
    let mut right = BTreeMap::new();
    for (label, value) in &metric.labels {
        right.insert(label.clone(), values.fill(value)?);
    }
    let mut sum = 0.0;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(&metric.name) else { continue };
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once("} ").unwrap_or(("", "")),
            None => match rest.strip_prefix(' ') {
                Some(value) => ("", value),
                None => continue,
            },
        };
        let has = |(label, value): (&String, &String)| {
            let wanted = format!("{label}=\"{value}\"");
            labels.split(',').any(|found| found.trim() == wanted)
        };
        if right.iter().all(has) {
            let number = value.split_whitespace().next().unwrap_or_default();
            sum += number.parse::<f64>().map_err(|_| format!("no number in {line:?}"))?;
        }
    }
    if (sum - metric.value).abs() < 0.5 {
        return Ok(());
    }
    let Metric { name, value, .. } = metric;
    let lines = text.lines().filter(|line| line.starts_with(name.as_str()));
    let got = lines.collect::<Vec<_>>().join(" ");
    Err(Wrong(format!("{name} of {right:?} to be {value}"), Some(format!("{sum}: {got:?}"))))
}

/// A reply in one line.
fn show(reply: &Reply) -> String {
    let Reply { status, headers, body, .. } = reply;
    let headers: Vec<_> = headers
        .iter()
        .filter(|(name, _)| name != "date")
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]);
    let more =
        if body.len() > SHOWN { format!(" (of {} bytes)", body.len()) } else { String::new() };
    format!("status {status} [{}] {text:?}{more}", headers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> Step {
        toml::from_str(text).unwrap()
    }

    fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Outcome {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let (version, body) = ("1.1".to_owned(), body.as_bytes().to_vec());
        Outcome::Reply(Reply { version, status, headers: headers.collect(), body }, false)
    }

    fn fails(expected: &str, reply: &Outcome) -> Failure {
        outcome(&step(expected), reply, &Values::default()).unwrap_err()
    }

    fn passes(expected: &str, reply: &Outcome) {
        outcome(&step(expected), reply, &Values::default()).unwrap();
    }

    #[test]
    fn statuses_and_headers() {
        let refusal = reply(405, &[("allow", "GET, HEAD"), ("x", "1")], "Method Not Allowed\n");
        passes("status = 405", &refusal);
        passes("status = [404, 405]", &refusal);
        passes("reply = { allow = { words = \"HEAD,GET\" }, x = \"1\", server = false }", &refusal);
        let failure = fails("status = 404", &refusal);
        assert_eq!(failure.expected, "status 404");
        assert!(failure.got.contains("405") && failure.got.contains("allow: GET, HEAD"));
        fails("reply = { allow = { words = \"GET\" } }", &refusal);
        fails("reply = { x = false }", &refusal);
        fails("reply = { y = true }", &refusal);
        fails("reply = { x = { matches = \"^2\" } }", &refusal);
        let twice = reply(200, &[("x", "1"), ("x", "1")], "");
        fails("reply = { x = \"1\" }", &twice);
        fails("reply = { x = true }", &twice);
    }

    #[test]
    fn bodies() {
        let list = reply(200, &[], "[\"b\",\"a\"]");
        passes("json = [\"a\", \"b\"]", &list);
        fails("json = [\"a\"]", &list);
        fails("json = [\"a\", \"b\", \"b\"]", &list);
        fails("text = \"[]\"", &list);
        fails("matches = \"^a\"", &list);
        fails("lacks = \"b\"", &list);
        fails("closed = true", &list);
        fails("status = 200", &Outcome::Closed("reset".into()));
        passes("status = 200\nor_closed = true", &Outcome::Closed("reset".into()));
    }

    #[test]
    fn metrics() {
        let text =
            "# TYPE a counter\na{mount=\"/\",repo=\"r\",type=\"data\"} 2\na{repo=\"s\"} 5\nab 7\n";
        let text = reply(200, &[], text);
        passes("metrics = [{ name = \"a\", labels = { repo = \"r\" }, value = 2 }]", &text);
        passes("metrics = [{ name = \"a\", value = 7 }, { name = \"c\", value = 0 }]", &text);
        passes("metrics = [{ name = \"ab\", value = 7 }]", &text);
        fails("metrics = [{ name = \"a\", labels = { repo = \"x\" }, value = 2 }]", &text);
    }
}

//! Compares bytes, replies, calls and jobs with what a case expects, and describes the differences so that a
//! person can act on them.

pub(crate) mod job;
mod metrics;
pub(crate) mod response;

use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use similar::{ChangeTag, TextDiff};
use std::io::Read as _;

use self::response::At;
use crate::case::{Expect, Rule, Short, Values};
use crate::mismatch::{Change, Mismatch};

/// The number of unchanged lines shown around a difference.
const CONTEXT: usize = 3;
/// Differences with more lines than this are truncated.
const MAX_LINES: usize = 60;

/// What else a comparison needs: the folder of files, and the values of placeholders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) values: &'a Values,
}

/// How bytes differ from a rule; `None` if they satisfy it. Fails if the rule is invalid.
pub(crate) fn bytes(found: &[u8], rule: &Rule, known: Known<'_>) -> Result<Option<String>, String> {
    if let Some(exact) = rule.exact(known.folder, known.values)?
        && exact != found
    {
        return Ok(Some(unequal(&exact, found)));
    }
    if let Some(expected) = &rule.sha256 {
        let expected = known.values.fill(expected)?;
        let sum = hex::encode(Sha256::digest(found));
        if sum != expected {
            return Ok(Some(format!("expected SHA-256 {expected}\n     got         {sum}")));
        }
    }
    if let Some(expected) = rule.size
        && expected != found.len() as u64
    {
        return Ok(Some(format!("expected {expected} bytes, got {}", found.len())));
    }
    if let Some(different) = as_json(found, rule, known)? {
        return Ok(Some(different));
    }
    let text = String::from_utf8_lossy(found);
    if let Some(pattern) = &rule.matches
        && !pattern.regex(known.values)?.is_match(&text)
    {
        return Ok(Some(format!("nothing matches `{pattern}` in:\n{}", shown(found))));
    }
    if let Some(pattern) = &rule.lacks
        && let Some(at) = pattern.regex(known.values)?.find(&text)
    {
        let (at, found) = (at.as_str(), shown(found));
        return Ok(Some(format!("`{pattern}` must not match, but matches {at:?} in:\n{found}")));
    }
    if let Some(inner) = &rule.gunzip {
        let mut plain = Vec::new();
        if let Err(error) = GzDecoder::new(found).read_to_end(&mut plain) {
            return Ok(Some(format!("expected gzip ({error}), found:\n{}", shown(found))));
        }
        return Ok(bytes(&plain, &inner.0, known)?.map(|different| indented("gunzip", &different)));
    }
    match &rule.tar {
        Some(files) => archive(found, files, known),
        None => Ok(None),
    }
}

fn as_json(found: &[u8], rule: &Rule, known: Known<'_>) -> Result<Option<String>, String> {
    if let Some(set) = &rule.set {
        let expected = sorted(known.values.fill_json(&set.0)?);
        let Ok(found_json) = serde_json::from_slice::<Value>(found) else {
            return Ok(Some(format!("expected JSON, found:\n{}", shown(found))));
        };
        let found_json = sorted(found_json);
        let differ = found_json != expected;
        return Ok(differ.then(|| lines(&pretty(&expected), &pretty(&found_json))));
    }
    let (expected, whole) = match (&rule.json, &rule.has) {
        (Some(json), _) => (&json.0, true),
        (None, Some(json)) => (&json.0, false),
        (None, None) => return Ok(None),
    };
    let expected = known.values.fill_json(expected)?;
    let Ok(found_json) = serde_json::from_slice::<Value>(found) else {
        return Ok(Some(format!("expected JSON, found:\n{}", shown(found))));
    };
    let compared = if whole { found_json } else { pruned(&found_json, &expected) };
    Ok((compared != expected).then(|| lines(&pretty(&expected), &pretty(&compared))))
}

/// An array with its elements in a fixed order.
fn sorted(mut value: Value) -> Value {
    if let Value::Array(elements) = &mut value {
        elements.sort_by_cached_key(Value::to_string);
    }
    value
}

/// A value without the members that `like` does not have.
fn pruned(found: &Value, like: &Value) -> Value {
    match (found, like) {
        (Value::Object(found), Value::Object(like)) => {
            let shared = found.iter().filter_map(|(name, value)| {
                like.get(name).map(|like| (name.clone(), pruned(value, like)))
            });
            Value::Object(shared.collect())
        }
        (Value::Array(found), Value::Array(like)) => {
            let nothing = Value::Null;
            let like = like.iter().chain(std::iter::repeat(&nothing));
            Value::Array(found.iter().zip(like).map(|(one, like)| pruned(one, like)).collect())
        }
        (found, _) => found.clone(),
    }
}

fn archive(
    found: &[u8],
    expected: &std::collections::BTreeMap<String, Short<Rule>>,
    known: Known<'_>,
) -> Result<Option<String>, String> {
    let read = || -> std::io::Result<std::collections::BTreeMap<String, Vec<u8>>> {
        let mut files = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(found).entries()? {
            let mut entry = entry?;
            let name = entry.path()?.to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            files.insert(name, bytes);
        }
        Ok(files)
    };
    let files = match read() {
        Ok(files) => files,
        Err(error) => return Ok(Some(format!("expected a tar archive: {error}"))),
    };
    let filled = expected.iter().map(|(name, rule)| Ok((known.values.fill(name)?, rule)));
    let filled = filled.collect::<Result<std::collections::BTreeMap<_, _>, String>>()?;
    if !files.keys().eq(filled.keys()) {
        let names = |all: &mut dyn Iterator<Item = &String>| {
            all.map(|name| format!("{name}\n")).collect::<String>()
        };
        let (should, is) = (names(&mut filled.keys()), names(&mut files.keys()));
        return Ok(Some(format!("the archive's files:\n{}", lines(&should, &is))));
    }
    for ((name, found), Short(rule)) in files.iter().zip(filled.into_values()) {
        if let Some(different) = bytes(found, rule, known)? {
            return Ok(Some(indented(name, &different)));
        }
    }
    Ok(None)
}

/// How two byte strings differ.
fn unequal(expected: &[u8], found: &[u8]) -> String {
    if let (Ok(expected), Ok(found)) = (std::str::from_utf8(expected), std::str::from_utf8(found)) {
        if let (Ok(expected), Ok(found)) =
            (serde_json::from_str::<Value>(expected), serde_json::from_str::<Value>(found))
            && expected != found
            && (expected.is_object() || expected.is_array())
        {
            return lines(&pretty(&expected), &pretty(&found));
        }
        return lines(expected, found);
    }
    let at = expected.iter().zip(found).take_while(|(one, other)| one == other).count();
    let piece = |bytes: &[u8]| {
        let piece = bytes.get(at..).unwrap_or_default();
        hex::encode(piece.get(..16).unwrap_or(piece))
    };
    format!(
        "expected {} bytes, got {}; they differ from byte {at} on:\n- {}\n+ {}",
        expected.len(),
        found.len(),
        piece(expected),
        piece(found)
    )
}

/// A line-by-line difference: `-` is expected, `+` was found.
pub(crate) fn lines(expected: &str, found: &str) -> String {
    let diff = TextDiff::from_lines(expected, found);
    let mut text = String::new();
    for group in diff.grouped_ops(CONTEXT) {
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            text.push_str(match change.tag() {
                ChangeTag::Delete => "- ",
                ChangeTag::Insert => "+ ",
                ChangeTag::Equal => "  ",
            });
            text.push_str(change.value().trim_end_matches('\n'));
            if change.missing_newline() {
                text.push_str(" (no newline)");
            }
            text.push('\n');
        }
    }
    let count = text.lines().count();
    if count > MAX_LINES {
        text = text.lines().take(MAX_LINES).map(|line| format!("{line}\n")).collect();
        text.push_str(&format!("… and {} more lines\n", count - MAX_LINES));
    }
    // Usually both texts lack a newline at the end, so saying it once would only distract.
    if !expected.ends_with('\n') && !found.ends_with('\n') {
        text = text.replace(" (no newline)", "");
    }
    text.trim_end().to_owned()
}

pub(crate) fn pretty(json: &Value) -> String {
    serde_json::to_string_pretty(json).unwrap_or_default()
}

/// Bytes for people: as text if they are UTF-8, and truncated if they are long.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 1000;
    match std::str::from_utf8(bytes) {
        Ok("") => "(nothing)".to_owned(),
        Ok(text) if text.len() <= MOST => text.to_owned(),
        Ok(text) => format!(
            "{}… ({} bytes)",
            &text.get(..text.floor_char_boundary(MOST)).unwrap_or(""),
            text.len()
        ),
        Err(_) => {
            let start = bytes.get(..32).unwrap_or(bytes);
            format!("{}… ({} bytes)", hex::encode(start), bytes.len())
        }
    }
}

fn indented(name: &str, text: &str) -> String {
    format!("{name}: {}", text.replace('\n', "\n  "))
}

/// How calls differ from the expected ones. An expected line that ends with `*` is a prefix.
fn calls(found: &[String], expected: &[String], values: &Values) -> Result<Option<String>, String> {
    let expected = expected.iter().map(|line| values.fill(line));
    let expected = expected.collect::<Result<Vec<_>, _>>()?;
    let matches = |found: &str, line: &str| match line.strip_suffix('*') {
        Some(start) => found.starts_with(start),
        None => found == line,
    };
    let equal = found.len() == expected.len()
        && found.iter().zip(&expected).all(|(found, line)| matches(found, line));
    if equal {
        return Ok(None);
    }
    // A call that matches a line with `*` is shown as that line, so that only real differences are marked.
    let like = |found: &String| {
        expected.iter().find(|line| matches(found, line)).unwrap_or(found).clone() + "\n"
    };
    let should: String = expected.iter().map(|line| format!("{line}\n")).collect();
    let is: String = found.iter().map(like).collect();
    Ok(Some(lines(&should, &is)))
}

/// How the calls that a plugin made in a step differ from the step's expectations.
pub(crate) fn calls_made(
    made: &[String],
    expect: &Expect,
    at: &At<'_>,
    values: &Values,
) -> Result<Vec<Mismatch>, String> {
    let mut wrong = Vec::new();
    if let Some(expected) = &expect.calls
        && let Some(different) = calls(made, expected, values)?
    {
        let list = made.iter().map(String::as_str).collect::<toml_edit::Array>();
        let change = Change::set(at.expect("calls"), list.into());
        wrong.push(at.mismatch("calls", different).with(change));
    }
    for start in &expect.no_calls {
        let start = values.fill(start)?;
        if let Some(call) = made.iter().find(|call| call.starts_with(&start)) {
            wrong.push(at.mismatch("calls", format!("forbidden call (`{start}`): {call}")));
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{FromShort as _, Json};
    use serde_json::json;

    fn judged(found: &[u8], rule: &Rule) -> Option<String> {
        let values = Values::default();
        bytes(found, rule, Known { folder: Path::new("."), values: &values }).unwrap()
    }

    #[test]
    fn texts_differ_line_by_line() {
        assert_eq!(judged(b"a\nb\n", &Rule::from_text("a\nb\n")), None);
        let said = judged(b"a\nc\n", &Rule::from_text("a\nb\n")).unwrap();
        assert_eq!(said, "  a\n- b\n+ c");
        let said = judged(b"\xff\x00\x01", &Rule { hex: Some("ff0002".into()), ..Rule::default() });
        assert!(said.unwrap().contains("differ from byte 2 on:\n- 02\n+ 01"));
    }

    #[test]
    fn json_may_have_more_members_than_are_asked_for() {
        let has = |value| Rule { has: Some(Json(value)), ..Rule::default() };
        let found = br#"{"a":1,"b":{"c":[{"d":1,"e":2}]},"f":null}"#;
        assert_eq!(judged(found, &has(json!({"b": {"c": [{"e": 2}]}, "f": null}))), None);
        let said = judged(found, &has(json!({"b": {"c": [{"e": 3}]}}))).unwrap();
        assert!(said.contains("-           \"e\": 3") || said.contains("\"e\": 3"), "{said}");
        assert!(judged(found, &has(json!({"b": {"c": []}}))).is_some());
        assert!(judged(found, &has(json!({"none": null}))).is_some());
        assert!(judged(b"{", &has(json!({}))).unwrap().contains("expected JSON"));
    }

    #[test]
    fn calls_may_be_told_by_their_beginnings() {
        let lines = |all: &[&str]| all.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let found = lines(&["blobs.open main", "blobs.put main a absent"]);
        let values = Values::default();
        let judged = |expected: &[&str]| calls(&found, &lines(expected), &values).unwrap();
        assert_eq!(judged(&["blobs.open main", "blobs.put*"]), None);
        let said = judged(&["blobs.put*"]).unwrap();
        assert_eq!(said, "+ blobs.open main\n  blobs.put*");
    }
}

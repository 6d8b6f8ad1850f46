//! Reports as text, as JSON and as JUnit XML.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::runner::{Outcome, Ran, Report};

/// How many lines of the trace are shown for a failed case.
const MAX_CALLS: usize = 60;

/// Lists each failed case with its differences and its trace, then why cases were skipped, then the summary.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut reasons = BTreeMap::<&str, usize>::new();
    for skipped in &report.skipped {
        *reasons.entry(&skipped.why).or_default() += 1;
    }
    for ran in &report.ran {
        if let Some(failure) = failure(report, ran) {
            let (name, file, line) = (&ran.name, ran.file.display(), ran.line);
            let _ = writeln!(text, "FAILED {name} ({file}:{line})");
            let _ = writeln!(text, "{failure}");
        }
    }
    for (why, count) in reasons {
        let cases = if count == 1 { "case" } else { "cases" };
        let _ = writeln!(text, "skipped {count} {cases}: {why}");
    }
    let _ = writeln!(text, "{}", sum(report));
    text
}

/// The summary on one line: how many cases had which result, and how long they took.
pub fn sum(report: &Report) -> String {
    let mut text = format!("{} passed, {} failed", report.right(), report.wrong());
    let broken = report.broken().len();
    if broken > 0 {
        let _ = write!(text, ", {broken} broken");
    }
    if report.known() > 0 {
        let _ = write!(text, ", {} different as listed", report.known());
    }
    if !report.skipped.is_empty() {
        let _ = write!(text, ", {} skipped", report.skipped.len());
    }
    if report.left_out > 0 {
        let _ = write!(text, ", {} left out", report.left_out);
    }
    let _ = write!(text, " in {:.2} s", report.took.as_secs_f64());
    if report.unseen > 0 {
        let _ = write!(text, "; the final state of {} is not visible from outside", report.unseen);
    }
    if report.repeated > 0 {
        let (count, what) =
            (report.repeated, "the server reset the connection before its reply was read");
        let _ = write!(text, "; {count} requests repeated: {what}");
    }
    text
}

/// The whole report as JSON.
pub fn json(report: &Report) -> Value {
    let cases = report.ran.iter().map(|ran| {
        let (outcome, differences, did) = match &ran.outcome {
            Outcome::Right => ("passed", Vec::new(), None),
            Outcome::Known(does) => {
                ("known", vec![json!({"what": "difference", "text": does})], None)
            }
            Outcome::Wrong(wrong, did) => {
                let wrong = wrong.iter().map(|one| json!({"what": one.what, "text": one.text}));
                ("failed", wrong.collect(), Some(did))
            }
            Outcome::Broken(broken) => {
                ("broken", vec![json!({"what": "case", "text": broken.to_string()})], None)
            }
        };
        json!({
            "name": ran.name,
            "file": ran.file.display().to_string(),
            "line": ran.line,
            "outcome": outcome,
            "differences": differences,
            "calls": did,
            "seconds": ran.took.as_secs_f64(),
        })
    });
    let skipped = report.skipped.iter();
    let skipped = skipped.map(|skipped| json!({"name": skipped.name, "why": skipped.why}));
    json!({
        "passed": report.right(),
        "failed": report.wrong(),
        "broken": report.broken().len(),
        "known": report.known(),
        "skipped": skipped.collect::<Vec<_>>(),
        "left_out": report.left_out,
        "repeated": report.repeated,
        "seconds": report.took.as_secs_f64(),
        "cases": cases.collect::<Vec<_>>(),
    })
}

/// The report as JUnit XML, which most CI systems read.
pub fn junit(report: &Report, plugin: &str) -> String {
    let (count, wrong, broken) = (report.ran.len(), report.wrong(), report.broken().len());
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"{}\" \
         tests=\"{count}\" failures=\"{wrong}\" errors=\"{broken}\" time=\"{:.3}\">\n",
        escaped(plugin),
        report.took.as_secs_f64()
    );
    for ran in &report.ran {
        let (topic, name) = ran.name.rsplit_once('/').unwrap_or(("", &ran.name));
        let _ = write!(
            xml,
            "<testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.3}\"",
            escaped(topic),
            escaped(name),
            escaped(&ran.file.display().to_string()),
            ran.line,
            ran.took.as_secs_f64()
        );
        let kind = match &ran.outcome {
            Outcome::Right | Outcome::Known(_) => None,
            Outcome::Wrong(wrong, _) => {
                Some(("failure", wrong.first().map_or("", |first| first.what.as_str())))
            }
            Outcome::Broken(broken) => Some(("error", broken.message.as_str())),
        };
        match (kind, failure(report, ran)) {
            (Some((kind, message)), Some(failure)) => {
                let (message, failure) = (escaped(message), escaped(&failure));
                let _ =
                    writeln!(xml, "><{kind} message=\"{message}\">{failure}</{kind}></testcase>");
            }
            _ => xml.push_str("/>\n"),
        }
    }
    xml.push_str("</testsuite>\n</testsuites>\n");
    xml
}

/// Why a case failed, for people.
fn failure(report: &Report, ran: &Ran) -> Option<String> {
    let (wrong, did) = match &ran.outcome {
        Outcome::Right | Outcome::Known(_) => return None,
        Outcome::Broken(broken) => return Some(format!("  {broken}\n")),
        Outcome::Wrong(wrong, did) => (wrong, did),
    };
    let mut text = String::new();
    if let Some(why) = ran.why.as_ref().filter(|_| report.is_over_socket) {
        let _ = writeln!(text, "  why: {why}");
    }
    for mismatch in wrong {
        let _ = writeln!(text, "  {}", mismatch.what);
        for line in mismatch.text.lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    if !did.is_empty() {
        let title =
            if report.is_over_socket { "requests and replies:" } else { "calls of the plugin:" };
        let _ = writeln!(text, "  {title}");
        for call in did.iter().take(MAX_CALLS) {
            let _ = writeln!(text, "    {call}");
        }
        if let Some(more) = did.len().checked_sub(MAX_CALLS).filter(|more| *more > 0) {
            let _ = writeln!(text, "    … and {more} more");
        }
    }
    Some(text)
}

/// Escapes text for XML 1.0, which allows no control characters at all.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_takes_no_control_characters() {
        assert_eq!(escaped("a<b>&\"\u{1}\n"), "a&lt;b&gt;&amp;&quot;\u{fffd}\n");
    }
}

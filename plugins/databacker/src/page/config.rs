//! An instance's configuration: the current one or another revision, and what differs between two of them. Secrets are
//! shown as dots.

use keepgate_sdk::{Call, Failure};
use maud::{Markup, html};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::overview::label;
use super::{minutes, page};
use crate::caller::{Wish, administrator};
use crate::config::document;
use crate::config::revision::{self, Revision};
use crate::instance::Instance;
use crate::problem::{Answer, Problem};
use crate::settings::{Settings, encoded};

/// Members whose values nobody should look at over somebody's shoulder.
const SECRET: [&str; 6] =
    ["password", "secretAccessKey", "accessKeyID", "credentials", "key", "passphrase"];
const REVISIONS: usize = 50;

/// `GET /ui/instances/{id}/config`
pub(crate) fn config(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let instance = admin.instance(&call.param::<String>("id")?)?.instance;
    if instance.revision == 0 {
        return Err(Problem::not_found("the instance has no configuration yet"));
    }
    let asked = |name: &str| call.request.query(name).and_then(|text| text.parse::<u64>().ok());
    let shown = asked("revision").unwrap_or(instance.revision);
    let text = text_of(&instance, shown)?;
    let before = asked("since").map(|since| text_of(&instance, since)).transpose()?;
    let revisions =
        revision::before(&instance.id, None).take(REVISIONS).collect::<Result<Vec<_>, _>>()?;
    let content = html! {
        h1 { "Configuration" }
        p.sub { a href={ "../" (encoded(&instance.id)) } { (label(&instance)) } " · revision " (shown)
            @if shown == instance.revision { ", the current one" }
            @if let Some(since) = asked("since") { ", compared with revision " (since) } }
        section.card { @match &before {
            Some(before) => (difference(before, &text)),
            None => pre { (text) },
        } }
        h2 { "Revisions" }
        div.scroll { table {
            thead { tr { th { "Revision" } th { "Written" } th { "By" } th { "Compared with the one before" } } }
            tbody { @for (index, one) in revisions.iter().enumerate() { tr {
                td { a href={ "?revision=" (one.number()) } { (one.number()) } }
                td.nowrap { (minutes(one.created())) }
                td { (one.by()) }
                td { @if let Some(before) = revisions.get(index + 1) {
                    a href={ "?revision=" (one.number()) "&since=" (before.number()) } { "What changed" }
                } }
            } } }
        } }
    };
    Ok(page(&admin, "../../", "Configuration", &content))
}

/// A revision as indented JSON without its secrets.
fn text_of(instance: &Instance, revision: u64) -> Result<String, Problem> {
    let none = || Problem::not_found("there is no such revision");
    let bytes = Revision::find(&instance.id, revision)?.ok_or_else(none)?.document()?;
    let mut document = document::parse(&bytes.ok_or_else(none)?)
        .map_err(|error| Failure::Internal(format!("revision {revision}: {error}")))?;
    hide(&mut document);
    let text = serde_json::to_string_pretty(&document);
    Ok(text.map_err(|error| Failure::Internal(format!("as JSON: {error}")))?)
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if SECRET.contains(&name.as_str()) => {
                        "•••••".clone_into(text);
                    }
                    value => hide(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(hide),
        _ => {}
    }
}

fn difference(before: &str, after: &str) -> Markup {
    let diff = TextDiff::from_lines(before, after);
    html! {
        pre { @for change in diff.iter_all_changes() {
            @match change.tag() {
                ChangeTag::Equal => { "  " (change.value()) }
                ChangeTag::Insert => { span.added { "+ " (change.value().trim_end_matches('\n')) } }
                ChangeTag::Delete => { span.removed { "- " (change.value().trim_end_matches('\n')) } }
            }
        } }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_dots_and_names_stay() {
        let mut document = json!({"spec": {
            "database": {"server": "db", "credentials": {"username": "u", "password": "p"}},
            "targets": {"a": {"spec": {"secretAccessKey": "s"}}},
            "telemetry": {"credentials": "c"},
        }});
        hide(&mut document);
        let text = document.to_string();
        assert!(text.contains("\"username\":\"u\"") && text.contains("\"server\":\"db\""));
        for secret in ["\"p\"", "\"s\"", "\"c\""] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[test]
    fn what_differs_is_marked_and_escaped() {
        let text = difference("a\nb\n", "a\n<c>\n").into_string();
        assert!(text.contains("<span class=\"removed\">- b</span>"), "{text}");
        assert!(text.contains("<span class=\"added\">+ &lt;c&gt;</span>"), "{text}");
    }
}

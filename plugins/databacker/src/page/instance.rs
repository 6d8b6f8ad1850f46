//! An instance: its runs on a line of time and in a table, its logs, its keys.

use keepgate_sdk::{Call, Timestamp};
use maud::{Markup, html};

use super::overview::label;
use super::{ago, badge, lasted, minutes, none, page, size, timeline};
use crate::caller::{Wish, administrator};
use crate::instance::{self, Activity, Instance, State};
use crate::logs::keep::Log;
use crate::problem::Answer;
use crate::run::Run;
use crate::runs::keep as runs;
use crate::settings::{Settings, encoded};

/// Runs that are asked for, of which all of the last weeks are in the picture.
const RUNS: usize = 400;
/// Runs in the table.
const LINES: usize = 50;
const LOGS: usize = 20;

/// `GET /ui/instances/{id}`
pub(crate) fn instance(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let found = admin.past_instance(&call.param::<String>("id")?)?;
    let activity = instance::activities(&[&found.id])?.pop().unwrap_or_default();
    let newest = runs::newest(&found.id, RUNS)?;
    let logs = Log::newest(&found.id, LOGS)?;
    let content = html! {
        h1 { (label(&found)) }
        p.sub { (found.id) (state(found.state)) }
        (facts(&found, &activity, newest.first()))
        h2 { "Runs" }
        @if newest.is_empty() {
            section.card { p { "No run has been reported yet. An instance reports its runs if the telemetry of its \
                configuration leads here." } }
        } @else {
            section.card { (timeline::runs(&newest, Timestamp::now())) }
            (table(&newest))
        }
        @if !logs.is_empty() {
            h2 { "Logs" }
            div.scroll { table {
                thead { tr { th { "Log" } th { "Last line" } th.number { "Size" } } }
                tbody { @for log in &logs { tr {
                    td { a href={ "../logs/" (encoded(&log.id)) } { (log.id) } }
                    td { (ago(log.updated)) }
                    td.number { (size(log.bytes)) }
                } } }
            } }
        }
        h2 { "Keys" }
        (keys(&found, &activity))
    };
    Ok(page(&admin, "../", label(&found), &content))
}

/// That an instance is not active, if it is not.
pub(super) fn state(state: State) -> Markup {
    let word = match state {
        State::Active => return Markup::default(),
        State::Disabled => "disabled",
        State::Removed => "removed",
    };
    html! { " " span class="badge disabled" { (word) } }
}

fn facts(instance: &Instance, activity: &Activity, last: Option<&Run>) -> Markup {
    html! {
        section.card { dl {
            dt { "Last run" }
            dd { @match last {
                Some(run) => { (badge(run.status)) " " (ago(run.start)) @if !run.message.is_empty() { p.message { (run.message) } } }
                None => { (none()) }
            } }
            dt { "Last seen" }
            dd { @match activity.seen { Some(seen) => (ago(seen)), None => "never" } }
            dt { "Account" }
            dd { @if instance.account.is_empty() { (none()) } @else { (instance.account) } }
            dt { "Registered" }
            dd { (minutes(instance.created)) }
            dt { "Configuration" }
            dd { @match instance.revision {
                0 => "none yet",
                revision => a href={ (encoded(&instance.id)) "/config" } { "Revision " (revision) },
            } }
        } }
    }
}

fn table(runs: &[Run]) -> Markup {
    html! {
        h2 { "The newest runs" }
        div.scroll { table {
            thead { tr {
                th { "Began" } th { "Kind" } th { "Status" } th.number { "Took" } th.number { "Size" } th.wide { "Databases" }
            } }
            tbody { @for run in runs.iter().take(LINES) { tr {
                td.nowrap { a href={ "../runs/" (encoded(&run.id)) } { (minutes(run.start)) } }
                td { (super::run::kind(run.kind)) }
                td { (badge(run.status)) }
                td.number { @match run.end { Some(end) => (lasted(end.since(run.start))), None => (none()) } }
                td.number { @match run.bytes { Some(bytes) => (size(bytes)), None => (none()) } }
                td.wide { (run.databases.join(", ")) }
            } } }
        } }
    }
}

fn keys(instance: &Instance, activity: &Activity) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "Key" } th { "Algorithm" } th.wide { "Added" } th { "Last used" } } }
            tbody { @for key in &instance.keys { tr {
                td { code { (key.kid) } }
                td { (format!("{:?}", key.algorithm)) }
                td.wide.nowrap { (minutes(key.created)) }
                td { @match activity.keys.get(&key.kid) { Some(used) => (ago(*used)), None => "never" } }
            } } }
        } }
    }
}

//! A run: how it went, its targets, and how long each phase took.

use keepgate_sdk::{Call, Timestamp};
use maud::{Markup, html};

use super::overview::label;
use super::timeline::{Bar, bars};
use super::{badge, lasted, minutes, none, page, size};
use crate::caller::{Wish, administrator};
use crate::logs::keep::Log;
use crate::problem::{Answer, Problem};
use crate::run::{Kind, Run, Status};
use crate::runs::keep as runs;
use crate::settings::{Settings, encoded};
use crate::telemetry::spans::Span;
use crate::telemetry::{derive, ingest};

/// Phases in the picture.
const PHASES: usize = 200;

/// `GET /ui/runs/{run}`
pub(crate) fn run(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let id: String = call.param("run")?;
    let none = || Problem::not_found("there is no such run");
    let (index, kept) = runs::find(&id)?.ok_or_else(none)?;
    let instance = admin.past_instance(&index.instance).map_err(|_| none())?;
    let run = kept.at(Timestamp::now());
    let spans = ingest::spans_of(&index.instance, &index.trace)?;
    let phases = spans.iter().filter(|span| !span.parent.is_empty()).take(PHASES);
    let phases: Vec<Bar> = phases
        .map(|span| Bar {
            name: phase_name(span),
            status: derive::status(span),
            start: Timestamp(span.start),
            end: Timestamp(span.end),
        })
        .collect();
    let has_log = Log::find(&run.id)?.is_some_and(|log| log.instance == instance.id);
    let title = format!("{} of {}", kind(run.kind), minutes(run.start));
    let content = html! {
        h1 { (title) }
        p.sub { a href={ "../instances/" (encoded(&instance.id)) } { (label(&instance)) } " · " (run.id) }
        @if !run.message.is_empty() { p.message { (run.message) } }
        (facts(&run, has_log))
        @if !run.targets.is_empty() {
            h2 { "Targets" }
            (targets(&run))
        }
        @if !phases.is_empty() {
            h2 { "Phases" }
            section.card { (bars(&phases)) }
        }
    };
    Ok(page(&admin, "../", &title, &content))
}

/// What a phase is called: several of one name have different objects.
fn phase_name(span: &Span) -> String {
    let of = ["db.name", "backup.target.name"].into_iter().find_map(|name| span.text(name));
    of.map_or_else(|| span.name.clone(), |of| format!("{} {of}", span.name))
}

fn facts(run: &Run, has_log: bool) -> Markup {
    html! {
        section.card { dl {
            dt { "Status" }
            dd { (badge(run.status)) @if let Some(code) = run.exit_code { " exit code " (code) } }
            dt { "Took" }
            dd { (took(run)) }
            dt { "Size" }
            dd { @match run.bytes { Some(bytes) => (size(bytes)), None => (none()) } }
            dt { "Databases" }
            dd { @if run.databases.is_empty() { (none()) } @else { (run.databases.join(", ")) } }
            @if has_log { dt { "Log" } dd { a href={ "../logs/" (encoded(&run.id)) } { "Lines of this run" } } }
        } }
    }
}

fn took(run: &Run) -> String {
    match (run.end, run.status) {
        (Some(end), _) => lasted(end.since(run.start)),
        (None, Status::Running) => format!("{} so far", lasted(Timestamp::now().since(run.start))),
        (None, _) => "unknown".to_owned(),
    }
}

fn targets(run: &Run) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "Target" } th { "Type" } th { "Address" } th { "Status" } } }
            tbody { @for target in &run.targets { tr {
                td { (target.name) } td { (target.kind) } td { (target.url) } td { (badge(target.status)) }
            } } }
        } }
    }
}

/// What a run is called.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Dump => "Dump",
        Kind::Prune => "Prune",
        Kind::Restore => "Restore",
    }
}

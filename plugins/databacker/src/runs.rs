//! `/admin/instances/{id}/runs` and `/admin/runs/{run}`: what instances have done.

pub(crate) mod keep;

use keepgate_sdk::{Call, Page, Request, Timestamp};
use serde_json::{Value, json};

use crate::caller::{Wish, administrator};
use crate::media::{self, Resource};
use crate::problem::{Answer, Problem};
use crate::run::Status;
use crate::settings::Settings;
use crate::telemetry::spans::Span;
use crate::telemetry::{derive, ingest};
use crate::{layout, listing};
use keep::Kept;

const PAGE: usize = 100;
/// A run may have 30 KiB.
const MOST: usize = 500;

/// Which runs a list is of.
struct Wanted {
    status: Option<Status>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// `GET /admin/instances/{id}/runs`
pub(crate) fn list(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let media_type = media::accepted(&call.request, Resource::RunList)?;
    let instance = admin.past_instance(&call.param::<String>("id")?)?;
    let page = Page::of(&call.request, PAGE, MOST)?;
    let (wanted, now) = (Wanted::of(&call.request)?, Timestamp::now());
    let prefix = layout::runs(&instance.id);
    // A key begins with the time of the run, so a time alone is before all runs of its moment.
    let newest = wanted.until.map(layout::newest_first).unwrap_or_default();
    let runs = listing::behind::<Kept>(&prefix, listing::place(&page)?.max(&newest));
    let since = wanted.since.unwrap_or_default().as_secs();
    let runs = runs
        .take_while(|run| run.as_ref().map_or(true, |(_, kept)| kept.run.start.as_secs() >= since));
    let runs = runs.filter(|run| run.as_ref().map_or(true, |(_, kept)| wanted.has(kept, now)));
    let filled = page.fill(runs, |(place, _)| place.clone())?;
    let shown: Result<Vec<Value>, _> =
        filled.items.iter().map(|(_, kept)| kept.shown(now)).collect();
    media::list(&call.request, &media_type, &filled, &shown?)
}

/// `GET /admin/runs/{run}`
pub(crate) fn get(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let media_type = media::accepted(&call.request, Resource::Run)?;
    let none = || Problem::not_found("there is no such run");
    let (index, kept) = keep::find(&call.param::<String>("run")?)?.ok_or_else(none)?;
    admin.past_instance(&index.instance).map_err(|_| none())?;
    let mut shown = kept.shown(Timestamp::now())?;
    let spans = ingest::spans_of(&index.instance, &index.trace)?;
    if let Some(members) = shown.as_object_mut() {
        members.insert("phases".to_owned(), spans.iter().map(phase).collect());
        if kept.dropped > 0 {
            members.insert("droppedSpans".to_owned(), kept.dropped.into());
        }
    }
    media::reply(200, &media_type, &shown)
}

fn phase(span: &Span) -> Value {
    json!({
        "name": span.name,
        "status": derive::status(span),
        "start": Timestamp(span.start),
        "end": Timestamp(span.end),
        "attributes": span.attributes,
    })
}

impl Wanted {
    fn of(request: &Request) -> Result<Self, Problem> {
        let time = |name: &str| match request.query(name) {
            None => Ok(None),
            Some(text) => Timestamp::parse_rfc3339(text).map(Some).ok_or_else(|| {
                let message =
                    format!("{name}: {text:?} is not a time; write it as in 2026-01-31T23:59:58Z");
                Problem::new(400, message)
            }),
        };
        let status = request.query("status").map(|text| {
            serde_json::from_value(text.into()).map_err(|_| {
                let message = format!("status: {text:?} is none of running, ok, error and unknown");
                Problem::new(400, message)
            })
        });
        Ok(Self { status: status.transpose()?, since: time("since")?, until: time("until")? })
    }

    fn has(&self, kept: &Kept, now: Timestamp) -> bool {
        self.status.is_none_or(|status| kept.status(now) == status)
            && self.since.is_none_or(|since| kept.run.start >= since)
            && self.until.is_none_or(|until| kept.run.start <= until)
    }
}

//! A log: its newest lines, and with a script those that come.

use keepgate_sdk::{Call, Failure, Part, Store, Timestamp};
use maud::html;
use serde::Deserialize;

use super::overview::label;
use super::{page, seconds};
use crate::caller::{Wish, administrator};
use crate::layout;
use crate::logs::read::Source;
use crate::problem::Answer;
use crate::settings::{Settings, encoded};

/// Lines on the page, at least, if there are so many.
const LINES: usize = 1000;

/// A line as it is kept, of which this is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    timestamp: Option<Timestamp>,
    level: String,
    message: String,
}

/// The newest lines, in their order, and whether these are all.
fn newest(source: &Source) -> Result<(Vec<Line>, bool), Failure> {
    let (store, pieces) = (Store::open(layout::STORE)?, source.pieces(0)?);
    let (mut newest, mut left) = (Vec::new(), pieces.len());
    for (_, piece) in pieces.iter().rev() {
        if newest.len() >= LINES {
            break;
        }
        left -= 1;
        let bytes = store.get(&piece.key, Part::Whole)?.data.bytes(piece.bytes)?;
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        newest.extend(lines.rev().map(|line| serde_json::from_slice(line).unwrap_or_default()));
    }
    newest.reverse();
    Ok((newest, left == 0))
}

/// `GET /ui/logs/{log}`
pub(crate) fn log(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let id: String = call.param("log")?;
    let source = Source::find(&admin, &id)?;
    let instance = admin.past_instance(&source.instance)?;
    let (lines, are_all) = newest(&source)?;
    let stream = format!("../../admin/logs/{}?follow=true", encoded(&source.id));
    let content = html! {
        h1 { "Log" }
        p.sub {
            a href={ "../instances/" (encoded(&instance.id)) } { (label(&instance)) } " · " (source.id) " · "
            span data-state="" { "as of now" }
        }
        @if !are_all { p.muted { "These are the newest " (lines.len()) " lines." } }
        div.scroll { table {
            thead { tr { th { "Time" } th { "Level" } th { "Message" } } }
            tbody data-follow=[are_all.then_some(&stream)] data-run={ "../../admin/runs/" (encoded(&source.id)) } { @for line in &lines {
                tr class=(if matches!(line.level.as_str(), "error" | "fatal") { "error" } else { "" }) {
                    td.nowrap.muted { @match line.timestamp { Some(time) => (seconds(time)), None => "" } }
                    td { (line.level) } td { (line.message) }
                }
            } }
        } }
        script src="../follow.js" defer {}
    };
    Ok(page(&admin, "../", "Log", &content))
}

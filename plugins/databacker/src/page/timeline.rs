//! Pictures of time, as SVG: runs of the last weeks, and the phases of one run.

use std::time::Duration;

use keepgate_sdk::Timestamp;
use maud::{Markup, html};

use super::{lasted, minutes, size, status_name};
use crate::run::{Run, Status};

const DAY: Duration = Duration::from_secs(86_400);
/// Days in the picture of runs.
pub(super) const DAYS: u32 = 30;
const WIDTH: f64 = 960.0;
const DAY_WIDTH: f64 = WIDTH / 30.0;
/// The height of a day, from its beginning at the top to its end.
const HEIGHT: f64 = 96.0;

/// Runs by day, each at its time of day.
pub(super) fn runs(runs: &[Run], now: Timestamp) -> Markup {
    let today = now.as_secs() / DAY.as_secs();
    let marks = runs.iter().filter_map(|run| {
        let (day, second) =
            (run.start.as_secs() / DAY.as_secs(), run.start.as_secs() % DAY.as_secs());
        let back = today.checked_sub(day).filter(|back| *back < u64::from(DAYS))?;
        let x = WIDTH - (number(back) + 1.0) * DAY_WIDTH;
        let y = number(second) / DAY.as_secs_f64() * HEIGHT;
        Some((run, x, y))
    });
    html! {
        svg viewBox=(format!("-40 -6 {} {}", WIDTH + 44.0, HEIGHT + 30.0)) role="img" aria-label="Runs of the last 30 days" {
            @for (hour, label) in [(0.0, "00:00"), (0.5, "12:00"), (1.0, "24:00")] {
                line class="grid" x1="0" x2=(WIDTH) y1=(hour * HEIGHT) y2=(hour * HEIGHT) {}
                text x="-38" y=(hour * HEIGHT + 4.0) { (label) }
            }
            @for back in (0..u64::from(DAYS)).step_by(5) {
                text x=(WIDTH - (number(back) + 1.0) * DAY_WIDTH) y=(HEIGHT + 18.0) {
                    (date(today.saturating_sub(back)))
                }
            }
            @for (run, x, y) in marks {
                rect class=(format!("fill-{}", status_name(run.status))) x=(x + 3.0) y=(y - 3.0) width=(DAY_WIDTH - 6.0)
                    height="6" rx="2" {
                    title { (told(run)) }
                }
            }
        }
    }
}

fn told(run: &Run) -> String {
    let mut told = format!("{}: {}", minutes(run.start), status_name(run.status));
    if let Some(end) = run.end {
        told.push_str(&format!(", {}", lasted(end.since(run.start))));
    }
    if let Some(bytes) = run.bytes {
        told.push_str(&format!(", {}", size(bytes)));
    }
    told
}

/// Month and day of a day since 1970.
fn date(day: u64) -> String {
    let time = Timestamp(day.saturating_mul(DAY.as_secs()).saturating_mul(1_000_000_000));
    time.to_string().get(5..10).unwrap_or_default().to_owned()
}

/// A part of a run, as bars show it.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) status: Status,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

/// Bars one below the other, each from its beginning to its end.
pub(super) fn bars(bars: &[Bar]) -> Markup {
    const ROW: f64 = 22.0;
    const NAMES: f64 = 220.0;
    let from = bars.iter().map(|bar| bar.start).min().unwrap_or(Timestamp(0));
    let until = bars.iter().map(|bar| bar.end).max().unwrap_or(from);
    let whole = until.since(from).as_secs_f64().max(0.001);
    let x =
        |time: Timestamp| NAMES + time.since(from).as_secs_f64() / whole * (WIDTH - NAMES - 90.0);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", ROW * number(bars.len() as u64))) role="img" aria-label="Phases of the run" {
            @for (index, bar) in bars.iter().enumerate() {
                @let y = ROW * number(index as u64);
                text x="0" y=(y + 15.0) { (bar.name) }
                rect class=(format!("fill-{}", status_name(bar.status))) x=(x(bar.start)) y=(y + 5.0)
                    width=((x(bar.end) - x(bar.start)).max(2.0)) height="12" rx="2" {}
                text x=(x(bar.end) + 6.0) y=(y + 15.0) { (lasted(bar.end.since(bar.start))) }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
fn number(whole: u64) -> f64 {
    whole as f64
}

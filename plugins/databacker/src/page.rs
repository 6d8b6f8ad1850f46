//! Pages for people: instances, their runs on a line of time, configurations with differences, logs. They are made here,
//! under the administrators' login, and can be read without scripts; the one script follows a log.
//!
//! Nothing is changed by these pages: that is what `/admin` is for. Secrets of configurations are not shown.

mod config;
mod instance;
mod log;
mod overview;
mod run;
mod timeline;

use std::time::Duration;

use keepgate_sdk::{Call, Reply, Request, Timestamp};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use crate::caller::Administrator;
use crate::problem::Answer;
use crate::run::Status;
use crate::settings::Settings;

pub(crate) use config::config;
pub(crate) use instance::instance;
pub(crate) use log::log;
pub(crate) use overview::overview;
pub(crate) use run::run;

const CSS: &str = include_str!("page/keepgate.css");
const SCRIPT: &str = include_str!("page/follow.js");
/// What browsers may load: what this mount serves, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// `GET /ui/keepgate.css`
pub(crate) fn css(call: Call<Settings>) -> Answer {
    Ok(asset(&call.request, "text/css; charset=utf-8", CSS))
}

/// `GET /ui/follow.js`
pub(crate) fn script(call: Call<Settings>) -> Answer {
    Ok(asset(&call.request, "text/javascript; charset=utf-8", SCRIPT))
}

/// `GET /ui`: links are relative to the folder.
pub(crate) fn folder(call: Call<Settings>) -> Answer {
    Ok(Reply::new(308).header("location", call.request.url(&["ui", ""])))
}

/// What pages refer to. Browsers ask each time whether it has changed, as it may with a new version of the plugin.
fn asset(request: &Request, media_type: &str, text: &str) -> Reply {
    let tag = hex::encode(Sha256::digest(text));
    let reply = match request.has_version(&tag) {
        true => Reply::new(304),
        false => Reply::ok().header("content-type", media_type).bytes(text),
    };
    reply
        .header("etag", format!("\"{tag}\""))
        .header("cache-control", "no-cache")
        .header("x-content-type-options", "nosniff")
}

/// A page. `up` leads from its path to `/ui/`.
fn page(admin: &Administrator, up: &str, title: &str, content: &Markup) -> Reply {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Keepgate" }
                link rel="stylesheet" href={ (up) "keepgate.css" };
            }
            body {
                header { div { a href={ (up) "./" } { "Keepgate · database backups" } span { (admin.name) } } }
                main { (content) }
            }
        }
    };
    Reply::ok()
        .header("content-type", "text/html; charset=utf-8")
        .header("cache-control", "no-store")
        .header("content-security-policy", POLICY)
        .header("x-content-type-options", "nosniff")
        .header("referrer-policy", "no-referrer")
        .bytes(markup.into_string())
}

/// A status as a word in its colour.
fn badge(status: Status) -> Markup {
    let name = status_name(status);
    html! { span class={ "badge " (name) } { (name) } }
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Ok => "ok",
        Status::Error => "error",
        Status::Unknown => "unknown",
    }
}

/// A moment as how long ago it was, with its date where a pointer rests.
fn ago(time: Timestamp) -> Markup {
    let since = Timestamp::now().since(time);
    html! { time datetime=(time) title=(minutes(time)) { (rough(since)) " ago" } }
}

/// A moment to the minute, in UTC.
fn minutes(time: Timestamp) -> String {
    let text = time.to_string();
    let date = text.get(..16).unwrap_or(&text).replace('T', " ");
    format!("{date} UTC")
}

/// A moment to the second, in UTC.
fn seconds(time: Timestamp) -> String {
    time.to_string().get(..19).unwrap_or_default().replace('T', " ")
}

/// A duration in its largest unit.
fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How long something took.
fn lasted(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        0..10 => format!("{seconds}.{} s", millis / 100),
        10..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// A number of bytes in a unit that people read.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut whole = format!("{bytes} B");
    let (mut scale, mut next) = (1_u64, units.iter());
    while bytes / scale >= 1024 {
        let Some(unit) = next.next() else { break };
        scale *= 1024;
        let tenths = u128::from(bytes) * 10 / u128::from(scale);
        whole = format!("{}.{} {unit}", tenths / 10, tenths % 10);
    }
    whole
}

/// What stands for nothing.
fn none() -> Markup {
    PreEscaped("<span class=\"muted\">–</span>".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_as_people_write_them() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_600_000, "1.5 MiB")]
        {
            assert_eq!(size(bytes), text);
        }
        assert!(size(u64::MAX).ends_with("TiB"));
        for (seconds, text) in [(59, "59 s"), (61, "1 min"), (7_199, "1 h"), (400_000, "4 days")] {
            assert_eq!(rough(Duration::from_secs(seconds)), text);
        }
        assert_eq!(lasted(Duration::from_millis(1_250)), "1.2 s");
        assert_eq!(lasted(Duration::from_secs(7_300)), "2 h 1 min");
    }
}

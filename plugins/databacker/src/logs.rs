//! Logs of instances: clients send lines, which are one log for each run, and administrators read and follow them.
//!
//! `lines` reads what comes, `receive` stores it, `keep` is what is kept, `read` has the lists and streams.

pub(crate) mod keep;
mod lines;
pub(crate) mod read;
mod receive;

use keepgate_sdk::{Call, Failure, Reply, Timestamp, topics};
use serde_json::json;

use crate::media::{self, Resource};
use crate::problem::{Answer, Problem};
use crate::settings::Settings;
use crate::telemetry::{encoding, inflated, sender};
use receive::Delivery;

const NDJSON: &str = "application/x-ndjson";
/// The most bytes of a body, as it was sent and after it was decompressed.
const MOST: u64 = 4 << 20;

/// `GET …/log`: a client asks whether it may send. Old ones do not back up without a 200.
pub(crate) fn probe(call: Call<Settings>) -> Answer {
    let instance = sender(&call)?;
    let media_type = media::accepted(&call.request, Resource::LogStatus)?;
    let url = call.settings.url(&call.request, &["engines", "telemetry", &instance.id, "log"]);
    media::reply(200, &media_type, &json!({"log": url}))
}

/// `POST …/log`
pub(crate) fn receive(mut call: Call<Settings>) -> Answer {
    let instance = sender(&call)?;
    media::require_or(&call.request, Resource::Log, &[NDJSON])?;
    let encoding = encoding(&call.request)?;
    let body = std::mem::replace(&mut call.request.body, keepgate_sdk::Body::from_bytes(&[]));
    let body = inflated(body, encoding, MOST, MOST).bytes(MOST).map_err(too_long)?;
    let delivery = Delivery::new(&instance.id, &body);
    let logs = match delivery.known()? {
        Some(log) => vec![log],
        None => {
            let groups = lines::parse(&body, Timestamp::now())?;
            drop(body);
            let logs = delivery.store(groups, call.settings.keep.log_bytes())?;
            logs.iter().for_each(|log| news(&instance.id, log));
            logs
        }
    };
    let log = logs.first().map(String::as_str).unwrap_or_default();
    Ok(Reply::new(201)
        .header("location", call.settings.url(&call.request, &["admin", "logs", log])))
}

fn too_long(failure: Failure) -> Problem {
    match failure {
        Failure::TooLarge(most) => Problem::new(
            413,
            format!("the body has more than {most} bytes; send the lines in several"),
        ),
        failure => failure.into(),
    }
}

/// Tells those who follow a log that there is news: lines, or the end of its run. They look again anyway after a while, so
/// it does not matter if they are not told.
pub(crate) fn news(instance: &str, log: &str) {
    let _ = topics::publish(&topic(instance, log), b"");
}

/// Where news of a log are published.
fn topic(instance: &str, log: &str) -> String {
    format!("log/{instance}/{log}")
}

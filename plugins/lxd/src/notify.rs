//! Notifications: a POST of JSON when a backup or restore begins, succeeds or fails. Each is a job, so no backup waits
//! for a receiver; one that is not delivered is tried again after 1, 5 and 25 seconds.

use std::time::Duration;

use keepgate_sdk::jobs::{Job, Options, State};
use keepgate_sdk::upstreams::{self, Request};
use keepgate_sdk::{Call, Failure, Timestamp, environment, job_api, jobs, json, secrets};
use serde::{Deserialize, Serialize};

use crate::names::Instance;
use crate::settings::Settings;

/// The kind of job.
pub(crate) const KIND: &str = "notify";
/// The mount's name of the addresses that may be notified.
const UPSTREAM: &str = "notifications";
/// The mount's name of the key that notifications are signed with.
const KEY: &str = "notifications";
/// The parameter with the receiver.
const PARAMETER: &str = "notifyEndpoint";
/// The pauses before it is tried again.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];
/// For the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer, which nobody reads.
const LONGEST: u64 = 64 * 1024;
/// Jobs that are looked through.
const JOBS: u32 = 1000;

/// Who wants to be notified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) url: String,
    /// Path and query of the request, without the receiver.
    pub(crate) raw_url: String,
}

/// What is posted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    op_type: String,
    state: String,
    name: String,
    instance: String,
    started_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    completed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed_at: Option<Timestamp>,
    #[serde(rename = "rawURL")]
    raw_url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Delivery {
    url: String,
    event: Event,
    /// The job that it is about.
    #[serde(default)]
    operation: String,
    #[serde(default)]
    attempt: usize,
}

/// What has become of a notification.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Delivered {
    state: String,
    status: &'static str,
    attempts: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

impl Wanted {
    /// Whom a request wants to have notified.
    pub(crate) fn of(call: &Call<Settings>) -> Result<Option<Self>, Failure> {
        let request = &call.request;
        let Some(url) = request.query(PARAMETER).filter(|url| !url.is_empty()) else {
            return Ok(Self::default_of(&call.settings)
                .map(|wanted| Self { raw_url: without_receiver(&request.target), ..wanted }));
        };
        check_url(url)?;
        if upstreams::names().iter().all(|name| name != UPSTREAM) {
            let why = format!("{PARAMETER}: this gateway notifies nobody that a request names");
            return Err(Failure::Invalid(why));
        }
        // What the host's name leads to is looked at when the notification is sent.
        Request::new("POST", url).check(UPSTREAM).map_err(|failure| match failure {
            Failure::Denied(why) | Failure::Invalid(why) => {
                Failure::Invalid(format!("{PARAMETER}: {url:?}: {why}"))
            }
            failure => failure,
        })?;
        Ok(Some(Self { url: url.to_owned(), raw_url: without_receiver(&request.target) }))
    }

    /// Whom the operator wants to have notified.
    pub(crate) fn default_of(settings: &Settings) -> Option<Self> {
        let url = settings.notify_endpoint.clone()?;
        Some(Self { url, raw_url: String::new() })
    }
}

/// Fails with [`Failure::Invalid`] for what can be no receiver. Which ones are allowed is the host's to decide.
pub(crate) fn check_url(url: &str) -> Result<(), Failure> {
    let invalid = |why: &str| Failure::Invalid(format!("{PARAMETER}: {url:?}: {why}"));
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let rest = rest.ok_or_else(|| invalid("expected an address with http:// or https://"))?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        return Err(invalid("the host is missing"));
    }
    if host.contains('@') {
        return Err(invalid("an address with a user is not allowed"));
    }
    Ok(())
}

/// Path and query without the receiver, which may have a secret in it.
fn without_receiver(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let kept: Vec<&str> =
        query.split('&').filter(|pair| pair.split('=').next() != Some(PARAMETER)).collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

/// Says that something has begun.
pub(crate) fn started(
    wanted: Option<&Wanted>,
    kind: &str,
    instance: &Instance,
    name: &str,
    job: &Job,
) {
    send(wanted, event(kind, instance, name, job, "started"), job);
}

/// Says how something has ended: well, if there is no error.
pub(crate) fn ended(
    wanted: Option<&Wanted>,
    kind: &str,
    instance: &Instance,
    name: &str,
    job: &Job,
    error: Option<&str>,
) {
    let at = Some(Timestamp(job.ended.unwrap_or_else(environment::now)));
    let event = match error {
        None => Event { completed_at: at, ..event(kind, instance, name, job, "success") },
        Some(error) => Event {
            failed_at: at,
            error: Some(error.to_owned()),
            ..event(kind, instance, name, job, "failed")
        },
    };
    send(wanted, event, job);
}

fn event(kind: &str, instance: &Instance, name: &str, job: &Job, state: &str) -> Event {
    Event {
        op_type: kind.to_owned(),
        state: state.to_owned(),
        name: name.to_owned(),
        instance: instance.name.clone(),
        started_at: Timestamp(job.started.unwrap_or(job.created)),
        completed_at: None,
        failed_at: None,
        raw_url: String::new(),
        error: None,
    }
}

/// Starts the job. A notification that cannot even be started must not harm the backup.
fn send(wanted: Option<&Wanted>, event: Event, job: &Job) {
    let Some(Wanted { url, raw_url }) = wanted else { return };
    let event = Event { raw_url: raw_url.clone(), ..event };
    let delivery = Delivery { url: url.clone(), event, operation: job.id.clone(), attempt: 0 };
    if let Err(failure) = jobs::start_with(KIND, &delivery, &Options::new(url_key(url))) {
        environment::warn("notification not sent", &[("error", &failure.message())]);
    }
}

/// Notifications of one receiver are delivered in order.
fn url_key(url: &str) -> &str {
    let most = url.len().min(256);
    url.get(..most).unwrap_or("receiver")
}

/// Runs the job.
pub(crate) fn run(job: &Job) -> Result<Vec<u8>, Failure> {
    let delivery = Delivery::of(job)?;
    let body = json::to_vec(&delivery.event)?;
    let why = match post(&delivery.url, &body) {
        Ok(()) => return Ok(b"{\"delivered\":true}".to_vec()),
        // The operator does not allow it, and will not in a minute.
        Err(failure @ Failure::Denied(_)) => return Err(failure),
        Err(failure) => failure,
    };
    let Some(pause) = PAUSES.get(delivery.attempt) else {
        return Err(why);
    };
    let at = Timestamp::now().saturating_add(*pause);
    let options = Options::new(url_key(&delivery.url)).not_before(at.0);
    let again = Delivery { attempt: delivery.attempt + 1, ..delivery.clone() };
    jobs::start_with(KIND, &again, &options)?;
    json::to_vec(&serde_json::json!({"delivered": false, "error": why.message(), "again_at": at}))
}

impl Delivery {
    fn of(job: &Job) -> Result<Self, Failure> {
        jobs::input(KIND, &job.input)
    }
}

/// What has become of the notifications of a backup or restore, in their order. Of several attempts, the last counts.
pub(crate) fn of_operation(id: &str) -> Result<Vec<Delivered>, Failure> {
    let mut found: Vec<Delivered> = Vec::new();
    for job in jobs::list(KIND, JOBS)? {
        let Ok(delivery) = Delivery::of(&job) else { continue };
        let state = delivery.event.state;
        if delivery.operation != id || found.iter().any(|newer| newer.state == state) {
            continue;
        }
        let status = match job.state {
            State::Queued | State::Running => "pending",
            State::Succeeded => "delivered",
            State::Failed | State::Cancelled => "failed",
        };
        let error =
            if status == "failed" { job_api::reason(&job).to_owned() } else { String::new() };
        found.push(Delivered { state, status, attempts: delivery.attempt + 1, error });
    }
    found.reverse();
    Ok(found)
}

fn post(url: &str, body: &[u8]) -> Result<(), Failure> {
    let mut request = Request::new("POST", url)
        .header("content-type", "application/json")
        .answer_within(PATIENCE)
        .silent_for(PATIENCE)
        .max_body(LONGEST)
        .body(keepgate_sdk::Body::from_bytes(body));
    if secrets::keys().iter().any(|name| name == KEY) {
        let mac = secrets::hmac_sha256(KEY, body)?;
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        request = request.header("x-keepgate-signature", &format!("sha256={hex}"));
    }
    match request.send(UPSTREAM)?.status() {
        200..=299 => Ok(()),
        status => Err(Failure::Unavailable(format!("the receiver answers {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_an_address_without_a_user() {
        for url in ["http://h", "https://h:8080/x?y=z#w", "http://[::1]/"] {
            assert!(check_url(url).is_ok(), "{url}");
        }
        for url in
            ["", "h", "ftp://h", "http://", "http:///x", "https://u:p@h/", "file:///etc/passwd"]
        {
            assert!(check_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn the_receiver_is_left_out_of_what_is_told() {
        for (target, kept) in [
            ("/x", "/x"),
            ("/x?notifyEndpoint=http%3A%2F%2Fh", "/x"),
            ("/x?a=b&notifyEndpoint=h&c=d", "/x?a=b&c=d"),
            ("/x?notifyEndpoints=h", "/x?notifyEndpoints=h"),
        ] {
            assert_eq!(without_receiver(target), kept);
        }
    }
}

//! All that is asked of LXD's REST API, on the upstream `lxd`. LXD's errors become failures in its own words; a text for
//! clients never has more of LXD than that.

use std::collections::BTreeMap;
use std::time::Duration;

use keepgate_sdk::jobs::{self, State};
use keepgate_sdk::upstreams::{Exchange, Request};
use keepgate_sdk::{Body, Failure, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::names::{DEFAULT_PROJECT, Instance};
use crate::reply;

/// The mount's name of the upstream.
const UPSTREAM: &str = "lxd";
/// The longest answer of LXD that is read, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;
/// Seconds that LXD waits for the end of an operation before it answers that it still runs.
const ROUND: u64 = 20;
/// How long LXD may be away in the middle of an operation.
const AWAY: Duration = Duration::from_secs(5 * 60);
/// The pause before LXD is asked again.
const PAUSE: u64 = 2_000;
/// For the answer to an import after its last byte: LXD never answers some that are cut off.
const IMPORT_ANSWER: Duration = Duration::from_secs(60);

/// LXD, in one project.
#[derive(Clone, Debug)]
pub(crate) struct Lxd {
    project: String,
}

/// An answer of LXD.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    error: String,
    error_code: u16,
    operation: String,
    pub(crate) metadata: Value,
}

/// What is known of an instance.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct InstanceState {
    /// In their order: later ones override earlier ones.
    pub(crate) profiles: Vec<String>,
    expanded_devices: BTreeMap<String, BTreeMap<String, String>>,
}

impl InstanceState {
    /// The storage pool of its root.
    pub(crate) fn pool(&self) -> Option<&str> {
        let is_root =
            |device: &&BTreeMap<String, String>| device.get("path").is_some_and(|path| path == "/");
        self.expanded_devices.values().find(is_root)?.get("pool").map(String::as_str)
    }
}

/// How long LXD may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the whole operation.
    pub(crate) whole: Duration,
    /// Without progress. On a full disk, LXD never ends some of them.
    pub(crate) still: Duration,
    /// Whether the operation reports progress from its beginning on; otherwise only what it has reported counts.
    pub(crate) reports_at_once: bool,
}

/// How an operation ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Success,
    /// LXD forgets operations a few seconds after their end.
    Forgotten,
}

/// An operation of LXD.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Operation {
    status_code: u16,
    err: String,
    /// Changes with each report of progress.
    updated_at: String,
    /// With how many bytes LXD has written, if it counts them.
    metadata: Value,
}

/// What an operation has reported, and when that was new.
struct Reported {
    at: Timestamp,
    updated_at: String,
    /// Whether nothing new means that it stands still.
    counts: bool,
}

impl Lxd {
    pub(crate) fn of(instance: &Instance) -> Self {
        Self { project: instance.project.clone() }
    }

    /// The names of all instances of a project.
    pub(crate) fn instances(project: &str) -> Result<Vec<Instance>, Failure> {
        let lxd = Self { project: project.to_owned() };
        let (_, answer) = lxd.ask(Request::get(&lxd.target("/1.0/instances", &[])))?;
        let urls: Vec<String> = parsed(answer.metadata)?;
        let names = urls.iter().filter_map(|url| url.split('?').next()?.rsplit('/').next());
        Ok(names.filter_map(|name| Instance::new(project, name).ok()).collect())
    }

    /// An instance; `None` if there is none of this name.
    pub(crate) fn instance(&self, name: &str) -> Result<Option<InstanceState>, Failure> {
        self.find(&format!("/1.0/instances/{name}"))?.map(parsed).transpose()
    }

    /// A profile; `None` if there is none of this name.
    pub(crate) fn profile(&self, name: &str) -> Result<Option<Value>, Failure> {
        self.find(&format!("/1.0/profiles/{}", encoded(name)))
    }

    pub(crate) fn has_pool(&self, name: &str) -> Result<bool, Failure> {
        // Pools belong to no project.
        let target = format!("/1.0/storage-pools/{}", encoded(name));
        Ok(self.ask_for(Request::get(&target))?.is_some())
    }

    /// How full a storage pool is, for people; `None` if LXD does not tell.
    pub(crate) fn pool_in_words(&self, name: &str) -> Option<String> {
        let target = format!("/1.0/storage-pools/{}/resources", encoded(name));
        let answer = self.ask_for(Request::get(&target)).ok()??;
        let of = |member: &str| answer.metadata.get("space")?.get(member)?.as_u64();
        let (used, total) = (of("used")?, of("total")?);
        Some(format!("{} of {} MiB of its storage pool {name:?} are used", used >> 20, total >> 20))
    }

    pub(crate) fn create_profile(&self, profile: &Value) -> Result<(), Failure> {
        let target = self.target("/1.0/profiles", &[]);
        self.ask(Request::post_json(&target, profile)?).map(|_| ())
    }

    /// Removes a profile. It is no error if there is none.
    pub(crate) fn delete_profile(&self, name: &str) -> Result<(), Failure> {
        let target = self.target(&format!("/1.0/profiles/{}", encoded(name)), &[]);
        self.ask_for(Request::delete(&target)).map(|_| ())
    }

    /// Begins to make a backup in LXD. Returns the operation.
    pub(crate) fn begin_backup(&self, instance: &str, backup: &Value) -> Result<String, Failure> {
        let target = self.target(&format!("/1.0/instances/{instance}/backups"), &[]);
        let (_, answer) = self.ask(Request::post_json(&target, backup)?)?;
        Ok(answer.operation)
    }

    /// A backup in LXD; `None` if there is none of this name.
    pub(crate) fn backup(&self, instance: &str, name: &str) -> Result<Option<Value>, Failure> {
        self.find(&format!("/1.0/instances/{instance}/backups/{name}"))
    }

    /// Removes a backup from LXD. It is no error if there is none.
    pub(crate) fn delete_backup(
        &self,
        instance: &str,
        name: &str,
    ) -> Result<Option<String>, Failure> {
        let target = self.target(&format!("/1.0/instances/{instance}/backups/{name}"), &[]);
        Ok(self.ask_for(Request::delete(&target))?.map(|answer| answer.operation))
    }

    /// The bytes of a backup, which must be complete: LXD exports half a one without saying so.
    pub(crate) fn export(&self, instance: &str, name: &str) -> Result<Exchange, Failure> {
        let path = format!("/1.0/instances/{instance}/backups/{name}/export");
        let exchange = Request::get(&self.target(&path, &[])).resume().send(UPSTREAM)?;
        match exchange.status() {
            200 => Ok(exchange),
            status => Err(refused(status, &exchange)),
        }
    }

    /// Begins to make an instance of the bytes of a backup. Returns the operation.
    pub(crate) fn import(
        &self,
        name: &str,
        pool: Option<&str>,
        data: Body,
    ) -> Result<String, Failure> {
        let mut request = Request::new("POST", &self.target("/1.0/instances", &[]))
            .header("content-type", "application/octet-stream")
            .header("x-lxd-name", name)
            .answer_within(IMPORT_ANSWER)
            .body(data);
        if let Some(pool) = pool {
            request = request.header("x-lxd-pool", pool);
        }
        let (_, answer) = self.ask(request)?;
        Ok(answer.operation)
    }

    /// Begins to start an instance. Returns the operation.
    pub(crate) fn start(&self, name: &str) -> Result<String, Failure> {
        let target = self.target(&format!("/1.0/instances/{name}/state"), &[]);
        let state = json!({"action": "start", "timeout": 30});
        let (_, answer) = self.ask(Request::new("PUT", &target).json(&state)?)?;
        Ok(answer.operation)
    }

    /// Waits for the end of an operation, while this job runs. Fails in LXD's words if the operation failed, and if it
    /// takes too long or LXD is away for long.
    pub(crate) fn wait(
        &self,
        operation: &str,
        patience: Patience,
        job: &str,
    ) -> Result<Ended, Failure> {
        let id = operation.rsplit('/').next().unwrap_or_default();
        if operation.is_empty() {
            return Ok(Ended::Forgotten);
        }
        let (begun, mut heard) = (Timestamp::now(), Timestamp::now());
        let counts = patience.reports_at_once;
        let mut reported = Reported { at: begun, updated_at: String::new(), counts };
        loop {
            let round = ROUND.to_string();
            let target = self.target(&format!("/1.0/operations/{id}/wait"), &[("timeout", &round)]);
            let request = Request::get(&target).answer_within(Duration::from_secs(3 * ROUND));
            let away = match self.ask_for(request) {
                Ok(None) => return Ok(Ended::Forgotten),
                Ok(Some(answer)) => {
                    heard = Timestamp::now();
                    let operation: Operation = parsed(answer.metadata)?;
                    match operation.status_code {
                        200 => return Ok(Ended::Success),
                        400..=499 => return Err(Failure::refused(400, "", operation.err)),
                        _ => {}
                    }
                    reported.hear(operation);
                    None
                }
                Err(failure @ Failure::Refused(_)) => return Err(failure),
                Err(failure) => Some(failure),
            };
            let now = Timestamp::now();
            if let Some(failure) = away {
                if now.since(heard) > AWAY {
                    return Err(failure);
                }
                // The only way to wait: this job does not leave its state.
                jobs::wait(job, State::Running, PAUSE)?;
            }
            if now.since(begun) > patience.whole {
                let seconds = patience.whole.as_secs();
                let why = format!("LXD has worked on it for {seconds} s and does not end");
                return Err(Failure::refused(504, "", why));
            }
            if reported.counts && now.since(reported.at) > patience.still {
                let seconds = patience.still.as_secs();
                let why = format!("LXD works on it without progress for {seconds} s");
                return Err(Failure::refused(504, "", why));
            }
        }
    }

    fn target(&self, path: &str, more: &[(&str, &str)]) -> String {
        let project = (self.project != DEFAULT_PROJECT).then_some(("project", &*self.project));
        let parameters: Vec<_> = more.iter().copied().chain(project).collect();
        if parameters.is_empty() {
            return path.to_owned();
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(parameters);
        format!("{path}?{}", query.finish())
    }

    fn find(&self, path: &str) -> Result<Option<Value>, Failure> {
        let found = self.ask_for(Request::get(&self.target(path, &[])))?;
        Ok(found.map(|answer| answer.metadata))
    }

    /// An answer; `None` for 404.
    fn ask_for(&self, request: Request) -> Result<Option<Answer>, Failure> {
        match self.ask(request) {
            Ok((_, answer)) => Ok(Some(answer)),
            Err(Failure::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn ask(&self, request: Request) -> Result<(u16, Answer), Failure> {
        let exchange =
            request.max_body(LONGEST).send(UPSTREAM).map_err(|failure| match failure {
                Failure::Unavailable(why) => reply::away(&format!("LXD cannot be reached: {why}")),
                failure => failure,
            })?;
        match exchange.status() {
            status @ 200..=299 => Ok((status, exchange.json(LONGEST)?)),
            status => Err(refused(status, &exchange)),
        }
    }
}

impl Reported {
    fn hear(&mut self, operation: Operation) {
        self.counts |= operation.metadata.is_object();
        if operation.updated_at != self.updated_at {
            *self = Self { at: Timestamp::now(), updated_at: operation.updated_at, ..*self };
        }
    }
}

/// Why LXD refused something.
fn refused(status: u16, exchange: &Exchange) -> Failure {
    let answer: Answer = exchange.json(LONGEST).unwrap_or_default();
    match status {
        404 => Failure::NotFound,
        401 | 403 => reply::away("LXD does not trust the gateway's certificate"),
        _ if answer.error.is_empty() => reply::away(&format!("LXD answers {status}")),
        500.. => Failure::refused(502, "", format!("LXD: {}", answer.error)),
        _ => Failure::refused(400, "", answer.error),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value)
        .map_err(|error| Failure::Unavailable(format!("LXD's answer is not as expected: {error}")))
}

/// A name as a segment of a path.
fn encoded(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

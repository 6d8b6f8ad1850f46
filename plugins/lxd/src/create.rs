//! Starts backups: for a request, and for a schedule.

use keepgate_sdk::jobs::{Job, Options};
use keepgate_sdk::upstreams;
use keepgate_sdk::{Call, Failure, Reply, Store, environment, jobs};
use serde::{Deserialize, Serialize};

use crate::backup::{self, Compression, Input};
use crate::layout::{Folder, shown};
use crate::lxd::Lxd;
use crate::names::{DEFAULT_PROJECT, Instance};
use crate::settings::Settings;
use crate::{notify, query, reply, tags, tidy};

/// The kind of job that schedules start.
pub(crate) const SCHEDULED: &str = "backups";
/// S3's limits of a part, in bytes.
const PARTS: std::ops::RangeInclusive<u64> = 5 * 1024 * 1024..=5 * 1024 * 1024 * 1024;

#[derive(Serialize)]
struct Started {
    name: String,
    optimized: bool,
    compressed: bool,
}

/// What a schedule asks for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Scheduled {
    /// An instance, or `*` for all of them.
    instance: String,
    project: Option<String>,
    optimize: bool,
    compression: Compression,
    instance_only: bool,
}

pub(crate) fn post(call: Call<Settings>) -> Result<Reply, Failure> {
    let request = &call.request;
    request.ignore_body(query::LARGEST_BODY)?;
    let instance = query::instance(&call)?;
    check_part_size(&call)?;
    let input = Input {
        instance: instance.name.clone(),
        project: instance.project.clone(),
        optimize: query::flag(&call, "optimize", false)?,
        instance_only: query::flag(&call, "instance_only", false)?,
        compression: Compression::of(request.query("compression"))?,
        tags: tags::of(request)?,
        notify: notify::Wanted::of(&call)?,
        ..Input::default()
    };
    if Lxd::of(&instance).instance(&instance.name)?.is_none() {
        return Err(Failure::refused(404, "", "Instance not found"));
    }
    let started = Started {
        name: String::new(),
        optimized: input.optimize,
        compressed: input.compression != Compression::None,
    };
    let (id, base) = start(&instance, input)?;
    reply::started(request, &call.settings, &id, Some(Started { name: shown(&base), ..started }))
}

/// The host decides how large parts are; what no server takes is refused as before.
fn check_part_size(call: &Call<Settings>) -> Result<(), Failure> {
    let Some(text) = call.request.query("partSize").filter(|text| !text.is_empty()) else {
        return Ok(());
    };
    match text.parse::<u64>() {
        Ok(0) => Ok(()),
        Ok(size) if PARTS.contains(&size) => Ok(()),
        _ => Err(Failure::Invalid(format!("partSize: {text:?} is not 5 MiB to 5 GiB in bytes"))),
    }
}

/// Claims a name and starts the job. Returns the job's id and the name.
fn start(instance: &Instance, input: Input) -> Result<(String, String), Failure> {
    let (store, folder) = (Store::open("main")?, Folder::of(instance));
    let token: String = environment::random(8).iter().map(|byte| format!("{byte:02x}")).collect();
    let base = folder.claim_name(&store, &serde_json::json!({"token": token}))?;
    let input = Input { base: base.clone(), token, ..input };
    let options = Options::new(&instance.key()).finally(tidy::KIND);
    let started = jobs::start_with(backup::KIND, &input, &options);
    if started.is_err() {
        folder.release_name(&store, &base)?;
    }
    Ok((started?, base))
}

/// The key of a schedule's job.
pub(crate) fn scheduled_key(input: &[u8]) -> Result<String, String> {
    let said = |failure: Failure| failure.message().to_owned();
    let scheduled: Scheduled = jobs::input(SCHEDULED, input).map_err(said)?;
    let project = scheduled.project.as_deref().unwrap_or(DEFAULT_PROJECT);
    if scheduled.instance != "*" {
        Instance::new(project, &scheduled.instance).map_err(said)?;
    }
    if upstreams::names().iter().all(|name| name != "lxd") {
        return Err("the mount has no upstream `lxd`".to_owned());
    }
    Ok(format!("{project}/{}", scheduled.instance))
}

/// Starts a backup of each instance that the schedule means.
pub(crate) fn run_scheduled(job: &Job, settings: &Settings) -> Result<Vec<u8>, Failure> {
    let scheduled: Scheduled = jobs::input(SCHEDULED, &job.input)?;
    let project = scheduled.project.as_deref().unwrap_or(DEFAULT_PROJECT);
    let instances = match scheduled.instance.as_str() {
        "*" => Lxd::instances(project)?,
        name => vec![Instance::new(project, name)?],
    };
    let mut names = Vec::new();
    for instance in instances {
        let input = Input {
            instance: instance.name.clone(),
            project: instance.project.clone(),
            optimize: scheduled.optimize,
            instance_only: scheduled.instance_only,
            compression: scheduled.compression,
            notify: notify::Wanted::default_of(settings),
            ..Input::default()
        };
        let (_, base) = start(&instance, input)?;
        names.push(format!("{}/{}", instance.name, shown(&base)));
    }
    keepgate_sdk::json::to_vec(&names)
}

//! Turns the schedules of a configuration into those of `keepgate_jobs`. The plugin of the mount checks
//! the input and names the job's key; jobs with the same key run one after another. Copies of stores are
//! scheduled, too; no plugin is asked about them.

use keepgate_jobs::{BACKOFF, Missed, Schedule};
use keepgate_runtime::Generation;

use crate::config::{self, Config, Interval};
use crate::copies;

/// The schedules of a configuration, and their problems. A schedule whose plugin is missing or rejects the
/// input is set up anyway: its jobs fail with the reason, so that an alert on the last success fires.
pub(crate) async fn plan(config: &Config, generation: &Generation) -> (Vec<Schedule>, Vec<String>) {
    let (mut plan, mut problems) = (Vec::new(), Vec::new());
    for (name, schedule) in &config.schedule {
        let planned = match planned(name, schedule) {
            Ok(planned) => planned,
            Err(why) => {
                problems.push(format!("schedule {name}: {why}"));
                continue;
            }
        };
        let key = match key(&planned, generation).await {
            Ok(key) => key,
            Err(why) => {
                problems.push(format!("schedule {name}: {why}"));
                None
            }
        };
        plan.push(Schedule { key: key.unwrap_or_else(|| format!("schedule {name}")), ..planned });
    }
    for (name, copy) in &config.copy {
        match copies::schedule(name, copy) {
            Ok(schedule) => plan.push(schedule),
            Err(why) => problems.push(format!("copy {name}: {why}")),
        }
    }
    (plan, problems)
}

/// What happens to missed runs.
pub(crate) fn missed(missed: config::Missed) -> Missed {
    match missed {
        config::Missed::Skip => Missed::Skip,
        config::Missed::Run => Missed::Run,
    }
}

/// A schedule without its key.
fn planned(name: &str, schedule: &config::Schedule) -> Result<Schedule, String> {
    let planned = Schedule {
        name: name.to_owned(),
        mount: schedule.mount.get_ref().clone(),
        kind: schedule.job.get_ref().clone(),
        key: String::new(),
        input: schedule.input().map_err(|error| error.to_string())?,
        when: schedule.when().map_err(config::Problem::into_message)?,
        missed: missed(schedule.missed),
        attempts: schedule.attempts.as_ref().map_or(1, |attempts| *attempts.get_ref()),
        backoff: schedule.backoff.map_or(BACKOFF, |Interval(backoff)| backoff),
    };
    planned.check().map_err(|error| error.to_string())?;
    Ok(planned)
}

/// The key that the plugin gives the job. `None` if the mount does not serve at the moment; it may when the
/// job is due.
async fn key(schedule: &Schedule, generation: &Generation) -> Result<Option<String>, String> {
    let mount = generation.mounts.iter().find(|mount| mount.path() == schedule.mount);
    let mount = mount.ok_or_else(|| format!("unknown mount {:?}", schedule.mount))?;
    mount.check_job(&schedule.kind, &schedule.input).await.transpose()
}

//! Starts backup jobs, waits for them, and reports on them. The job does the work, so a client that
//! disconnects changes nothing.

use std::time::Duration;

use keepgate_sdk::job_api::{self, Outcome};
use keepgate_sdk::jobs::{Job, Options};
use keepgate_sdk::{Call, Failure, Reply, etcd, jobs};
use serde::Serialize;

use crate::backup::{Input, KIND};
use crate::layout::Cluster;
use crate::reply::{NOT_FOUND, NOT_SAVED, Refusal, not_saved};
use crate::settings::Settings;

/// A POST needs no body. A body of up to this many bytes is ignored.
const LARGEST_BODY: u64 = 64 * 1024;

#[derive(Serialize)]
struct Started<'a> {
    message: &'static str,
    job: &'a str,
}

/// Makes a backup, or starts to.
pub(crate) fn post(call: Call<Settings>) -> Result<Reply, Failure> {
    let (request, cluster) = (&call.request, Cluster::of(&call));
    request.ignore_body(LARGEST_BODY)?;
    etcd::require(cluster.name()).map_err(|refused| {
        let why = format!("{}; POST to CLUSTER/api/v1/backup", refused.message());
        Failure::refused(404, NOT_FOUND, why)
    })?;
    let options = Options::new(cluster.name());
    let id = match jobs::start_with(KIND, &Input { cluster }, &options) {
        Err(Failure::Busy(why)) => return Err(busy(why)),
        Err(Failure::TimedOut) => return Err(Failure::TimedOut),
        id => id.map_err(|failure| not_saved(failure.message()))?,
    };
    if request.prefers_async() {
        let path: Vec<&str> = request.path().into_iter().chain(["jobs", &id]).collect();
        let started = Started { message: "backup started", job: &id };
        return job_api::accepted(request, &path, &started);
    }
    match job_api::wait(&id, call.settings.wait()) {
        Ok(Outcome::Succeeded(answer)) => Ok(Reply::ok().json_bytes(answer)),
        Ok(Outcome::Failed(why)) => Err(not_saved(why)),
        Ok(Outcome::NoTurn) => Err(busy("")),
        // The job is no longer kept because many others have ended since. That says nothing about backups.
        Err(Failure::NotFound) => Err(not_saved("nothing is known of the job any more")),
        Err(failure) => Err(failure),
    }
}

fn busy(why: impl Into<String>) -> Failure {
    let busy = Failure::refused(503, "another backup is running", why);
    busy.retry_after(Duration::from_secs(5))
}

/// A job of this cluster. Once it has ended, this includes the response that a POST would have had.
pub(crate) fn status(call: Call<Settings>) -> Result<Reply, Failure> {
    let job = find(&call)?;
    let error = Some(job_api::reason(&job));
    job_api::status(&job, &Refusal { message: NOT_SAVED, error })
}

/// Cancels a job of this cluster.
pub(crate) fn cancel(call: Call<Settings>) -> Result<Reply, Failure> {
    job_api::cancel(&find(&call)?)
}

fn find(call: &Call<Settings>) -> Result<Job, Failure> {
    let (id, cluster) = (call.param::<String>("id")?, Cluster::of(call));
    job_api::find(&id, KIND, |job| {
        Input::parse(&job.input).is_ok_and(|input| input.cluster == cluster)
    })
}

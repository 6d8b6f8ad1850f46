//! etcd-backup's REST API: backups of etcd clusters, made, listed and fetched with curl.
//!
//! | request below the mount | answer |
//! | --- | --- |
//! | `GET`, `HEAD` `/api/v1/backup` | the names of the backups, oldest first; with `?details=true` all that is known |
//! | `POST` `/api/v1/backup` | makes a backup; with `Prefer: respond-async` only starts to |
//! | `GET`, `HEAD`, `DELETE` `/api/v1/backup/NAME` | one backup |
//! | `GET`, `HEAD`, `DELETE` `/api/v1/backup/jobs/ID` | a job that makes one |
//!
//! For another cluster than `main` its name comes first in the path, `/CLUSTER/api/v1/backup`. All replies but
//! the backups themselves are JSON.
//!
//! `job_api` starts jobs and reports on them; `backup` is the job, and ends with `retention`. `list` and `serve`
//! answer without etcd. `layout` says where files are in the store, and `sidecar` what is kept beside each. This
//! plugin's README has the settings and the differences from etcd-backup.

#![expect(clippy::needless_pass_by_value, reason = "a handler owns its call, for the body in it")]

mod backup;
mod job_api;
mod layout;
mod list;
mod metrics;
mod name;
mod reply;
mod retention;
mod serve;
mod settings;
mod sidecar;
mod warning;

use keepgate_sdk::jobs::Job;
use keepgate_sdk::{
    Description, Failure, Jobs, Plugin, Reply, Request, Router, at, is_key_segment,
};

pub use settings::Settings;

/// The plugin.
#[derive(Debug)]
pub struct Etcd;

keepgate_sdk::export!(Etcd, jobs);

impl Plugin for Etcd {
    type Settings = Settings;

    fn describe() -> Description {
        let description = Description::new("etcd", env!("CARGO_PKG_VERSION"))
            .summary("Backups of etcd clusters, a drop-in for etcd-backup")
            .store("main")
            .any_cluster()
            .job(backup::KIND);
        metrics::describe(description)
    }

    fn check(settings: &Settings) -> Result<(), String> {
        settings.check()
    }

    fn handle(request: Request, settings: Settings) -> Result<Reply, Failure> {
        let backups = || at().get(list::get).post(job_api::post);
        let job = || at().get(job_api::status).delete(job_api::cancel);
        let backup = || at().get(serve::get).delete(serve::delete);
        Router::new()
            .segment("cluster", is_key_segment)
            .segment("name", |name| name::FORM.parse(name).is_some())
            .without_options()
            .route("/api/v1/backup", backups())
            .route("/api/v1/backup/jobs/{id}", job())
            .route("/api/v1/backup/{name}", backup())
            .route("/{cluster}/api/v1/backup", backups())
            .route("/{cluster}/api/v1/backup/jobs/{id}", job())
            .route("/{cluster}/api/v1/backup/{name}", backup())
            .handle(request, settings)
    }

    fn refuse(failure: &Failure) -> Option<Reply> {
        failure.reply(reply::refusal)
    }
}

impl Jobs for Etcd {
    fn check_job(_: &str, input: &[u8], _: &Settings) -> Result<String, String> {
        backup::key(input)
    }

    fn run_job(job: Job, settings: Settings) -> Result<Vec<u8>, Failure> {
        backup::run(&job, &settings)
    }
}

#[cfg(test)]
mod tests;

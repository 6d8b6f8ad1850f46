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
//! `route` reads paths. `job_api` starts jobs and reports on them; `backup` is the job, and ends with
//! `retention`. `list` and `serve` answer without etcd. `layout` says where files are in the store, and `sidecar`
//! what is kept beside each. This plugin's README has the settings and the differences from etcd-backup.

mod backup;
mod job_api;
mod layout;
mod list;
mod metrics;
mod name;
mod reply;
mod retention;
mod route;
mod serve;
mod settings;
mod sidecar;

use keepgate_sdk::jobs::Job;
use keepgate_sdk::{Description, Failure, Jobs, Method, Plugin, Reply, Request, Store};

use route::{Resource, Route};
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
            .job(backup::KIND);
        metrics::describe(description)
    }

    fn check(settings: &Settings) -> Result<(), String> {
        settings.check()
    }

    fn handle(request: Request, settings: Settings) -> Result<Reply, Failure> {
        answer(&request, &settings)
    }

    fn refuse(failure: &Failure) -> Option<Reply> {
        failure.reply(reply::refusal)
    }
}

impl Jobs for Etcd {
    fn check_job(kind: &str, input: &[u8], _: &Settings) -> Result<String, String> {
        backup::key(kind, input)
    }

    fn run_job(job: Job, settings: Settings) -> Result<Vec<u8>, Failure> {
        backup::run(&job, &settings)
    }
}

fn answer(request: &Request, settings: &Settings) -> Result<Reply, Failure> {
    let Route { cluster, resource } =
        Route::parse(&request.segments, request.trailing_slash).ok_or(Failure::NotFound)?;
    match (&resource, &request.method) {
        (Resource::Backups, Method::Get | Method::Head) => {
            list::get(&Store::open("main")?, &cluster, request)
        }
        (Resource::Backups, Method::Post) => job_api::post(&cluster, request, settings),
        (Resource::Backups, _) => Err(Failure::method_not_allowed("GET, HEAD, POST")),

        (Resource::Backup(name), Method::Get | Method::Head) => {
            serve::get(&Store::open("main")?, &cluster, name, request)
        }
        (Resource::Backup(name), Method::Delete) => {
            serve::delete(&Store::open("main")?, &cluster, name)
        }
        (Resource::Job(id), Method::Get | Method::Head) => job_api::status(&cluster, id),
        (Resource::Job(id), Method::Delete) => job_api::cancel(&cluster, id),
        (Resource::Backup(_) | Resource::Job(_), _) => {
            Err(Failure::method_not_allowed("GET, HEAD, DELETE"))
        }
    }
}

#[cfg(test)]
mod tests;

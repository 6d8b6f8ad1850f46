//! etcd-backup's REST API: backups of etcd clusters, made, listed and fetched with curl.
//!
//! | request below the mount | answer |
//! | --- | --- |
//! | `GET`, `HEAD` `/api/v1/backup` | names of backups, oldest first; with `?details=true` all that is known |
//! | `POST` `/api/v1/backup` | makes a backup; with `Prefer: respond-async` only begins to |
//! | `GET`, `HEAD`, `DELETE` `/api/v1/backup/NAME` | one backup |
//! | `GET`, `HEAD`, `DELETE` `/api/v1/backup/jobs/ID` | a job that makes one |
//!
//! Other clusters than `main` come first in the path, `/CLUSTER/api/v1/backup`. All answers but
//! backups themselves are JSON.
//!
//! `route` reads paths; `ask` starts jobs and tells of them, `backup` is the job, which ends with
//! `rotate` and the rules in `retain`; `list` and `serve` answer without etcd. `place` and `sidecar`
//! say where things lie. Settings and differences from etcd-backup are in this plugin's README.

mod ask;
mod backup;
mod list;
mod metrics;
mod name;
mod place;
mod reply;
mod retain;
mod rotate;
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
        reply::of_failure(failure)
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
    let Route { place, resource } =
        Route::parse(&request.segments, request.trailing_slash).ok_or(Failure::NotFound)?;
    match (&resource, &request.method) {
        (Resource::Backups, Method::Get | Method::Head) => {
            list::get(&Store::open("main")?, &place, request)
        }
        (Resource::Backups, Method::Post) => ask::post(&place, request, settings),
        (Resource::Backups, _) => reply::not_allowed("GET, HEAD, POST"),

        (Resource::Backup(name), Method::Get | Method::Head) => {
            serve::get(&Store::open("main")?, &place, name, request)
        }
        (Resource::Backup(name), Method::Delete) => {
            serve::delete(&Store::open("main")?, &place, name)
        }
        (Resource::Job(id), Method::Get | Method::Head) => ask::status(&place, id),
        (Resource::Job(id), Method::Delete) => ask::cancel(&place, id),
        (Resource::Backup(_) | Resource::Job(_), _) => reply::not_allowed("GET, HEAD, DELETE"),
    }
}

#[cfg(test)]
mod tests;

//! Backups of LXD instances over REST, after minio/lxmin: instances are exported into a store, listed, restored.
//!
//! | request below the mount | answer |
//! | --- | --- |
//! | `GET` `/1.0/instances/NAME/backups` | the stored backups of an instance; of all of them if NAME is `*` |
//! | `POST` `/1.0/instances/NAME/backups` | starts to make a backup |
//! | `GET` `/1.0/instances/NAME/backups/BACKUP` | one backup, also while it is being made |
//! | `DELETE` `/1.0/instances/NAME/backups/BACKUP` | removes it |
//! | `POST` `/1.0/instances/NAME/backups/BACKUP` | starts to restore it |
//! | `GET`, `DELETE` `/1.0/operations/ID`, `GET` `…/ID/wait` | a backup or restore in progress |
//! | `GET` `/1.0/health` | 200 |
//!
//! Handlers (`list`, `show`, `create`, `restore`, `delete`, `operations`) check what can be checked at once and start
//! jobs; `backup`, `import`, `notify` and `tidy` are the jobs. `layout` says where objects are in the store, and is
//! part of the protocol: lxmin reads the same bucket. `lxd` is all that is asked of LXD. This plugin's README has the
//! settings and the differences from lxmin.

#![expect(clippy::needless_pass_by_value, reason = "a handler owns its call, for the body in it")]

mod backup;
mod create;
mod delete;
mod import;
mod info;
mod layout;
mod list;
mod lxd;
mod names;
mod notify;
mod operations;
mod profile;
mod query;
mod reply;
mod restore;
mod settings;
mod show;
mod tags;
mod tidy;

use keepgate_sdk::jobs::Job;
use keepgate_sdk::{Description, Failure, Jobs, Plugin, Reply, Request, Router, at};

pub use settings::Settings;

/// The plugin.
#[derive(Debug)]
pub struct Lxd;

keepgate_sdk::export!(Lxd, jobs);

impl Plugin for Lxd {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new("lxd", env!("CARGO_PKG_VERSION"))
            .summary("Backups of LXD instances, after lxmin")
            .store("main")
            .job(create::SCHEDULED)
            .job(backup::KIND)
            .job(import::KIND)
            .job(tidy::KIND)
            .job(notify::KIND)
            .job(delete::FORGET)
    }

    fn check(settings: &Settings) -> Result<(), String> {
        settings.check()
    }

    fn handle(request: Request, settings: Settings) -> Result<Reply, Failure> {
        Router::new()
            .without_options()
            .odd_segments(|name| Failure::Invalid(format!("{name:?} is not a name")))
            .route("/1.0/health", at().get(reply::health))
            .route("/1.0/instances/{instance}/backups", at().get(list::get).post(create::post))
            .route(
                "/1.0/instances/{instance}/backups/{backup}",
                at().get(show::get).post(restore::post).delete(delete::delete),
            )
            .route("/1.0/operations/{id}", at().get(operations::get).delete(operations::cancel))
            .route("/1.0/operations/{id}/wait", at().get(operations::wait))
            .handle(request, settings)
    }

    fn refuse(failure: &Failure) -> Option<Reply> {
        failure.reply(reply::refusal)
    }
}

impl Jobs for Lxd {
    fn check_job(kind: &str, input: &[u8], _: &Settings) -> Result<String, String> {
        if kind != create::SCHEDULED {
            return Err(format!("schedules start jobs of the kind {:?} only", create::SCHEDULED));
        }
        create::scheduled_key(input)
    }

    fn run_job(job: Job, settings: Settings) -> Result<Vec<u8>, Failure> {
        match job.kind.as_str() {
            create::SCHEDULED => create::run_scheduled(&job, &settings),
            backup::KIND => backup::run(&job, &settings),
            import::KIND => import::run(&job, &settings),
            tidy::KIND => tidy::run(&job, &settings),
            notify::KIND => notify::run(&job),
            // What it forgets is in its input.
            delete::FORGET => Ok(Vec::new()),
            kind => Err(Failure::Invalid(format!("jobs of the kind {kind:?} are not known"))),
        }
    }
}

#[cfg(test)]
mod tests;

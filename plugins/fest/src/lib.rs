//! Files by their SHA-256, with manifests, after fest: a client posts a manifest, is told which files are missing, and
//! uploads those, whole or in ranges. The content of equal files is kept once, whoever uploads it.
//!
//! | request below the mount | answer |
//! | --- | --- |
//! | `GET` `/manifests` | what versions of manifests the user has |
//! | `POST` `/manifests` | stores a version; the answer says which files are missing |
//! | `GET` `/manifests/NAME`, `/manifests/name/NAME` | the newest version of a manifest, or `?timestamp=` |
//! | `HEAD`, `PATCH`, `DELETE` `/files/HASH/upload` | goes on with an upload, as the IETF drafts it |
//! | `GET` `/files/HASH` | a file |
//! | `PUT` `/files/HASH` | uploads it, or a range of it by `Content-Range` |
//! | `DELETE` `/manifests/NAME?timestamp=` | removes a version, if the settings allow it |
//! | `OPTIONS` of any of them | what is supported |
//!
//! `manifests` and `files` are the handlers. `manifest` reads a manifest's text, and writes it again with what is
//! available; `index` keeps the hashes of one. `pool` is what is known of files, in records, and `partial` what has come
//! of those that are not complete; `upload` appends to them. `sweep` removes what nobody needs, `verify` finds what is
//! damaged. `layout` says where everything is.
//!
//! Invariant: a file is in the pool only if all of its bytes are stored and had its hash, and it is taken out before its
//! bytes are removed.

#![expect(clippy::needless_pass_by_value, reason = "a handler owns its call, for the body in it")]

mod files;
mod hash;
mod index;
mod layout;
mod manifest;
mod manifests;
mod partial;
mod pool;
mod problem;
mod range;
mod settings;
mod sweep;
mod upload;
mod user;
mod verify;
mod versions;

use keepgate_sdk::jobs::Job;
use keepgate_sdk::{Description, Failure, Jobs, Method, Plugin, Reply, Request, Router, at};

pub use settings::Settings;

/// The plugin.
#[derive(Debug)]
pub struct Fest;

keepgate_sdk::export!(Fest, jobs);

impl Plugin for Fest {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new("fest", env!("CARGO_PKG_VERSION"))
            .summary("Files by their SHA-256, with manifests")
            .store("main")
            .job(sweep::KIND)
            .job(verify::KIND)
    }

    fn check(settings: &Settings) -> Result<(), String> {
        settings.check()
    }

    fn handle(request: Request, settings: Settings) -> Result<Reply, Failure> {
        let of_manifest = || {
            let methods = at().get(manifests::get).on(Method::Options, manifests::options);
            if settings.deletes { methods.delete(manifests::delete) } else { methods }
        };
        Router::new()
            .odd_segments(|name| problem::failure(400, "bad_name", &format!("{name:?} is no name")))
            .route(
                "/manifests",
                at().get(manifests::list)
                    .post(manifests::post)
                    .on(Method::Options, manifests::options_of_all),
            )
            .route("/manifests/name/{name}", of_manifest())
            .route("/manifests/{name}", of_manifest())
            .route("/files", at().on(Method::Options, files::options))
            .route(
                "/files/{hash}",
                at().get(files::get).put(files::put).on(Method::Options, files::options),
            )
            .route(
                "/files/{hash}/upload",
                at().head(upload::head)
                    .on(Method::new("PATCH"), upload::patch)
                    .delete(upload::cancel)
                    .on(Method::Options, upload::options),
            )
            .handle(request, settings)
    }

    fn refuse(failure: &Failure) -> Option<Reply> {
        failure.reply(problem::reply)
    }
}

impl Jobs for Fest {
    fn check_job(kind: &str, input: &[u8], _: &Settings) -> Result<String, String> {
        match kind {
            verify::KIND => verify::key(input),
            kind => sweep::key(kind, input),
        }
    }

    fn run_job(job: Job, settings: Settings) -> Result<Vec<u8>, Failure> {
        match job.kind.as_str() {
            verify::KIND => verify::run(&job),
            _ => sweep::run(&job, &settings),
        }
    }
}

#[cfg(test)]
mod tests;

//! The controller of database backups, after databacker: instances of a backup program fetch their configuration and send
//! traces and logs; administrators register instances, write configurations and look at runs.
//!
//! | request below the mount | answer |
//! | --- | --- |
//! | `POST` `/oauth2/token` | an access token for a signed assertion |
//! | `GET` `/.well-known/…` | what describes the tokens |
//! | `GET`, `POST` `/admin/instances` | registered instances |
//! | `GET`, `PATCH`, `DELETE` `/admin/instances/{id}` | one of them |
//! | `…/keys`, `…/keys/{kid}` | its public keys |
//! | `GET`, `POST` `/engines/telemetry/{instance}/traces`, `POST` `/v1/traces` | traces of its runs, in OTLP |
//! | `GET`, `POST` `/engines/telemetry/{instance}/log` | log lines |
//! | `GET` `/admin/instances/{id}/runs`, `/admin/runs/{run}` | the runs |
//! | `GET` `/admin/instances/{id}/logs`, `/admin/logs/{log}` | the logs |
//!
//! `telemetry` receives traces, of which it makes `runs`, and `logs` lines. `caller` says who asks. `admin` has the handlers of administrators, `token` those of tokens. `instance` and `key` are
//! what is registered, `layout` says where everything is, `media` negotiates representations, `problem` is how refusals
//! look.
//!
//! Invariant: an instance is known by a key that is registered for it, and a key is removed in the commit that says so:
//! from then on it opens nothing, whatever was signed with it.

#![expect(clippy::needless_pass_by_value, reason = "a handler owns its call, for the body in it")]

mod admin;
mod caller;
mod events;
mod instance;
mod key;
mod layout;
mod logs;
mod media;
mod problem;
mod run;
mod runs;
mod settings;
mod telemetry;
mod token;

use keepgate_sdk::{Description, Failure, Method, Methods, Plugin, Reply, Request, Router, at};

use admin::{instances, keys};
use problem::told;
pub use settings::Settings;
use token::endpoint;

/// The plugin.
#[derive(Debug)]
pub struct Databacker;

keepgate_sdk::export!(Databacker);

impl Plugin for Databacker {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new("databacker", env!("CARGO_PKG_VERSION"))
            .summary("The controller of database backups")
            .store(layout::STORE)
    }

    fn check(settings: &Settings) -> Result<(), String> {
        settings.check()
    }

    fn handle(request: Request, settings: Settings) -> Result<Reply, Failure> {
        routes().handle(request, settings)
    }

    fn refuse(failure: &Failure) -> Option<Reply> {
        failure.reply(problem::reply)
    }
}

fn routes() -> Router<Settings> {
    Router::new()
        .route("/oauth2/token", at().post(|call| told(endpoint::issue(call))))
        .route("/.well-known/jwks.json", at().get(|call| told(endpoint::keys(call))))
        .route(
            "/.well-known/oauth-authorization-server",
            at().get(|call| told(endpoint::metadata(call))),
        )
        .route(
            "/admin/instances",
            at().get(|call| told(instances::list(call))).post(|call| told(instances::add(call))),
        )
        .route(
            "/admin/instances/{id}",
            at().get(|call| told(instances::get(call)))
                .on(Method::Patch, |call| told(instances::change(call)))
                .delete(|call| told(instances::remove(call))),
        )
        .route(
            "/admin/instances/{id}/keys",
            at().get(|call| told(keys::list(call))).post(|call| told(keys::add(call))),
        )
        .route("/admin/instances/{id}/keys/{kid}", at().delete(|call| told(keys::remove(call))))
        .route("/engines/telemetry/{instance}/traces", traces())
        .route("/telemetry/{instance}/traces", traces())
        .route("/engines/telemetry/{instance}/log", log())
        .route("/telemetry/{instance}/log", log())
        .route("/v1/traces", at().post(|call| told(telemetry::receive(call))))
        .route("/admin/instances/{id}/runs", at().get(|call| told(runs::list(call))))
        .route("/admin/runs/{run}", at().get(|call| told(runs::get(call))))
        .route("/admin/instances/{id}/logs", at().get(|call| told(logs::read::list(call))))
        .route("/admin/logs/{log}", at().get(|call| told(logs::read::stream(call))))
}

fn traces() -> Methods<Settings> {
    at().get(|call| told(telemetry::probe(call))).post(|call| told(telemetry::receive(call)))
}

fn log() -> Methods<Settings> {
    at().get(|call| told(logs::probe(call))).post(|call| told(logs::receive(call)))
}

#[cfg(test)]
mod tests;

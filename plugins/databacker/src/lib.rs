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
//! | `GET`, `PUT` `…/config` | its configuration |
//! | `…/config/revisions`, `…/{n}`, `…/{n}/restore` | what it was before |
//! | `GET` `/engines/config/{instance}`, `/config/{instance}`, `/` | an instance's own configuration |
//! | `/report/{instance}` | a redirect to the instance's log |
//! | `GET` `/ui/` | all of this, for people to look at |
//! | `GET`, `POST` `/admin/webhooks` | who is told of runs, and of those that were missed |
//! | `GET`, `DELETE` `/admin/webhooks/{id}`, `GET` `…/deliveries`, `POST` `…/test` | one of them |
//! | `GET` `/admin/audit` | what administrators have done |
//! | `GET`, `POST` `/engines/telemetry/{instance}/traces`, `POST` `/v1/traces` | traces of its runs, in OTLP |
//! | `GET`, `POST` `/engines/telemetry/{instance}/log` | log lines |
//! | `GET` `/admin/instances/{id}/runs`, `/admin/runs/{run}` | the runs |
//! | `GET` `/admin/instances/{id}/logs`, `/admin/logs/{log}` | the logs |
//!
//! `caller` says who asks. `admin` has the handlers of administrators, `token` those of tokens. `instance` and `key` are
//! what is registered, `config` is what instances are to do, `elsewhere` what other servers do. `telemetry` receives traces,
//! of which it makes `runs`, and `logs` lines. `schedule` is what is expected of instances, `events` what `webhooks` are
//! told of, and `retain` removes what is too old. `layout` says where everything is, `listing` makes pages of it, `seal` keeps
//! secrets. `media` negotiates representations, `problem` is how refusals look, `page` what people see.
//!
//! Invariant: an instance is known by a key that is registered for it, and a key is removed in the commit that says so:
//! from then on it opens nothing, whatever was signed with it.

#![expect(clippy::needless_pass_by_value, reason = "a handler owns its call, for the body in it")]

mod admin;
mod caller;
mod config;
mod elsewhere;
mod events;
mod instance;
mod key;
mod layout;
mod listing;
mod logs;
mod media;
mod page;
mod problem;
mod retain;
mod run;
mod runs;
mod schedule;
mod seal;
mod settings;
mod telemetry;
mod token;
mod webhooks;

use keepgate_sdk::jobs::Job;
use keepgate_sdk::{
    Description, Failure, Jobs, Method, Methods, Plugin, Reply, Request, Router, at,
};

use admin::{audit, instances, keys};
use problem::told;
use schedule::due;
pub use settings::Settings;
use token::endpoint;
use webhooks::deliver;

/// The plugin.
#[derive(Debug)]
pub struct Databacker;

keepgate_sdk::export!(Databacker, jobs);

impl Plugin for Databacker {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new("databacker", env!("CARGO_PKG_VERSION"))
            .summary("The controller of database backups")
            .store(layout::STORE)
            .job(deliver::KIND)
            .job(due::KIND)
            .job(retain::KIND)
            .counter("databacker_runs_total", "Runs that have ended, by how", &["status"])
            .counter(
                "databacker_missed_runs_total",
                "Runs that should have begun by their schedules and have not",
                &[],
            )
            .gauge(
                "databacker_silent_instances",
                "Instances of which nothing has come for as long as the setting silent_after says",
                &[],
            )
            .counter(
                "databacker_webhook_deliveries_total",
                "Attempts to deliver events to webhooks: delivered, retried, or failed and given up",
                &["result"],
            )
    }

    fn check(settings: &Settings) -> Result<(), String> {
        settings.check()
    }

    fn handle(request: Request, settings: Settings) -> Result<Reply, Failure> {
        match elsewhere::answer(&request, &settings) {
            Some(reply) => reply,
            None => routes().handle(request, settings),
        }
    }

    fn refuse(failure: &Failure) -> Option<Reply> {
        failure.reply(problem::reply)
    }
}

impl Jobs for Databacker {
    fn check_job(kind: &str, input: &[u8], _: &Settings) -> Result<String, String> {
        let key = match kind {
            deliver::KIND => deliver::key(input),
            due::KIND => due::key(input),
            _ => retain::key(input),
        };
        key.map_err(|failure| failure.message().to_owned())
    }

    fn run_job(job: Job, settings: Settings) -> Result<Vec<u8>, Failure> {
        match job.kind.as_str() {
            deliver::KIND => deliver::run(&job, &settings),
            due::KIND => due::run(&job, &settings),
            _ => retain::run(&job, &settings),
        }
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
        .route(
            "/admin/instances/{id}/config",
            at().get(|call| told(config::admin::get(call)))
                .put(|call| told(config::admin::put(call))),
        )
        .route(
            "/admin/instances/{id}/config/revisions",
            at().get(|call| told(config::admin::revisions(call))),
        )
        .route(
            "/admin/instances/{id}/config/revisions/{n}",
            at().get(|call| told(config::admin::revision(call))),
        )
        .route(
            "/admin/instances/{id}/config/revisions/{n}/restore",
            at().post(|call| told(config::admin::restore(call))),
        )
        .route("/engines/config/{instance}", at().get(|call| told(config::serve::get(call))))
        .route("/config/{instance}", at().get(|call| told(config::serve::get(call))))
        .route("/", at().get(|call| told(config::serve::get_own(call))))
        .route(
            "/report/{instance}",
            at().get(|call| told(elsewhere::report(call)))
                .post(|call| told(elsewhere::report(call))),
        )
        .route(
            "/admin/webhooks",
            at().get(|call| told(webhooks::admin::list(call)))
                .post(|call| told(webhooks::admin::add(call))),
        )
        .route(
            "/admin/webhooks/{id}",
            at().get(|call| told(webhooks::admin::get(call)))
                .delete(|call| told(webhooks::admin::remove(call))),
        )
        .route(
            "/admin/webhooks/{id}/deliveries",
            at().get(|call| told(webhooks::admin::deliveries(call))),
        )
        .route("/admin/webhooks/{id}/test", at().post(|call| told(webhooks::admin::test(call))))
        .route("/admin/audit", at().get(|call| told(audit::list(call))))
        .route("/engines/telemetry/{instance}/traces", traces())
        .route("/telemetry/{instance}/traces", traces())
        .route("/engines/telemetry/{instance}/log", log())
        .route("/telemetry/{instance}/log", log())
        .route("/v1/traces", at().post(|call| told(telemetry::receive(call))))
        .route("/admin/instances/{id}/runs", at().get(|call| told(runs::list(call))))
        .route("/admin/runs/{run}", at().get(|call| told(runs::get(call))))
        .route("/admin/instances/{id}/logs", at().get(|call| told(logs::read::list(call))))
        .route("/admin/logs/{log}", at().get(|call| told(logs::read::stream(call))))
        .route("/ui", at().get(|call| told(page::folder(call))))
        .route("/ui/", at().get(|call| told(page::overview(call))))
        .route("/ui/keepgate.css", at().get(|call| told(page::css(call))))
        .route("/ui/follow.js", at().get(|call| told(page::script(call))))
        .route("/ui/instances/{id}", at().get(|call| told(page::instance(call))))
        .route("/ui/instances/{id}/config", at().get(|call| told(page::config(call))))
        .route("/ui/runs/{run}", at().get(|call| told(page::run(call))))
        .route("/ui/logs/{log}", at().get(|call| told(page::log(call))))
}

fn traces() -> Methods<Settings> {
    at().get(|call| told(telemetry::probe(call))).post(|call| told(telemetry::receive(call)))
}

fn log() -> Methods<Settings> {
    at().get(|call| told(logs::probe(call))).post(|call| told(logs::receive(call)))
}

#[cfg(test)]
mod tests;

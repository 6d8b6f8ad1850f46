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
//!
//! `caller` says who asks. `admin` has the handlers of administrators, `token` those of tokens. `instance` and `key` are
//! what is registered, `config` is what instances are to do, `elsewhere` what other servers do. `layout` says where
//! everything is, `media` negotiates representations, `problem` is how refusals look.
//!
//! Invariant: an instance is known by a key that is registered for it, and a key is removed in the commit that says so:
//! from then on it opens nothing, whatever was signed with it.

#![expect(clippy::needless_pass_by_value, reason = "a handler owns its call, for the body in it")]

mod admin;
mod caller;
mod config;
mod elsewhere;
mod instance;
mod key;
mod layout;
mod media;
mod problem;
mod run;
mod settings;
mod token;

use keepgate_sdk::{Description, Failure, Method, Plugin, Reply, Request, Router, at};

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
        match elsewhere::answer(&request, &settings) {
            Some(reply) => reply,
            None => routes().handle(request, settings),
        }
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
}

#[cfg(test)]
mod tests;

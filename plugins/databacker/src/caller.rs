//! Who asks: an administrator, or an instance by one of its three ways. Refusals say as little to one who is not known as
//! to another.
//!
//! An instance is known by a bearer token, whether the mount issued it or the instance signed it, and otherwise by the
//! public key of its certificate. A token that is wrong is refused even if the certificate is right.

use keepgate_sdk::{Principal, Request};

use crate::instance::{Found, Instance, State};
use crate::problem::Problem;
use crate::settings::Settings;
use crate::token;

/// What an instance's access tokens may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    ConfigRead,
    TelemetryWrite,
}

impl Scope {
    pub(crate) const ALL: [Self; 2] = [Self::ConfigRead, Self::TelemetryWrite];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ConfigRead => "config:read",
            Self::TelemetryWrite => "telemetry:write",
        }
    }
}

/// What an administrator wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Look,
    Change,
}

/// Somebody who may administer the mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Administrator {
    pub(crate) name: String,
    /// The account to whose instances it is restricted.
    pub(crate) account: Option<String>,
    may_change: bool,
}

/// The administrator who sends a request.
pub(crate) fn administrator(
    request: &Request,
    settings: &Settings,
    wish: Wish,
) -> Result<Administrator, Problem> {
    let Some(principal) = &request.principal else { return Err(unknown_administrator(request)) };
    let listed = settings.administrators.iter().find(|one| one.name == principal.name);
    let found = match listed {
        Some(listed) => Administrator {
            name: listed.name.clone(),
            account: listed.account.clone(),
            may_change: !listed.read_only,
        },
        // Whoever has a certificate may have a password as well, which nobody has asked for.
        None if principal.method == "certificate" => return Err(unknown_administrator(request)),
        None => by_scope(principal)?,
    };
    if wish == Wish::Change && !found.may_change {
        return Err(Problem::new(403, format!("{} may look, but not change anything", found.name)));
    }
    if wish == Wish::Change && is_from_elsewhere(request) {
        let message =
            "a page of another site has sent this, with the password that the browser knows";
        return Err(Problem::new(403, message));
    }
    Ok(found)
}

/// Whether a page of another site has made the browser send a request (W3C Fetch Metadata). Other clients do not say.
fn is_from_elsewhere(request: &Request) -> bool {
    let site = request.header("sec-fetch-site");
    site.is_some_and(|site| !matches!(site, "same-origin" | "none"))
}

/// An administrator by the scopes of a token of the mount's issuer.
fn by_scope(principal: &Principal) -> Result<Administrator, Problem> {
    let scopes: Vec<&str> =
        claim(principal, "scope").map(|scopes| scopes.split(' ').collect()).unwrap_or_default();
    let may_change = scopes.contains(&"admin:write");
    if !may_change && !scopes.contains(&"admin:read") {
        let message = format!(
            "{} does not administer this mount; its operator lists those who do in its settings",
            principal.name
        );
        return Err(Problem::new(403, message));
    }
    let account = claim(principal, "account").map(str::to_owned);
    Ok(Administrator { name: principal.name.clone(), account, may_change })
}

impl Administrator {
    /// Whether an instance is one that this administrator may know of.
    pub(crate) fn may_see(&self, instance: &Instance) -> bool {
        self.account.as_ref().is_none_or(|account| *account == instance.account)
    }

    /// The instance with this id; 404 also for another account's.
    pub(crate) fn instance(&self, id: &str) -> Result<Found, Problem> {
        let found = Instance::find(id)?.filter(|found| self.may_see(&found.instance));
        found.ok_or_else(|| Problem::not_found("there is no such instance"))
    }

    /// The instance with this id, also if it was removed: for what has come of it.
    pub(crate) fn past_instance(&self, id: &str) -> Result<Instance, Problem> {
        match self.instance(id) {
            Ok(found) => Ok(found.instance),
            Err(problem) => {
                let removed = Instance::find_removed(id)?;
                removed.filter(|removed| self.may_see(removed)).ok_or(problem)
            }
        }
    }
}

/// The instance that sends a request for a path of this instance, or for one that names none.
pub(crate) fn instance(
    request: &Request,
    settings: &Settings,
    id: Option<&str>,
    scope: Scope,
) -> Result<Instance, Problem> {
    let (instance, kid, scopes) = match request.header("authorization") {
        Some(authorization) => {
            let bearer = bearer(authorization).ok_or_else(invalid_token)?;
            let held = token::verify(bearer, settings)?.ok_or_else(invalid_token)?;
            (held.instance, Some(held.kid), held.scopes)
        }
        None => {
            let fingerprint = request.principal.as_ref().and_then(|who| claim(who, "spki-sha256"));
            let fingerprint = fingerprint.ok_or_else(unauthorized)?;
            let found = Instance::by_key(fingerprint)?.ok_or_else(unauthorized)?.instance;
            let key = found.keys.iter().find(|key| key.fingerprint == fingerprint);
            let kid = key.map(|key| key.kid.clone());
            (found, kid, Scope::ALL.to_vec())
        }
    };
    if id.is_some_and(|id| id != instance.id) {
        return Err(Problem::not_found("there is no such instance"));
    }
    if instance.state != State::Active {
        return Err(Problem::new(403, "this instance is disabled"));
    }
    if !scopes.contains(&scope) {
        let message = format!("the token lacks the scope {}", scope.name());
        return Err(Problem::new(403, message)
            .header("www-authenticate", "Bearer error=\"insufficient_scope\""));
    }
    instance.seen(kid.as_deref());
    Ok(instance)
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn claim<'a>(principal: &'a Principal, name: &str) -> Option<&'a str> {
    let found = principal.claims.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

fn unauthorized() -> Problem {
    Problem::new(401, "a registered key is needed: a client certificate or a bearer token")
        .header("www-authenticate", "Bearer")
}

fn invalid_token() -> Problem {
    Problem::new(401, "the token is not valid")
        .header("www-authenticate", "Bearer error=\"invalid_token\"")
}

/// A browser asks for a password when it sees this.
fn unknown_administrator(request: &Request) -> Problem {
    if request.header("authorization").is_some() {
        return invalid_token();
    }
    Problem::new(401, "log in as an administrator")
        .header("www-authenticate", "Basic realm=\"keepgate\", charset=\"UTF-8\"")
        .header("www-authenticate", "Bearer")
}

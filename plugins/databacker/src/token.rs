//! Tokens: access tokens that the mount issues for assertions (RFC 7523), and tokens that instances sign themselves.
//!
//! `jwt` reads them, `endpoint` is the token endpoint with what describes it, and `signing` has the mount's own keys.

pub(crate) mod endpoint;
mod jwt;
pub(crate) mod signing;

use std::time::Duration;

use keepgate_sdk::{Failure, Timestamp};
use serde::Deserialize;

use crate::caller::Scope;
use crate::instance::{Found, Instance};
use crate::key::Key;
use crate::settings::Settings;
use jwt::{Jwt, Registered};

/// How far ahead a token that an instance has signed itself may expire.
const LONGEST_OF_INSTANCES: Duration = Duration::from_secs(3600);

/// What a valid token says.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) instance: Instance,
    /// The instance's key that it goes back to.
    pub(crate) kid: String,
    pub(crate) scopes: Vec<Scope>,
}

/// The claims of a bearer token, ours or an instance's.
#[derive(Debug, Deserialize)]
struct Claims {
    #[serde(flatten)]
    registered: Registered,
    /// In ours: what it is for.
    #[serde(default)]
    scope: String,
    /// In ours: the key that the assertion was signed with.
    #[serde(default)]
    key: String,
}

/// What a bearer token says; none if it is not valid, for whatever reason.
pub(crate) fn verify(token: &str, settings: &Settings) -> Result<Option<Held>, Failure> {
    let Some(url) = &settings.url else { return Ok(None) };
    let Some(jwt) = Jwt::parse(token) else { return Ok(None) };
    let Some(claims) = jwt.claims::<Claims>() else { return Ok(None) };
    let registered = &claims.registered;
    let now = Timestamp::now().as_secs();
    // Ours expire much sooner.
    if !registered.aud.contains(url) || !registered.is_current(now, LONGEST_OF_INSTANCES) {
        return Ok(None);
    }
    if registered.iss == *url {
        return issued(&jwt, &claims);
    }
    if registered.iss != registered.sub {
        return Ok(None);
    }
    let signed = signer(&jwt, &registered.sub)?;
    Ok(signed.map(|(found, key)| Held {
        instance: found.instance,
        kid: key.kid,
        scopes: Scope::ALL.to_vec(),
    }))
}

/// A token that the mount has issued. It is dead as soon as the key is removed that its assertion was signed with.
fn issued(jwt: &Jwt<'_>, claims: &Claims) -> Result<Option<Held>, Failure> {
    if !signing::has_signed(jwt)? {
        return Ok(None);
    }
    let Some(Found { instance, .. }) = Instance::find(&claims.registered.sub)? else {
        return Ok(None);
    };
    if instance.key(&claims.key).is_none() {
        return Ok(None);
    }
    let named: Vec<&str> = claims.scope.split(' ').collect();
    let scopes = Scope::ALL.into_iter().filter(|scope| named.contains(&scope.name())).collect();
    Ok(Some(Held { instance, kid: claims.key.clone(), scopes }))
}

/// The instance whose key has signed a token that says to be its own. It takes as long if there is no such instance.
fn signer(jwt: &Jwt<'_>, id: &str) -> Result<Option<(Found, Key)>, Failure> {
    let Some(found) = Instance::find(id)? else {
        jwt.verify_in_vain();
        return Ok(None);
    };
    let named = jwt.kid();
    let keys = found.instance.keys.iter().filter(|key| named.is_none_or(|kid| kid == key.kid));
    let mut tried = false;
    for key in keys.filter(|key| jwt.fits(key)) {
        tried = true;
        if jwt.is_signed_by(key) {
            let key = key.clone();
            return Ok(Some((found, key)));
        }
    }
    if !tried {
        jwt.verify_in_vain();
    }
    Ok(None)
}

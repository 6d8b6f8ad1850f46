//! The token endpoint: a signed assertion in, an access token out (RFC 6749 with RFC 7523), and what describes the endpoint
//! to clients (RFC 8414, RFC 7517).
//!
//! All that can be wrong with an assertion gets the same answer, in about the same time.

use std::time::Duration;

use keepgate_sdk::records::Commit;
use keepgate_sdk::{Call, Failure, Reply, Timestamp, environment};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::jwt::{Jwt, Registered, SKEW};
use super::{signer, signing};
use crate::caller::Scope;
use crate::instance::{Instance, State};
use crate::key::Key;
use crate::layout;
use crate::problem::{Answer, Problem};
use crate::settings::Settings;

const PATH: &str = "/oauth2/token";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long an access token is valid.
const VALID: Duration = Duration::from_secs(900);
/// How far ahead an assertion may expire. It is remembered until then.
const LONGEST: Duration = Duration::from_secs(600);
const LONGEST_FORM: u64 = 16 * 1024;
const LONGEST_JTI: usize = 512;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Form {
    grant_type: String,
    client_assertion_type: String,
    client_assertion: String,
    client_id: Option<String>,
    scope: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Claims {
    #[serde(flatten)]
    registered: Registered,
    jti: String,
}

/// `POST /oauth2/token`
pub(crate) fn issue(call: Call<Settings>) -> Answer {
    let url = issuer(&call)?.to_owned();
    let form: Form = match call.request.form(LONGEST_FORM) {
        Ok(form) => form,
        Err(Failure::Refused(refusal)) if refusal.status == 415 => {
            return Err(error(415, "invalid_request", &refusal.message));
        }
        Err(Failure::Invalid(why)) => return Err(error(400, "invalid_request", &why)),
        Err(failure) => return Err(failure.into()),
    };
    if form.grant_type != "client_credentials" {
        let (code, why) = match form.grant_type.as_str() {
            "" => ("invalid_request", "grant_type is missing"),
            _ => ("unsupported_grant_type", "grant_type must be client_credentials"),
        };
        return Err(error(400, code, why));
    }
    if form.client_assertion_type != ASSERTION || form.client_assertion.is_empty() {
        let why = format!("send client_assertion, and client_assertion_type={ASSERTION}");
        return Err(error(400, "invalid_request", &why));
    }
    let scopes = scopes(form.scope.as_deref())?;
    let (instance, key) = client(&form, &url)?;
    let token = token(&instance, &key, &scopes, &url)?;
    instance.seen(Some(&key.kid));
    let body = json!({
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": VALID.as_secs(),
        "scope": names(&scopes),
    });
    Ok(uncached(Reply::ok().json(&body)?))
}

/// The instance that has signed the assertion of a form, with the key.
fn client(form: &Form, url: &str) -> Result<(Instance, Key), Problem> {
    let jwt = Jwt::parse(&form.client_assertion).ok_or_else(invalid_client)?;
    let Claims { registered: claims, jti } = jwt.claims().ok_or_else(invalid_client)?;
    let signed = signer(&jwt, &claims.sub)?;
    let now = Timestamp::now().as_secs();
    let is_for_us = claims.aud.contains(url) || claims.aud.contains(&format!("{url}{PATH}"));
    let is_right = claims.iss == claims.sub
        && form.client_id.as_ref().is_none_or(|id| *id == claims.sub)
        && is_for_us
        && claims.is_current(now, LONGEST)
        && (1..=LONGEST_JTI).contains(&jti.len());
    let (found, key) = signed.filter(|_| is_right).ok_or_else(invalid_client)?;
    if found.instance.state != State::Active {
        return Err(invalid_client());
    }
    let hash = hex::encode(Sha256::digest(&jti));
    let used = layout::assertion(&found.instance.id, &hash);
    let until = claims.exp.saturating_add(SKEW).to_string();
    match Commit::new().absent(&used).put(&used, until.as_bytes()).run() {
        Ok(_) => Ok((found.instance, key)),
        Err(Failure::PreconditionFailed) => Err(invalid_client()),
        Err(failure) => Err(failure.into()),
    }
}

fn token(instance: &Instance, key: &Key, scopes: &[Scope], url: &str) -> Result<String, Failure> {
    let now = Timestamp::now().as_secs();
    signing::sign(&json!({
        "iss": url,
        "sub": instance.id,
        "aud": url,
        "iat": now,
        "nbf": now,
        "exp": now + VALID.as_secs(),
        "jti": hex::encode(environment::random(16)),
        "scope": names(scopes),
        "key": key.kid,
    }))
}

/// The scopes that a client asks for, and all of them if it asks for none.
fn scopes(asked: Option<&str>) -> Result<Vec<Scope>, Problem> {
    let Some(asked) = asked.filter(|asked| !asked.trim().is_empty()) else {
        return Ok(Scope::ALL.to_vec());
    };
    let known = |name: &str| Scope::ALL.into_iter().find(|scope| scope.name() == name);
    let scopes: Option<Vec<_>> = asked.split_ascii_whitespace().map(known).collect();
    scopes.ok_or_else(|| {
        let why = format!("scopes are {}", names(&Scope::ALL));
        error(400, "invalid_scope", &why)
    })
}

fn names(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(" ")
}

/// `GET /.well-known/jwks.json`
pub(crate) fn keys(call: Call<Settings>) -> Answer {
    issuer(&call)?;
    Ok(Reply::ok().header("cache-control", "max-age=300").json(&signing::jwks()?)?)
}

/// `GET /.well-known/oauth-authorization-server`
pub(crate) fn metadata(call: Call<Settings>) -> Answer {
    let url = issuer(&call)?;
    let scopes: Vec<&str> = Scope::ALL.into_iter().map(Scope::name).collect();
    let body = json!({
        "issuer": url,
        "token_endpoint": format!("{url}{PATH}"),
        "jwks_uri": format!("{url}/.well-known/jwks.json"),
        "scopes_supported": scopes,
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256", "ES384"],
    });
    Ok(Reply::ok().json(&body)?)
}

fn issuer(call: &Call<Settings>) -> Result<&str, Problem> {
    call.settings.issuer().ok_or_else(|| {
        Problem::not_found("this mount issues no tokens; use a client certificate, or a token that the instance signs")
    })
}

fn invalid_client() -> Problem {
    error(401, "invalid_client", "the client is unknown, or its assertion is not valid")
}

fn error(status: u16, code: &str, why: &str) -> Problem {
    let body: Value = json!({"error": code, "error_description": why});
    Problem::json(status, &body).header("cache-control", "no-store")
}

fn uncached(reply: Reply) -> Reply {
    reply.header("cache-control", "no-store").header("pragma", "no-cache")
}

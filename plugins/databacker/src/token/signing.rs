//! The keys that sign access tokens. The mount makes them, each for a month, and keeps them sealed in its records; their
//! public halves are in the clear, so that verifying a token opens nothing.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keepgate_sdk::records::{self, Commit};
use keepgate_sdk::{Failure, Timestamp, environment, json};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::jwt::Jwt;
use crate::key::{self, Key};
use crate::{layout, seal};

/// What is sealed, for messages.
const KEPT: &str = "keys of tokens";
const DAY: Duration = Duration::from_secs(86_400);
/// How long a key signs.
const SIGNS: Duration = DAY.saturating_mul(30);
/// How long what it has signed is valid, at the longest, after it has signed last.
const VERIFIES: Duration = DAY.saturating_mul(31);

/// A key as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    key: Key,
    /// The private half, in base64.
    sealed: String,
}

/// Signs claims as a JWT with the current key, which is made if there is none.
pub(crate) fn sign(claims: &Value) -> Result<String, Failure> {
    let (kid, key) = current()?;
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": kid});
    let part =
        |value: &Value| Ok::<_, Failure>(BASE64_URL_SAFE_NO_PAD.encode(json::to_vec(value)?));
    let signed = format!("{}.{}", part(&header)?, part(claims)?);
    let signature: Signature = key.sign(signed.as_bytes());
    Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.to_bytes())))
}

/// Whether one of the keys has signed a token.
pub(crate) fn has_signed(jwt: &Jwt<'_>) -> Result<bool, Failure> {
    let Some(kid) = jwt.kid().filter(|kid| kid.len() <= 64 && !kid.contains(['/', '\0'])) else {
        return Ok(false);
    };
    let Some(record) = records::get(&layout::signing_key(kid))? else { return Ok(false) };
    let row: Row = record.json()?;
    Ok(Timestamp::now().since(row.key.created) < VERIFIES && jwt.is_signed_by(&row.key))
}

/// The public halves of all keys whose tokens may be valid, as a set of JWKs (RFC 7517).
pub(crate) fn jwks() -> Result<Value, Failure> {
    let mut keys = Vec::new();
    for record in records::scan(layout::SIGNING_KEYS) {
        let Row { key, .. } = record?.json()?;
        if Timestamp::now().since(key.created) >= VERIFIES {
            continue;
        }
        let der = hex::decode(&key.der).map_err(|_| damaged(&key.kid))?;
        let public = p256::PublicKey::from_public_key_der(&der).map_err(|_| damaged(&key.kid))?;
        let mut jwk = key::p256_jwk(&public);
        if let Some(jwk) = jwk.as_object_mut() {
            jwk.insert("kid".to_owned(), key.kid.into());
            jwk.insert("use".to_owned(), "sig".into());
            jwk.insert("alg".to_owned(), "ES256".into());
        }
        keys.push(jwk);
    }
    Ok(json!({"keys": keys}))
}

/// The ids of keys that are of no use any more.
pub(crate) fn expired() -> Result<Vec<String>, Failure> {
    let mut expired = Vec::new();
    for record in records::scan(layout::SIGNING_KEYS) {
        let record = record?;
        let row: Row = record.json()?;
        if Timestamp::now().since(row.key.created) >= VERIFIES {
            expired.push(record.key);
        }
    }
    Ok(expired)
}

fn current() -> Result<(String, SigningKey), Failure> {
    let mut newest: Option<Row> = None;
    for record in records::scan(layout::SIGNING_KEYS) {
        let row: Row = record?.json()?;
        if newest.as_ref().is_none_or(|newest| newest.key.created < row.key.created) {
            newest = Some(row);
        }
    }
    match newest.filter(|row| Timestamp::now().since(row.key.created) < SIGNS) {
        Some(row) => {
            let sealed =
                BASE64_URL_SAFE_NO_PAD.decode(&row.sealed).map_err(|_| damaged(&row.key.kid))?;
            let bytes = seal::open(KEPT, &sealed, &context(&row.key.kid))?.ok_or_else(lost_key)?;
            let key = SigningKey::from_slice(&bytes).map_err(|_| damaged(&row.key.kid))?;
            Ok((row.key.kid, key))
        }
        None => make(),
    }
}

/// Makes a key. If two calls do it at the same time, both are kept, and both are valid.
fn make() -> Result<(String, SigningKey), Failure> {
    let key = loop {
        // All but a few in 2^32 are numbers that can be keys.
        if let Ok(key) = SigningKey::from_slice(&environment::random(32)) {
            break key;
        }
    };
    let der = p256::PublicKey::from(key.verifying_key())
        .to_public_key_der()
        .map_err(|error| Failure::Internal(format!("the new signing key: {error}")))?;
    let public = Key::from_der(der.as_bytes(), Timestamp::now())
        .map_err(|error| Failure::Internal(format!("the new signing key: {error}")))?;
    let sealed = seal::seal(KEPT, &key.to_bytes(), &context(&public.kid))?;
    let kid = public.kid.clone();
    let row = Row { key: public, sealed: BASE64_URL_SAFE_NO_PAD.encode(sealed) };
    Commit::new().put_json(&layout::signing_key(&kid), &row)?.run()?;
    environment::info("a new key signs access tokens", &[("kid", &kid)]);
    Ok((kid, key))
}

fn context(kid: &str) -> Vec<u8> {
    format!("databacker signing key {kid}").into_bytes()
}

fn lost_key() -> Failure {
    seal::unavailable(
        "the key of tokens was sealed with a key that the mount does not have any more: the operator adds its file to the \
         keys of the mount's secrets.seal",
    )
}

fn damaged(kid: &str) -> Failure {
    Failure::Internal(format!("the signing key {kid} is damaged"))
}

//! The keys of an issuer, from a JWK set (RFC 7517): which of them can verify signatures of tokens, and which token is
//! verified by which.

use std::collections::BTreeMap;
use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::signature::unpadded;

/// The most keys of a set that are used; a token that names none is tried with each.
const MOST: usize = 64;
/// The shortest RSA modulus, in bits.
const SHORTEST: usize = 2048;
/// The longest RSA modulus, in bits.
const LONGEST: usize = 8192;

/// The usable keys of an issuer; at least one.
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Keys that cannot be used, and why.
    ignored: Vec<String>,
    digest: [u8; 32],
}

struct Key {
    id: Option<String>,
    kind: String,
    /// The only algorithm that it is for, if it says so.
    algorithm: Option<Algorithm>,
    /// The only algorithm of its curve, if it has one.
    curve: Option<Algorithm>,
    key: DecodingKey,
}

/// Keys that may have signed a token.
pub(super) enum Candidates<'a> {
    /// Those that the token names.
    Named(Vec<&'a DecodingKey>),
    /// The token names no key, or one that is not in the set, which may still have it without its name.
    Unnamed(Vec<&'a DecodingKey>),
}

#[derive(Deserialize)]
struct Written {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a set.
    ///
    /// # Errors
    ///
    /// Says why no key in it can be used.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let written = serde_json::from_slice::<Written>(text);
        let written = written.map_err(|error| {
            format!("not a set of keys: {error}; expected JSON such as {{\"keys\": […]}}")
        })?;
        let (mut keys, mut ignored) = (Vec::new(), Vec::new());
        for (index, value) in written.keys.into_iter().enumerate() {
            let named = value.get("kid").and_then(Value::as_str);
            let named =
                named.map_or_else(|| format!("key {}", index + 1), |id| format!("key {id:?}"));
            match Key::read(value) {
                Ok(_) if keys.len() == MOST => {
                    ignored.push(format!("{named}: only {MOST} keys of a set are used"));
                }
                Ok(key) => keys.push(key),
                Err(why) => ignored.push(format!("{named}: {why}")),
            }
        }
        if keys.is_empty() {
            let why = match ignored.is_empty() {
                true => "it is empty".to_owned(),
                false => ignored.join("; "),
            };
            return Err(format!("no key in the set can be used: {why}"));
        }
        Ok(Self { keys, ignored, digest: Sha256::digest(text).into() })
    }

    /// Whether both were read from the same text.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// How many keys can be used.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Keys that cannot be used, and why.
    pub(super) fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// The keys by which a token with this header may have been signed.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> Candidates<'_> {
        let fitting = || self.keys.iter().filter(|key| key.fits(algorithm));
        if id.is_some() {
            let named = fitting().filter(|key| key.id.as_deref() == id);
            let named: Vec<_> = named.map(|key| &key.key).collect();
            if !named.is_empty() {
                return Candidates::Named(named);
            }
        }
        let unnamed = fitting().filter(|key| id.is_none() || key.id.is_none());
        Candidates::Unnamed(unnamed.map(|key| &key.key).collect())
    }
}

impl Key {
    fn read(value: Value) -> Result<Self, String> {
        let jwk: Jwk = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return Err("it is not for signatures (`use`)".to_owned());
        }
        let operations = jwk.common.key_operations.as_deref();
        if operations.is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
            return Err("it is not for verifying (`key_ops`)".to_owned());
        }
        let (kind, curve) = kind(&jwk)?;
        let key = DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
        let kind = check_length(&key, kind)?;
        let algorithm = match jwk.common.key_algorithm {
            None => None,
            Some(named) => {
                let named = Algorithm::try_from(named).ok();
                let fitting = named.filter(|named| {
                    named.family() == key.family() && curve.is_none_or(|curve| curve == *named)
                });
                Some(fitting.ok_or("its `alg` is not one of its kind of key that is supported")?)
            }
        };
        Ok(Self { id: jwk.common.key_id, kind, algorithm, curve, key })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.key.family() == algorithm.family()
            && self.algorithm.is_none_or(|only| only == algorithm)
            && self.curve.is_none_or(|only| only == algorithm)
    }
}

/// What kind of key it is, and the only algorithm of its curve.
fn kind(jwk: &Jwk) -> Result<(&'static str, Option<Algorithm>), String> {
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Ok(("RSA", None)),
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => Ok(("P-256", Some(Algorithm::ES256))),
            EllipticCurve::P384 => Ok(("P-384", Some(Algorithm::ES384))),
            _ => Err("its curve is not supported; P-256 and P-384 are".to_owned()),
        },
        AlgorithmParameters::OctetKeyPair(pair) => match pair.curve {
            EllipticCurve::Ed25519 => Ok(("Ed25519", Some(Algorithm::EdDSA))),
            _ => Err("its curve is not supported; Ed25519 is".to_owned()),
        },
        AlgorithmParameters::OctetKey(_) => {
            Err("it is a shared secret, by which anybody who can verify tokens can make them"
                .to_owned())
        }
        _ => Err("its kind is not supported".to_owned()),
    }
}

/// Refuses keys that no signature can be verified with. Returns the kind with its size.
fn check_length(key: &DecodingKey, kind: &'static str) -> Result<String, String> {
    let expected = match kind {
        "P-256" => 1 + 2 * 32,
        "P-384" => 1 + 2 * 48,
        _ => 32,
    };
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => {
            let n = unpadded(n);
            let first = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
            let bits = n.len() * 8 - first;
            match (SHORTEST..=LONGEST).contains(&bits) {
                true => Ok(format!("{kind} {bits}")),
                false => Err(format!(
                    "it is an RSA key of {bits} bits; {SHORTEST} to {LONGEST} are supported"
                )),
            }
        }
        DecodingKeyKind::SecretOrDer(bytes)
            if bytes.len() == expected && key.family() != AlgorithmFamily::Hmac =>
        {
            Ok(kind.to_owned())
        }
        DecodingKeyKind::SecretOrDer(_) => {
            Err("its coordinates have another length than its curve's".to_owned())
        }
    }
}

/// `3 keys (1 P-256, 2 RSA 2048)`.
impl fmt::Display for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for key in &self.keys {
            *kinds.entry(&key.kind).or_default() += 1;
        }
        let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let keys = if self.len() == 1 { "key" } else { "keys" };
        write!(f, "{} {keys} ({})", self.len(), kinds.join(", "))
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({self})")
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    fn bytes(length: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0xff; length])
    }

    fn set(keys: &Value) -> Result<KeySet, String> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn ec(id: &str) -> Value {
        json!({"kty": "EC", "crv": "P-256", "kid": id, "x": bytes(32), "y": bytes(32)})
    }

    #[test]
    fn keys_of_all_kinds_are_read() {
        let set = set(&json!([
            ec("a"),
            {"kty": "EC", "crv": "P-384", "x": bytes(48), "y": bytes(48), "use": "sig", "alg": "ES384"},
            {"kty": "OKP", "crv": "Ed25519", "x": bytes(32), "key_ops": ["verify"]},
            {"kty": "RSA", "n": bytes(256), "e": "AQAB", "x5c": ["MII"], "unknown": {}},
            {"kty": "RSA", "n": bytes(256), "e": "AQAB", "alg": "PS256"},
        ]));
        let set = set.unwrap();
        assert_eq!(set.to_string(), "5 keys (1 Ed25519, 1 P-256, 1 P-384, 2 RSA 2048)");
        assert!(set.ignored().is_empty(), "{:?}", set.ignored());
    }

    #[test]
    fn others_are_ignored_and_said_why() {
        for (key, why) in [
            (
                json!({"kty": "oct", "kid": "s", "k": "c2VjcmV0"}),
                "key \"s\": it is a shared secret",
            ),
            (
                json!({"kty": "RSA", "n": bytes(256), "e": "AQAB", "use": "enc"}),
                "not for signatures",
            ),
            (
                json!({"kty": "RSA", "n": bytes(256), "e": "AQAB", "key_ops": ["wrapKey"]}),
                "(`key_ops`)",
            ),
            (json!({"kty": "RSA", "n": bytes(128), "e": "AQAB"}), "an RSA key of 1024 bits"),
            (json!({"kty": "RSA", "n": "", "e": "AQAB"}), "an RSA key of 0 bits"),
            (json!({"kty": "RSA", "n": bytes(256), "e": "AQAB", "alg": "HS256"}), "`alg`"),
            (json!({"kty": "RSA", "n": bytes(256), "e": "AQAB", "alg": "RSA-OAEP"}), "`alg`"),
            (
                json!({"kty": "EC", "crv": "P-521", "x": bytes(66), "y": bytes(66)}),
                "P-256 and P-384 are",
            ),
            (
                json!({"kty": "EC", "crv": "P-256", "x": bytes(31), "y": bytes(32)}),
                "another length",
            ),
            (
                json!({"kty": "EC", "crv": "P-256", "x": bytes(32), "y": bytes(32), "alg": "ES384"}),
                "`alg`",
            ),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": bytes(57)}), "another length"),
            (json!({"kty": "OKP", "crv": "P-256", "x": bytes(32)}), "Ed25519 is"),
            (json!({"kty": "AKP", "pub": "x"}), "its kind is not supported"),
            (json!("key"), "key 1: "),
        ] {
            let alone = set(&json!([key])).unwrap_err();
            assert!(
                alone.contains("no key in the set can be used") && alone.contains(why),
                "{alone}"
            );
            let set = set(&json!([ec("a"), key])).unwrap();
            assert_eq!((set.len(), set.ignored().len()), (1, 1));
        }
        assert!(set(&json!([])).unwrap_err().contains("it is empty"));
        let many: Vec<_> = (0..MOST + 2).map(|number| ec(&number.to_string())).collect();
        let many = set(&json!(many)).unwrap();
        assert_eq!((many.len(), many.ignored().len()), (MOST, 2));
        for text in ["", "{}", "[]", "{\"keys\": {}}", "<html>"] {
            let said = KeySet::parse(text.as_bytes()).unwrap_err();
            assert!(said.contains("not a set of keys"), "{text}: {said}");
        }
    }

    #[test]
    fn a_token_is_verified_by_the_keys_that_it_names() {
        let set = set(&json!([
            ec("a"),
            ec("b"),
            {"kty": "EC", "crv": "P-256", "x": bytes(32), "y": bytes(32)},
            {"kty": "RSA", "kid": "a", "n": bytes(256), "e": "AQAB", "alg": "RS256"},
        ]));
        let set = set.unwrap();
        let found = |id: Option<&str>, algorithm| match set.candidates(id, algorithm) {
            Candidates::Named(keys) => ("named", keys.len()),
            Candidates::Unnamed(keys) => ("unnamed", keys.len()),
        };
        assert_eq!(found(Some("a"), Algorithm::ES256), ("named", 1));
        assert_eq!(found(Some("a"), Algorithm::RS256), ("named", 1));
        assert_eq!(found(Some("a"), Algorithm::PS256), ("unnamed", 0));
        // The key without a name may be the one that is meant.
        assert_eq!(found(Some("c"), Algorithm::ES256), ("unnamed", 1));
        assert_eq!(found(None, Algorithm::ES256), ("unnamed", 3));
        assert_eq!(found(None, Algorithm::ES384), ("unnamed", 0));
        assert_eq!(found(None, Algorithm::HS256), ("unnamed", 0));
    }
}

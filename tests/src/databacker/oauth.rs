//! Instances with an ECDSA key instead of a certificate: assertions (RFC 7523), written by hand, and the form in which they
//! are sent for an access token.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

const ASSERTION: &str = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";

/// An ECDSA key on P-256, in PKCS #8.
pub struct Key {
    pair: EcdsaKeyPair,
    public: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.public).finish()
    }
}

impl Key {
    /// A new one.
    pub fn generate() -> Self {
        let made = rcgen::KeyPair::generate().unwrap();
        Self::read(&made.serialize_der(), &made.public_key_pem())
    }

    /// One that another program has made: its PKCS #8 form, and the public half in PEM.
    pub fn read(pkcs8: &[u8], public: &str) -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()).unwrap();
        Self { pair, public: public.to_owned() }
    }

    /// Its public half in PEM.
    pub fn public_key(&self) -> &str {
        &self.public
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "ES256", "typ": "JWT"});
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token with which an instance authenticates itself, for an audience. `seconds` are until it expires.
    pub fn assertion(&self, instance: &str, audience: &str, seconds: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let now = i64::try_from(now).unwrap();
        self.sign(&json!({
            "iss": instance,
            "sub": instance,
            "aud": audience,
            "iat": now + seconds.min(0),
            "exp": now + seconds,
            "jti": super::uuid(),
        }))
    }
}

/// The form that asks for an access token.
pub fn form(assertion: &str) -> String {
    format!(
        "grant_type=client_credentials&client_assertion_type={ASSERTION}&client_assertion={assertion}"
    )
}

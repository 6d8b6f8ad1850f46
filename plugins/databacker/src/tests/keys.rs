//! Keys of instances, what they sign, and what clients compress.

use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keepgate_sdk::Timestamp;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};

use super::*;

/// A key, and its public half in PEM.
pub(super) fn key_pair(number: u8) -> (SigningKey, String) {
    let key = SigningKey::from_slice(&[number; 32]).unwrap();
    let pem = pem(&key);
    (key, pem)
}

pub(super) fn pem(key: &SigningKey) -> String {
    p256::PublicKey::from(key.verifying_key()).to_public_key_pem(LineEnding::LF).unwrap()
}

/// A JWT with these claims, signed by a key.
pub(super) fn jwt(key: &SigningKey, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature: Signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

/// The request with a token that the instance with this id and key has signed.
pub(super) fn signed(key: &SigningKey, id: &str, request: RequestBuilder) -> RequestBuilder {
    let expires = Timestamp::now().as_secs() + 60;
    let claims = json!({"iss": id, "sub": id, "aud": URL, "exp": expires});
    let token = jwt(key, &json!({"alg": "ES256"}), &claims);
    request.header("authorization", &format!("Bearer {token}"))
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

//! Makes keys and signs tokens with them.

use std::process::Command;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _,
};
use serde_json::{Value, json};

/// Made once, because it takes a while. ring makes none.
static RSA: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let made = Command::new("openssl")
        .args("genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -outform DER".split(' '))
        .output()
        .expect("openssl is needed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
});

/// A key, and the algorithm of its tokens.
pub(crate) struct Signer {
    pub(crate) id: Option<String>,
    pub(crate) algorithm: &'static str,
    key: Key,
}

enum Key {
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
    Rsa(Box<rsa::KeyPair>),
}

pub(crate) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(crate) fn new(algorithm: &'static str, id: Option<&str>) -> Self {
        let random = SystemRandom::new();
        let ec = |algorithm, curve| {
            let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            Key::Ec(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap(), curve)
        };
        let key = match algorithm {
            "ES256" => ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
            "ES384" => ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
            "EdDSA" => {
                let key = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Key::Ed(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
            }
            _ => {
                // Versions of openssl differ in which of the two they write.
                let key = rsa::KeyPair::from_pkcs8(&RSA).or_else(|_| rsa::KeyPair::from_der(&RSA));
                Key::Rsa(Box::new(key.unwrap()))
            }
        };
        Self { id: id.map(str::to_owned), algorithm, key }
    }

    /// What the issuer publishes.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Ec(key, curve) => {
                let (x, y) =
                    key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
                json!({"kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y)})
            }
            Key::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(key.public_key())})
            }
            Key::Rsa(key) => {
                let public = rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                // With a zero in front, as some issuers write it.
                json!({"kty": "RSA", "n": encoded([&[0], &*public.n].concat()), "e": encoded(public.e)})
            }
        };
        if let Some(id) = &self.id {
            jwk["kid"] = json!(id);
        }
        jwk
    }

    pub(crate) fn header(&self) -> Value {
        let mut header = json!({"alg": self.algorithm, "typ": "JWT"});
        if let Some(id) = &self.id {
            header["kid"] = json!(id);
        }
        header
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    /// A token with whatever is in it.
    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encoded(header), encoded(claims));
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Ec(key, _) => key.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Key::Ed(key) => key.sign(message.as_bytes()).as_ref().to_vec(),
            Key::Rsa(key) => {
                let padding: &dyn signature::RsaEncoding = match self.algorithm {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    other => panic!("{other}"),
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(padding, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        format!("{message}.{}", encoded(signature))
    }
}

/// A set of these keys, as an issuer publishes it.
pub(crate) fn published(signers: &[&Signer]) -> String {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

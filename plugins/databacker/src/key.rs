//! Public keys of instances: read from PEM, named by their thumbprints, and used to verify signatures.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use keepgate_sdk::Timestamp;
use p256::ecdsa::signature::Verifier as _;
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use p256::pkcs8::DecodePublicKey as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What comes before the 32 bytes of an Ed25519 key in its DER form (RFC 8410).
const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The object identifier of RSA keys, in DER.
const RSA: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// The longest PEM text in bytes. Those of the supported keys have less than 250.
const LONGEST: usize = 4096;

/// A public key of an instance, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    /// The thumbprint of RFC 7638.
    pub(crate) kid: String,
    pub(crate) algorithm: Algorithm,
    /// The SHA-256 of the DER form, in hex; the host names a client's certificate by the same.
    pub(crate) fingerprint: String,
    /// The DER form (SubjectPublicKeyInfo) in hex.
    pub(crate) der: String,
    pub(crate) created: Timestamp,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    ES256,
    ES384,
    Ed25519,
}

impl Key {
    /// Reads a key. The error says what was given instead.
    pub(crate) fn from_pem(pem: &str, created: Timestamp) -> Result<Self, String> {
        if pem.len() > LONGEST {
            return Err("it is too long for the PEM form of a public key".to_owned());
        }
        if pem.contains("PRIVATE KEY") {
            return Err("it is a private key, which must stay where it was made. Consider it exposed: make another \
                        pair, and send the public key"
                .to_owned());
        }
        if pem.contains("BEGIN CERTIFICATE") {
            return Err("it is a certificate; send its public key, as `openssl x509 -pubkey -noout` prints it".to_owned());
        }
        let (label, der) = decode(pem).ok_or_else(|| {
            "it is not the PEM form of a public key, which begins with -----BEGIN PUBLIC KEY-----"
                .to_owned()
        })?;
        if label != "PUBLIC KEY" {
            return Err(format!(
                "it is a {label}; send the form that begins with -----BEGIN PUBLIC KEY-----"
            ));
        }
        Self::from_der(&der, created)
    }

    /// Reads a key from its DER form.
    pub(crate) fn from_der(der: &[u8], created: Timestamp) -> Result<Self, String> {
        let (algorithm, jwk) = read(der)?;
        let kid = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(jwk.to_string()));
        let fingerprint = hex::encode(Sha256::digest(der));
        Ok(Self { kid, algorithm, fingerprint, der: hex::encode(der), created })
    }

    /// Whether a signature in the form of JWTs (RFC 7518, section 3.4) is this key's. Those of Ed25519 keys are not
    /// supported: they are for certificates, and the host verifies them.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(der) = hex::decode(&self.der) else { return false };
        match self.algorithm {
            Algorithm::ES256 => {
                let key = p256::ecdsa::VerifyingKey::from_public_key_der(&der);
                let signature = p256::ecdsa::Signature::from_slice(signature);
                matches!((key, signature), (Ok(key), Ok(one)) if key.verify(message, &one).is_ok())
            }
            Algorithm::ES384 => {
                let key = p384::ecdsa::VerifyingKey::from_public_key_der(&der);
                let signature = p384::ecdsa::Signature::from_slice(signature);
                matches!((key, signature), (Ok(key), Ok(one)) if key.verify(message, &one).is_ok())
            }
            Algorithm::Ed25519 => false,
        }
    }
}

/// The label of a PEM text and what is in it. Lines may be of any length: people paste them in many forms.
fn decode(pem: &str) -> Option<(&str, Vec<u8>)> {
    let (label, rest) = pem.trim().strip_prefix("-----BEGIN ")?.split_once("-----")?;
    let body = rest.strip_suffix("-----")?.strip_suffix(label)?.strip_suffix("-----END ")?;
    let body: String = body.split_ascii_whitespace().collect();
    Some((label, BASE64_STANDARD.decode(body).ok()?))
}

/// The JWK of a P-256 key, with the members that its thumbprint is of, in their order.
pub(crate) fn p256_jwk(key: &p256::PublicKey) -> Value {
    let point = key.to_encoded_point(false);
    jwk_of_point("P-256", point.x().map(AsRef::as_ref), point.y().map(AsRef::as_ref))
}

fn jwk_of_point(curve: &str, x: Option<&[u8]>, y: Option<&[u8]>) -> Value {
    let [x, y] = [x, y].map(|number| BASE64_URL_SAFE_NO_PAD.encode(number.unwrap_or_default()));
    json!({"crv": curve, "kty": "EC", "x": x, "y": y})
}

fn read(der: &[u8]) -> Result<(Algorithm, Value), String> {
    if let Ok(key) = p256::PublicKey::from_public_key_der(der) {
        return Ok((Algorithm::ES256, p256_jwk(&key)));
    }
    if let Ok(key) = p384::PublicKey::from_public_key_der(der) {
        let point = key.to_encoded_point(false);
        let (x, y) = (point.x().map(AsRef::as_ref), point.y().map(AsRef::as_ref));
        return Ok((Algorithm::ES384, jwk_of_point("P-384", x, y)));
    }
    match der.strip_prefix(&ED25519) {
        Some(key) if key.len() == 32 => {
            let x = BASE64_URL_SAFE_NO_PAD.encode(key);
            Ok((Algorithm::Ed25519, json!({"crv": "Ed25519", "kty": "OKP", "x": x})))
        }
        _ if der.windows(RSA.len()).any(|window| window == RSA) => {
            Err("it is an RSA key; supported are ECDSA on P-256 and P-384, and Ed25519".to_owned())
        }
        _ => Err("it is of no supported kind: ECDSA on P-256 and P-384, and Ed25519".to_owned()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Of `openssl genpkey -algorithm ed25519`, from the seed 00 01 … 1f.
    pub(crate) const ED25519_PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn thumbprints_are_those_of_rfc_7638_and_8037() {
        // RFC 8037, appendix A.2 and A.3.
        let x =
            BASE64_URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let key = Key::from_der(&[&ED25519[..], &x].concat(), Timestamp(0)).unwrap();
        assert_eq!(key.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(Key::from_pem(ED25519_PEM, Timestamp(0)).unwrap().algorithm, Algorithm::Ed25519);
    }

    #[test]
    fn lines_may_be_of_any_length() {
        let key = Key::from_pem(ED25519_PEM, Timestamp(0)).unwrap();
        for other in [
            ED25519_PEM.replace('\n', " "),
            ED25519_PEM.replace("6n", "6\r\nn"),
            format!("\n {ED25519_PEM}"),
        ] {
            assert_eq!(Key::from_pem(&other, Timestamp(0)).unwrap(), key, "{other}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_text_is_a_key_or_is_not(text in ".{0,100}", der in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120)) {
            let _ = Key::from_pem(&text, Timestamp(0));
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", BASE64_STANDARD.encode(der));
            let _ = Key::from_pem(&pem, Timestamp(0));
        }
    }

    #[test]
    fn what_is_no_usable_public_key_is_named() {
        let pem = |label: &str, der: &[u8]| {
            let text = BASE64_STANDARD.encode(der);
            format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
        };
        for (given, said) in [
            ("hello".to_owned(), "is not the PEM form"),
            (pem("EC PRIVATE KEY", b"x"), "a private key"),
            (pem("CERTIFICATE", b"x"), "a certificate"),
            (pem("RSA PUBLIC KEY", &[0x30, 0]), "it is a RSA PUBLIC KEY"),
            (pem("PUBLIC KEY", &[&[0x30, 0x0d][..], &RSA, &[5, 0]].concat()), "an RSA key"),
            (pem("PUBLIC KEY", &[0x30, 0]), "no supported kind"),
            ("x".repeat(5000), "too long"),
        ] {
            let error = Key::from_pem(&given, Timestamp(0)).unwrap_err();
            assert!(error.contains(said), "{given}: {error}");
        }
    }
}

//! Signatures of tokens, verified by ring. jsonwebtoken asks its process-wide provider for them; this one signs nothing.

use std::str::FromStr as _;
use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, new_error};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use ring::signature::{self as ring_signature, RsaParameters, RsaPublicKeyComponents};

/// The algorithms that can be verified, in the order in which messages list them. All are asymmetric: with a shared
/// secret, whoever can verify tokens can also make them.
const SUPPORTED: [Algorithm; 9] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    verifier_factory: |algorithm, key| match key.family() == algorithm.family() {
        true => Ok(Box::new(ByRing { algorithm: *algorithm, key: key.clone() })),
        false => Err(new_error(ErrorKind::InvalidAlgorithm)),
    },
    // For making JWKs, which nothing here does.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Algorithms by which tokens may be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Algorithms(Vec<Algorithm>);

impl Default for Algorithms {
    /// All that are supported.
    fn default() -> Self {
        Self(SUPPORTED.to_vec())
    }
}

impl Algorithms {
    /// The algorithms with these names, as they are written in tokens.
    ///
    /// # Errors
    ///
    /// Says why a name cannot be used and what to write.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut all = Vec::new();
        for name in names {
            let known = Algorithm::from_str(name).ok().filter(|known| SUPPORTED.contains(known));
            all.push(known.ok_or_else(|| unsupported(name))?);
        }
        match all.is_empty() {
            true => Err("no algorithm is listed, so no token is valid; remove the key to accept all that are supported"
                .to_owned()),
            false => Ok(Self(all)),
        }
    }

    pub(super) fn contains(&self, algorithm: Algorithm) -> bool {
        self.0.contains(&algorithm)
    }
}

fn unsupported(name: &str) -> String {
    let supported: Vec<_> = SUPPORTED.iter().map(|known| format!("{known:?}")).collect();
    let supported = supported.join(", ");
    let why = match name {
        "none" => " accepts tokens that nobody signed;",
        _ if name.starts_with("HS") => {
            " has one key for signing and verifying, so it proves nothing about the issuer;"
        }
        _ => " is not supported;",
    };
    format!("{name:?}{why} supported: {supported}")
}

/// Makes ring verify what jsonwebtoken decodes; must precede each use of it.
pub(super) fn use_ring() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // Fails only if there is one already, and nothing else in this program installs one.
        let _ = PROVIDER.install_default();
    });
}

/// Verifies with one key.
struct ByRing {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        if let Some(parameters) = rsa(self.algorithm) {
            let DecodingKeyKind::RsaModulusExponent { n, e } = self.key.kind() else {
                return Err(Error::new());
            };
            let key = RsaPublicKeyComponents { n: unpadded(n), e: unpadded(e) };
            return key.verify(parameters, message, signature).map_err(|_| Error::new());
        }
        let algorithm: &dyn ring_signature::VerificationAlgorithm = match self.algorithm {
            Algorithm::ES256 => &ring_signature::ECDSA_P256_SHA256_FIXED,
            Algorithm::ES384 => &ring_signature::ECDSA_P384_SHA384_FIXED,
            Algorithm::EdDSA => &ring_signature::ED25519,
            _ => return Err(Error::new()),
        };
        let key = self.key.try_get_as_bytes().map_err(|_| Error::new())?;
        let key = ring_signature::UnparsedPublicKey::new(algorithm, key);
        key.verify(message, signature).map_err(|_| Error::new())
    }
}

/// Some issuers write a zero before a number, as ASN.1 does, which ring refuses.
pub(super) fn unpadded(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// How an RSA signature is verified, if the algorithm is one.
fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    if algorithm.family() != AlgorithmFamily::Rsa {
        return None;
    }
    match algorithm {
        Algorithm::RS256 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&ring_signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&ring_signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&ring_signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_asymmetric_algorithms_can_be_listed() {
        for known in SUPPORTED {
            let name = format!("{known:?}");
            assert!(Algorithms::named([&*name]).unwrap().contains(known), "{name}");
            assert!(Algorithms::default().contains(known), "{name}");
        }
        for (name, why) in [
            ("none", "nobody signed"),
            ("HS256", "one key for signing and verifying"),
            ("HS512", "one key for signing and verifying"),
            ("ES512", "is not supported; supported: ES256, ES384, EdDSA, RS256"),
            ("es256", "is not supported"),
            ("", "is not supported"),
        ] {
            let said = Algorithms::named(["RS256", name]).unwrap_err();
            assert!(said.contains(why), "{name}: {said}");
        }
        assert!(Algorithms::named([]).unwrap_err().contains("no token is valid"));
        for secret in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert!(!Algorithms::default().contains(secret));
        }
    }
}

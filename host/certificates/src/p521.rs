//! The curve P-521 for rustls, beside what *ring* has: verifying signatures, and signing with such a key.
//!
//! The arithmetic is RustCrypto's, which has not been audited. It is used for P-521 alone.

use std::sync::{Arc, LazyLock};

use p521::SecretKey;
use p521::ecdsa::signature::Signer as _;
use p521::ecdsa::signature::hazmat::PrehashVerifier as _;
use p521::ecdsa::{Signature, SigningKey, VerifyingKey};
use p521::pkcs8::DecodePrivateKey as _;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::sign::{self, public_key_to_spki};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm,
    SubjectPublicKeyInfoDer, alg_id,
};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Bytes of a number of this curve.
const FIELD: usize = 66;

type Algorithm = &'static dyn SignatureVerificationAlgorithm;
type Mapping = (SignatureScheme, &'static [Algorithm]);

/// The algorithms for signatures of certificates and handshakes.
struct Algorithms {
    all: Vec<Algorithm>,
    mapping: Vec<Mapping>,
}

static ALGORITHMS: LazyLock<Algorithms> = LazyLock::new(|| {
    let ring = ring::default_provider().signature_verification_algorithms;
    let mut all = ring.all.to_vec();
    all.extend(VERIFIERS);
    let mut mapping = ring.mapping.to_vec();
    // In TLS 1.2, a scheme names a hash and no curve, and OpenSSL signs with the first one that it is offered. TLS 1.3 looks
    // at the first algorithm alone.
    for (scheme, algorithms) in &mut mapping {
        let further: Algorithm = match scheme {
            SignatureScheme::ECDSA_NISTP384_SHA384 => &Verifier(Hash::Sha384),
            SignatureScheme::ECDSA_NISTP256_SHA256 => &Verifier(Hash::Sha256),
            _ => continue,
        };
        *algorithms = [algorithms, [further].as_slice()].concat().leak();
    }
    mapping.push((SignatureScheme::ECDSA_NISTP521_SHA512, HANDSHAKE));
    Algorithms { all, mapping }
});

const VERIFIERS: [Algorithm; 3] =
    [&Verifier(Hash::Sha512), &Verifier(Hash::Sha384), &Verifier(Hash::Sha256)];

const HANDSHAKE: &[Algorithm] = &[&Verifier(Hash::Sha512)];

/// Those of *ring*, and P-521.
pub(crate) fn with_ring() -> WebPkiSupportedAlgorithms {
    let Algorithms { all, mapping } = &*ALGORITHMS;
    WebPkiSupportedAlgorithms { all, mapping }
}

/// Verifies ECDSA signatures of P-521 keys over this hash.
#[derive(Debug)]
struct Verifier(Hash);

#[derive(Debug)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl SignatureVerificationAlgorithm for Verifier {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        let mut hash = match self.0 {
            Hash::Sha256 => Sha256::digest(message).to_vec(),
            Hash::Sha384 => Sha384::digest(message).to_vec(),
            Hash::Sha512 => Sha512::digest(message).to_vec(),
        };
        // As a number; the library refuses hashes that are much shorter than the curve.
        while hash.len() < FIELD {
            hash.insert(0, 0);
        }
        key.verify_prehash(&hash, &signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        match self.0 {
            Hash::Sha256 => alg_id::ECDSA_SHA256,
            Hash::Sha384 => alg_id::ECDSA_SHA384,
            Hash::Sha512 => alg_id::ECDSA_SHA512,
        }
    }
}

/// Reads private keys: those that *ring* has, and P-521.
#[derive(Debug)]
pub(crate) struct KeyProvider;

impl rustls::crypto::KeyProvider for KeyProvider {
    fn load_private_key(
        &self,
        der: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn sign::SigningKey>, Error> {
        match Key::read(&der) {
            Some(key) => Ok(Arc::new(key)),
            None => ring::default_provider().key_provider.load_private_key(der),
        }
    }
}

/// A private key.
#[derive(Clone)]
struct Key(Arc<SigningKey>);

impl Key {
    /// `None` if it is on another curve, or of another kind.
    fn read(der: &PrivateKeyDer<'_>) -> Option<Self> {
        let key = match der {
            PrivateKeyDer::Pkcs8(der) => SecretKey::from_pkcs8_der(der.secret_pkcs8_der()).ok(),
            PrivateKeyDer::Sec1(der) => SecretKey::from_sec1_der(der.secret_sec1_der()).ok(),
            _ => None,
        };
        Some(Self(Arc::new(SigningKey::from_bytes(&key?.to_bytes()).ok()?)))
    }
}

impl sign::SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn sign::Signer>> {
        let ours = offered.contains(&SignatureScheme::ECDSA_NISTP521_SHA512);
        ours.then(|| -> Box<dyn sign::Signer> { Box::new(self.clone()) })
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        let point = VerifyingKey::from(&*self.0).to_encoded_point(false);
        Some(public_key_to_spki(&alg_id::ECDSA_P521, point))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl sign::Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature: Result<Signature, _> = self.0.try_sign(message);
        let signature = signature.map_err(|_| Error::General("cannot sign".to_owned()))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP521_SHA512
    }
}

/// Without the key.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("P-521 key")
    }
}

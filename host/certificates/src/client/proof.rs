//! The handshake's part: a certificate is requested and not required, and whoever sends one proves to have its key.
//! Whether it is accepted is decided for each request, where the answer is a response and not an alert.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use webpki::RawPublicKeyEntity;

use crate::{p521, validity};

/// Verifies that clients have the keys of the certificates that they send, and nothing else.
#[derive(Debug)]
pub struct ProofOfKey {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ProofOfKey {
    /// For all kinds of keys that this crate has.
    pub fn new() -> Self {
        Self { algorithms: p521::with_ring() }
    }
}

impl Default for ProofOfKey {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientCertVerifier for ProofOfKey {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Names of authorities would keep clients from sending a self-signed certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(key) = usable_key(certificate) else {
            return Ok(HandshakeSignatureValid::assertion());
        };
        let bad = || Error::from(CertificateError::BadSignature);
        let mut mapping = self.algorithms.mapping.iter();
        let (_, algorithms) = mapping
            .find(|(scheme, _)| *scheme == signature.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| bad())?;
        // In TLS 1.2, a scheme does not name the curve.
        let mut algorithms = algorithms.iter();
        let verified = algorithms.any(|algorithm| {
            key.verify_signature(*algorithm, message, signature.signature()).is_ok()
        });
        verified.then(HandshakeSignatureValid::assertion).ok_or_else(bad)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(key) = usable_key(certificate) else {
            return Ok(HandshakeSignatureValid::assertion());
        };
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The key, read from the certificate without webpki, which refuses X.509 version 1. `None` if
/// [`ClientCertificate::read`](super::ClientCertificate::read) refuses the certificate, so that no proof is needed.
fn usable_key(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    super::usable_key(&validity::parse(certificate)?).ok()
}

/// Whether there is an algorithm for signatures of this key. The library has no other way to ask than to verify one.
pub(super) fn has_algorithm(key: &SubjectPublicKeyInfoDer<'_>) -> bool {
    let Ok(key) = RawPublicKeyEntity::try_from(key) else { return false };
    let unsupported = |error: &webpki::Error| {
        matches!(error, webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_))
    };
    p521::with_ring().all.iter().any(|algorithm| {
        let tried = key.verify_signature(*algorithm, &[], &[]);
        !tried.is_err_and(|error| unsupported(&error))
    })
}

//! Trust in one certificate by its SHA-256 fingerprint: what an operator has who saw the server's certificate once, as
//! LXD's clients do, because its certificates are self-signed.
//!
//! Whoever issued the certificate and which names it has do not matter: the fingerprint names this very certificate,
//! and the server proves in the handshake that it has the key. Its times are still checked, because whoever renews a
//! certificate expects the old one to stop.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{Fingerprint, validity};

/// Verifies a server by the fingerprint of its certificate.
#[derive(Debug)]
pub struct Pinned {
    fingerprint: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    /// Trusts the certificate with this fingerprint and no other.
    pub fn new(fingerprint: Fingerprint) -> Arc<Self> {
        let algorithms = crate::provider().signature_verification_algorithms;
        Arc::new(Self { fingerprint, algorithms })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Fingerprint::of(end_entity) != self.fingerprint {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let parsed = validity::parse(end_entity).ok_or(CertificateError::BadEncoding)?;
        validity::check_dates(&parsed, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if let Some(key) = validity::key_of_version_1(certificate) {
            return verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms);
        }
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

//! Whom a client trusts: the certificates in a file that the operator configured.
//!
//! They are authorities, as everywhere. Besides, a server may show one of them itself: a self-signed
//! certificate, as `openssl req -x509` and `etcd --auto-tls` make it, is its own authority. webpki refuses a
//! certificate of an authority (`CA:TRUE`) and X.509 version 1 as a server's. Here a certificate that is byte
//! for byte in the file is accepted, as Go's clients do:
//!
//! - The operator has named this very certificate, so no authority has to vouch for it.
//! - The server proves in the handshake that it has the key; that signature is verified as ever.
//! - It must be valid at this time, for servers (extended key usage) and for the host name. One that names no
//!   host at all (no subject alternative name; version 1 cannot have any) is accepted for any: it identifies
//!   the holder of the key. Go refuses those.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::X509Certificate;

use crate::validity;

/// Verifies servers by the certificates of a file.
#[derive(Debug)]
pub struct Trust {
    named: Vec<CertificateDer<'static>>,
    by_authority: Arc<WebPkiServerVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// Trusts these certificates, and what they sign.
    ///
    /// # Errors
    ///
    /// If none of them can be an authority.
    pub fn new(named: Vec<CertificateDer<'static>>) -> Result<Arc<Self>, Error> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(named.iter().cloned());
        let provider = crate::provider();
        let algorithms = provider.signature_verification_algorithms;
        let by_authority =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let by_authority = by_authority.map_err(|error| Error::General(error.to_string()))?;
        Ok(Arc::new(Self { named, by_authority, algorithms }))
    }

    fn is_named(&self, certificate: &CertificateDer<'_>) -> bool {
        self.named.iter().any(|named| named == certificate)
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.is_named(end_entity) {
            let parsed = validity::parse(end_entity).ok_or(CertificateError::BadEncoding)?;
            return check_named(end_entity, &parsed, server_name, now);
        }
        let verifier = &self.by_authority;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.is_named(certificate)
            && let Some(key) = validity::key_of_version_1(certificate)
        {
            let algorithms = &self.algorithms;
            return verify_tls13_signature_with_raw_key(message, &key, signature, algorithms);
        }
        self.by_authority.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

/// Checks what a certificate that the operator named says about itself.
fn check_named(
    certificate: &CertificateDer<'_>,
    parsed: &X509Certificate<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    validity::check_dates(parsed, now)?;
    let usage = parsed.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
    if usage.is_some_and(|usage| !usage.value.any && !usage.value.server_auth) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    let names = parsed.subject_alternative_name().map_err(|_| CertificateError::BadEncoding)?;
    if names.is_some() {
        verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)?;
    }
    Ok(ServerCertVerified::assertion())
}

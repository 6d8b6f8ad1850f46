//! How the client checks a server: not by authorities, but by fingerprints of which one must be that of a certificate in
//! the chain, and by its own reading of the leaf.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The certificates that a client takes from a server.
#[derive(Clone, Debug)]
pub struct Pins {
    /// `sha256:` and lower-case hex, as configurations have them.
    fingerprints: Vec<String>,
    host: String,
    provider: Arc<CryptoProvider>,
}

/// Why a server is not trusted.
#[derive(Debug)]
struct Untrusted(String);

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Untrusted {}

/// The fingerprint of a certificate, as configurations have it.
pub fn fingerprint(der: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(der)))
}

impl Pins {
    /// These fingerprints, for a host as the URL names it.
    pub fn new(fingerprints: &[String], host: &str) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Self { fingerprints: fingerprints.to_vec(), host: host.to_owned(), provider }
    }

    /// Judges the chain that a server presents at a time in seconds since 1970.
    ///
    /// # Errors
    ///
    /// Why it is not trusted.
    pub fn judge(&self, chain: &[&[u8]], now: u64) -> Result<(), String> {
        if let Some(other) = self.fingerprints.iter().find(|one| !one.starts_with("sha256:")) {
            return Err(format!("unsupported algorithm of a fingerprint: {other}"));
        }
        let is_pinned = |der: &&[u8]| self.fingerprints.contains(&fingerprint(der));
        if !chain.iter().any(is_pinned) {
            return Err("certificate not trusted".to_owned());
        }
        let leaf = chain.first().ok_or("no certificate")?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
        let now = i64::try_from(now).unwrap();
        let validity = leaf.validity();
        if now < validity.not_before.timestamp() || now > validity.not_after.timestamp() {
            return Err("certificate is outside its validity".to_owned());
        }
        let usage = leaf.key_usage().map_err(|error| error.to_string())?;
        if !usage.is_some_and(|usage| usage.value.digital_signature()) {
            return Err("certificate is not for digital signatures".to_owned());
        }
        match self.is_named(&leaf) {
            true => Ok(()),
            false => Err(format!("certificate is not for {}", self.host)),
        }
    }

    /// Whether the leaf names the host: exactly, without wildcards, and an address only if it is written as a DNS name.
    fn is_named(&self, leaf: &X509Certificate<'_>) -> bool {
        let mut common = leaf.subject().iter_common_name();
        if common.any(|name| name.as_str().is_ok_and(|name| name == self.host)) {
            return true;
        }
        let Ok(Some(names)) = leaf.subject_alternative_name() else { return false };
        let mut names = names.value.general_names.iter();
        names.any(|name| matches!(name, GeneralName::DNSName(name) if *name == self.host))
    }
}

impl ServerCertVerifier for Pins {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<&[u8]> =
            std::iter::once(end_entity).chain(intermediates).map(AsRef::as_ref).collect();
        self.judge(&chain, now.as_secs()).map(|()| ServerCertVerified::assertion()).map_err(|why| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Untrusted(why)))))
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, KeyUsagePurpose, SanType};

    use super::*;

    const NOW: u64 = 1_769_817_600;

    fn leaf(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = ["localhost", "127.0.0.1", "*.example.com"]
            .map(|name| SanType::DnsName(name.try_into().unwrap()))
            .to_vec();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn judged(chain: &[&[u8]], pinned: &[u8], host: &str) -> Result<(), String> {
        Pins::new(&[fingerprint(pinned)], host).judge(chain, NOW)
    }

    #[test]
    fn servers_are_judged_by_the_clients_own_rules() {
        let good = leaf(|_| {});
        let other = leaf(|_| {});
        for (host, is_taken) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("LOCALHOST", false),
            ("a.example.com", false),
            ("*.example.com", true),
        ] {
            assert_eq!(judged(&[&good], &good, host).is_ok(), is_taken, "{host}");
        }
        // Any certificate of the chain may be the pinned one.
        assert_eq!(judged(&[&good, &other], &other, "localhost"), Ok(()));
        assert_eq!(judged(&[&good], &other, "localhost").unwrap_err(), "certificate not trusted");

        let address = leaf(|params| {
            params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        });
        let error = judged(&[&address], &address, "127.0.0.1").unwrap_err();
        assert_eq!(error, "certificate is not for 127.0.0.1");
        let common = leaf(|params| {
            params.subject_alt_names.clear();
            params.distinguished_name.push(DnType::CommonName, "127.0.0.1");
        });
        assert_eq!(judged(&[&common], &common, "127.0.0.1"), Ok(()));
        let expired = leaf(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        assert!(judged(&[&expired], &expired, "localhost").unwrap_err().contains("validity"));
        let useless = leaf(|params| params.key_usages.clear());
        assert!(judged(&[&useless], &useless, "localhost").unwrap_err().contains("signatures"));

        let sha1 = Pins::new(&["sha1:00".to_owned(), fingerprint(&good)], "localhost");
        assert!(sha1.judge(&[&good], NOW).unwrap_err().starts_with("unsupported algorithm"));
        let upper = Pins::new(&[fingerprint(&good).to_uppercase()], "localhost");
        assert!(upper.judge(&[&good], NOW).is_err());
    }
}

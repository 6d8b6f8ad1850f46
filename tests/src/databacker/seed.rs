//! The 32 bytes that an instance is known by: they are the seed of an Ed25519 key, which its certificate has, and, as they
//! are, the scalar of an X25519 key, for which configurations are encrypted. Neither public key follows from the other.

use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use x25519_dalek::{PublicKey, StaticSecret};

/// What comes before the seed in the PKCS #8 form of an Ed25519 key (RFC 8410).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// How long a certificate is valid. The client makes one when it starts, and uses it for as long as it runs.
const VALID: Duration = Duration::minutes(5);

/// The seed of an instance.
#[derive(Clone, Debug)]
pub struct Seed([u8; 32]);

impl Seed {
    /// This one.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new one.
    pub fn random() -> Self {
        Self(super::random())
    }

    /// How configurations have it: `credentials`.
    pub fn credentials(&self) -> String {
        BASE64_STANDARD.encode(self.0)
    }

    /// The public key of its certificates, in PEM.
    pub fn public_key(&self) -> String {
        self.pair().public_key_pem()
    }

    /// The public key of its certificates, its 32 bytes.
    pub fn public_key_raw(&self) -> Vec<u8> {
        self.pair().public_key_raw().to_vec()
    }

    /// The key for which configurations are encrypted.
    pub fn secret(&self) -> StaticSecret {
        StaticSecret::from(self.0)
    }

    /// Its public half in base64.
    pub fn encryption_public_key(&self) -> String {
        BASE64_STANDARD.encode(PublicKey::from(&self.secret()))
    }

    fn pair(&self) -> KeyPair {
        KeyPair::from_pkcs8_der_and_sign_algo(&self.pkcs8(), &PKCS_ED25519).unwrap()
    }

    /// The private key as TLS takes it.
    pub fn pkcs8(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from([&PKCS8[..], &self.0].concat())
    }

    /// The certificate of a client that has just been started.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate_of(SystemTime::now())
    }

    /// The certificate of a client that was started at this time.
    pub fn certificate_of(&self, started: SystemTime) -> CertificateDer<'static> {
        let started = OffsetDateTime::from(started);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "client.databack.io");
        params.serial_number = Some(SerialNumber::from(1_u64));
        params.not_before = started;
        params.not_after = started + VALID;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        // Basic constraints that say it is no authority's, without the key's identifier, which rcgen would add.
        let mut constraints = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0]);
        constraints.set_criticality(true);
        params.custom_extensions = vec![constraints];
        params.self_signed(&self.pair()).unwrap().der().clone()
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;

    #[test]
    fn the_keys_are_those_of_the_real_client() {
        let seed = Seed::new(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        assert_eq!(seed.credentials(), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        let key = BASE64_STANDARD.encode(seed.public_key_raw());
        assert_eq!(key, "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=");
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\n\
                   -----END PUBLIC KEY-----\n";
        assert_eq!(seed.public_key().replace('\r', ""), pem);
        assert_eq!(seed.encryption_public_key(), "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=");
    }

    #[test]
    fn the_certificate_is_that_of_the_real_client() {
        let started = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_769_817_600);
        let der = Seed::random().certificate_of(started);
        let (rest, certificate) = X509Certificate::from_der(&der).unwrap();
        assert!(rest.is_empty());
        assert_eq!(certificate.subject().to_string(), "O=client.databack.io");
        assert_eq!(certificate.issuer(), certificate.subject());
        assert_eq!(certificate.serial.to_string(), "1");
        let validity = certificate.validity();
        assert_eq!(validity.not_before.timestamp(), 1_769_817_600);
        assert_eq!(validity.not_after.timestamp(), 1_769_817_600 + 300);
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.key_encipherment());
        assert_eq!(usage.flags.count_ones(), 2);
        let extended = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && extended.client_auth && !extended.any);
        assert!(!certificate.basic_constraints().unwrap().unwrap().value.ca);
        assert!(certificate.subject_alternative_name().unwrap().is_none());
        assert_eq!(certificate.extensions().len(), 3);
    }
}

//! A certificate authority, a server certificate for loopback and a client certificate, as PEM files.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tempfile::TempDir;

/// `ca.pem`, `server.pem`, `server.key`, `client.pem` and `client.key` in a temporary folder.
#[derive(Clone, Debug)]
pub struct Certificates {
    folder: Arc<TempDir>,
}

impl Certificates {
    /// Generates all of them.
    pub fn new() -> Self {
        let made = Self { folder: Arc::new(tempfile::tempdir().unwrap()) };
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        authority.distinguished_name.push(DnType::CommonName, "the tests' authority");
        let key = KeyPair::generate().unwrap();
        let certificate = authority.self_signed(&key).unwrap();
        fs::write(made.path("ca.pem"), certificate.pem()).unwrap();
        let issuer = Issuer::new(authority, key);
        for name in ["server", "client"] {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.subject_alt_names.push(SanType::IpAddress(IpAddr::from([127, 0, 0, 1])));
            params.distinguished_name.push(DnType::CommonName, name);
            // The server's JSON gateway is itself a client, with the server's certificate.
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            fs::write(made.path(&format!("{name}.pem")), certificate.pem()).unwrap();
            fs::write(made.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        made
    }

    /// The path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

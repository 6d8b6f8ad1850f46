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
        let (certificate, authority) = signed_by_itself("the tests' authority");
        fs::write(made.path("ca.pem"), certificate).unwrap();
        made.sign("server", &authority);
        made.sign("client", &authority);
        made
    }

    /// The same, except that the server's certificate is self-signed and its own authority, as
    /// `openssl req -x509` makes it.
    pub fn of_a_self_signed_server() -> Self {
        let made = Self { folder: Arc::new(tempfile::tempdir().unwrap()) };
        let (certificate, server) = signed_by_itself("server");
        for name in ["ca.pem", "server.pem"] {
            fs::write(made.path(name), &certificate).unwrap();
        }
        fs::write(made.path("server.key"), server.key().serialize_pem()).unwrap();
        made.sign("client", &server);
        made
    }

    fn sign(&self, name: &str, authority: &Issuer<'_, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let certificate = for_loopback(name).signed_by(&key, authority).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// The path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn for_loopback(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::from([127, 0, 0, 1])));
    params.distinguished_name.push(DnType::CommonName, name);
    // The server's JSON gateway is itself a client, with the server's certificate.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// An authority that may also be a server: its certificate as PEM, and what signs others.
fn signed_by_itself(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut authority = for_loopback(name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    let certificate = authority.self_signed(&key).unwrap();
    (certificate.pem(), Issuer::new(authority, key))
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

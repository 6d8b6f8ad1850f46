//! Certificates of clients: keys of every kind are proven in the handshake, and authorities vouch for what they issued.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests, and the line that says why they are skipped"
)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use keepgate_certificates::client::{Authorities, ProofOfKey};
use keepgate_certificates::{ClientCertificate, Distrust, Identity, file, provider, validity};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, Connection, Error, ServerConfig, ServerConnection,
    SignatureAlgorithm, SignatureScheme,
};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256, Sha384};

use support::{Folder, LOCALHOST, P256, P384, P521, RSA, shake_hands};

/// Presents a certificate whether it makes sense or not.
#[derive(Debug)]
struct Presents(Arc<CertifiedKey>);

impl ResolvesClientCert for Presents {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Signs with this scheme, and with rubbish.
#[derive(Clone, Debug)]
struct Forger(SignatureScheme);

impl SigningKey for Forger {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(self.clone()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for Forger {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![7; 64])
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}

/// Signs as OpenSSL does with a P-521 key in TLS 1.2: with the first hash that the server offers.
#[derive(Clone)]
struct OtherHash(p521::ecdsa::SigningKey, SignatureScheme);

impl std::fmt::Debug for OtherHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OtherHash")
    }
}

impl SigningKey for OtherHash {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        assert!(offered.contains(&self.1));
        Some(Box::new(self.clone()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for OtherHash {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        use p521::ecdsa::signature::hazmat::PrehashSigner as _;
        let hash = match self.1 {
            SignatureScheme::ECDSA_NISTP256_SHA256 => Sha256::digest(message).to_vec(),
            _ => Sha384::digest(message).to_vec(),
        };
        // The library refuses hashes that are much shorter than the curve; as a number, this is the same.
        let padded = [vec![0; 66 - hash.len()], hash].concat();
        let signature: p521::ecdsa::Signature = self.0.sign_prehash(&padded).unwrap();
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        self.1
    }
}

#[test]
fn p521_signs_with_any_hash_in_tls_1_2() {
    use p521::pkcs8::DecodePrivateKey as _;
    let Some(folder) = Folder::new("P-521 with other hashes") else { return };
    folder.self_signed("server", P256, LOCALHOST);
    folder.self_signed("client", P521, "");
    let (server, client) = (folder.load("server"), folder.load("client"));
    let der = file::private_key(&folder.path("client.key")).unwrap();
    let key = p521::SecretKey::from_pkcs8_der(der.secret_der()).unwrap();
    let key = p521::ecdsa::SigningKey::from_bytes(&key.to_bytes()).unwrap();
    for scheme in [SignatureScheme::ECDSA_NISTP384_SHA384, SignatureScheme::ECDSA_NISTP256_SHA256] {
        let signer = Arc::new(OtherHash(key.clone(), scheme));
        let certified = Arc::new(CertifiedKey::new(client.chain().to_vec(), signer));
        assert_eq!(presented(&server, certified.clone(), true).unwrap(), client.chain());
        assert!(presented(&server, certified, false).is_err(), "TLS 1.3 names the curve");
    }
}

/// What a server has of a client after the handshake.
fn presented(
    server: &Identity,
    client: Arc<CertifiedKey>,
    tls12: bool,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let versions: &[&rustls::SupportedProtocolVersion] =
        if tls12 { &[&rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
    let resolver = Arc::new(SingleCertAndKey::from(server.certified.clone()));
    let trusted = keepgate_certificates::trust::Trust::new(server.chain().to_vec()).unwrap();
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(Arc::new(ProofOfKey::new()))
        .with_cert_resolver(resolver);
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(trusted)
        .with_client_cert_resolver(Arc::new(Presents(client)));
    let mut server = Connection::from(ServerConnection::new(Arc::new(server)).unwrap());
    let name = "localhost".try_into().unwrap();
    let mut client = Connection::from(ClientConnection::new(Arc::new(client), name).unwrap());
    shake_hands(&mut client, &mut server)?;
    Ok(server.peer_certificates().unwrap_or_default().to_vec())
}

#[test]
fn keys_of_every_supported_kind_are_proven() {
    let Some(folder) = Folder::new("keys of clients") else { return };
    folder.self_signed("server", P256, LOCALHOST);
    let server = folder.load("server");
    let kinds = [
        ("p256", P256),
        ("p384", P384),
        ("p521", P521),
        ("rsa", RSA),
        ("ed25519", "-algorithm ED25519"),
    ];
    for (name, key) in kinds {
        folder.self_signed(name, key, "");
        // X.509 version 1, as `openssl x509` without extensions makes it.
        folder.openssl(&format!("req -new -key {name}.key -subj /CN=old -out {name}.csr"));
        let old = format!("{name}-1");
        folder
            .openssl(&format!("x509 -req -in {name}.csr -key {name}.key -days 100 -out {old}.pem"));
        fs::copy(folder.path(&format!("{name}.key")), folder.path(&format!("{old}.key"))).unwrap();
        for name in [name, &old] {
            let client = folder.load(name);
            for tls12 in [false, true] {
                let found = presented(&server, client.certified.clone(), tls12).unwrap();
                assert_eq!(found, client.chain(), "{name} {tls12}");
                let read = ClientCertificate::read(&found).unwrap();
                read.check(validity::now()).unwrap();
                // The certificate with somebody's signature.
                let forger = Arc::new(Forger(SignatureScheme::ED25519));
                let forged = Arc::new(CertifiedKey::new(client.chain().to_vec(), forger));
                assert!(presented(&server, forged, tls12).is_err(), "{name} {tls12}");
            }
        }
    }
}

#[test]
fn what_cannot_be_proven_passes_the_handshake_and_is_never_read() {
    let Some(folder) = Folder::new("keys that cannot be used") else { return };
    folder.self_signed("server", P256, LOCALHOST);
    let server = folder.load("server");
    let kinds = [
        ("weak", "-algorithm RSA -pkeyopt rsa_keygen_bits:1024", "RSA with 1024 bits"),
        ("other", "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "another kind"),
        ("ed448", "-algorithm ED448", "another kind"),
    ];
    let mut cases = vec![(vec![CertificateDer::from(b"rubbish".to_vec())], "not a valid X.509")];
    for (name, key, expected) in kinds {
        folder.self_signed(name, key, "");
        cases.push((file::certificates(&folder.path(&format!("{name}.pem"))).unwrap(), expected));
    }
    for (chain, expected) in cases {
        for tls12 in [false, true] {
            let forger = Arc::new(Forger(SignatureScheme::ED25519));
            let client = Arc::new(CertifiedKey::new(chain.clone(), forger));
            let found = presented(&server, client, tls12).unwrap();
            assert_eq!(found, chain);
            let said = ClientCertificate::read(&found).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// An authority in a file, and a client's certificate that it has issued.
fn issued(
    folder: &tempfile::TempDir,
    authority: CertificateParams,
) -> (PathBuf, ClientCertificate) {
    let (key, client) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let file = folder.path().join("ca.pem");
    fs::write(&file, authority.self_signed(&key).unwrap().pem()).unwrap();
    let issued = params("ann").signed_by(&client, &Issuer::new(authority, key)).unwrap();
    (file, ClientCertificate::read(&[issued.der().clone()]).unwrap())
}

#[test]
fn an_authority_vouches_only_while_it_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let (file, ann) = issued(&folder, authority("always"));
    let now = validity::now();
    let trusted = Authorities::load(&[file]).unwrap();
    assert_eq!(trusted.verify(&ann, now), Ok(()));
    assert_eq!(ann.subject(), "CN=ann");

    let mut expired = authority("expired");
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let (file, bob) = issued(&folder, expired);
    let trusted = Authorities::load(&[file]).unwrap();
    assert_eq!(trusted.verify(&bob, now), Err(Distrust::IssuerDates));
    assert_eq!(trusted.verify(&ann, now), Err(Distrust::UnknownIssuer { alone: true }));
    let earlier = Authorities::load(&[folder.path().join("ca.pem")]).unwrap();
    assert_eq!(earlier.verify(&bob, 1_500_000_000), Ok(()));
}

#[test]
fn certificates_of_clients_are_no_authorities() {
    let folder = tempfile::tempdir().unwrap();
    let mut cannot_sign = authority("x");
    cannot_sign.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    for (params, expected) in [(params("ann"), "CA:TRUE"), (cannot_sign, "key usage")] {
        let (file, _) = issued(&folder, params);
        let said = Authorities::load(&[file]).unwrap_err().to_string();
        assert!(said.contains("certificate number 1 in ") && said.contains(expected), "{said}");
    }
    let said = Authorities::load(&[folder.path().join("missing")]).unwrap_err().to_string();
    assert!(said.contains("missing"), "{said}");

    let Some(openssl) = Folder::new("X.509 version 1 as an authority") else { return };
    openssl.self_signed("ca", P256, "");
    openssl.openssl("req -new -key ca.key -subj /CN=old -out ca.csr");
    openssl.openssl("x509 -req -in ca.csr -key ca.key -days 100 -out old.pem");
    let said = Authorities::load(&[openssl.path("old.pem")]).unwrap_err().to_string();
    assert!(said.contains("not an authority's"), "{said}");
}

impl Folder {
    fn load(&self, name: &str) -> Identity {
        let file = |end: &str| self.path(&format!("{name}.{end}"));
        Identity::load(&file("pem"), &file("key")).unwrap()
    }
}

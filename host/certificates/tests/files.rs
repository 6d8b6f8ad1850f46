//! Certificates and keys as the `openssl` program makes them. Without it, these tests are skipped with a line.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests, and the line that says why they are skipped"
)]

mod support;

use std::path::Path;
use std::sync::Arc;

use keepgate_certificates::trust::Trust;
use keepgate_certificates::{Identity, State, Validity, file, provider};
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use support::{Folder, LOCALHOST, P256, P384, P521, RSA, shake_hands};

impl Folder {
    fn load(&self, certificate: &str, key: &str) -> Result<Identity, String> {
        Identity::load(&self.path(certificate), &self.path(key)).map_err(|error| error.to_string())
    }

    fn refused(&self, certificate: &str, key: &str, words: &[&str]) {
        let error = self.load(certificate, key).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{certificate} {key}: {word:?} is not in {error}");
        }
        assert!(!error.contains('\n'), "{error}");
    }
}

/// A handshake in memory: of a server with this identity, and a client that trusts these.
fn handshake(identity: &Identity, trusted: &Path, name: &str, tls12: bool) -> Result<(), String> {
    let versions: &[&rustls::SupportedProtocolVersion] =
        if tls12 { &[&rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
    let resolver = Arc::new(SingleCertAndKey::from(identity.certified.clone()));
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    let trust: Arc<dyn ServerCertVerifier> =
        Trust::new(file::certificates(trusted).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(trust)
        .with_no_client_auth();
    let mut server = Connection::from(ServerConnection::new(Arc::new(server)).unwrap());
    let name = name.to_owned().try_into().unwrap();
    let mut client = Connection::from(ClientConnection::new(Arc::new(client), name).unwrap());
    shake_hands(&mut client, &mut server)
}

#[test]
fn keys_of_every_supported_kind_serve_and_are_verified() {
    let Some(folder) = Folder::new("kinds of keys") else { return };
    for (name, key) in [
        ("p256", P256),
        ("p384", P384),
        ("p521", P521),
        ("rsa", RSA),
        ("ed25519", "-algorithm ED25519"),
    ] {
        folder.self_signed(name, key, LOCALHOST);
        let identity = folder.load(&format!("{name}.pem"), &format!("{name}.key")).unwrap();
        let trusted = folder.path(&format!("{name}.pem"));
        for tls12 in [false, true] {
            handshake(&identity, &trusted, "localhost", tls12).unwrap_or_else(|error| {
                panic!("{name}, TLS 1.2 {tls12}: {error}");
            });
        }
    }
    // The form that `openssl ecparam` writes, with the parameters before the key.
    folder.openssl("ecparam -name secp521r1 -genkey -out sec1.key");
    folder.openssl("req -x509 -new -key sec1.key -out sec1.pem -days 9 -subj /CN=sec1");
    folder.load("sec1.pem", "sec1.key").unwrap();
}

#[test]
fn an_authority_on_p521_vouches_for_others() {
    let Some(folder) = Folder::new("an authority on P-521") else { return };
    folder.self_signed("ca", P521, "");
    folder.openssl(&format!("genpkey {P521} -out leaf.key"));
    folder.openssl("req -new -key leaf.key -subj /CN=leaf -out leaf.csr");
    folder.write("names", "subjectAltName=DNS:localhost\n");
    for hash in ["sha256", "sha384", "sha512"] {
        folder.openssl(&format!(
            "x509 -req -{hash} -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -extfile \
             names -out leaf.pem"
        ));
        let identity = folder.load("leaf.pem", "leaf.key").unwrap();
        handshake(&identity, &folder.path("ca.pem"), "localhost", false).unwrap();
        // A certificate that somebody else signed.
        folder.self_signed("other", P521, "");
        let refused = handshake(&identity, &folder.path("other.pem"), "localhost", false);
        assert!(refused.unwrap_err().contains("UnknownIssuer"));
    }
}

#[test]
fn a_self_signed_certificate_is_trusted_if_it_is_named_and_for_its_names_only() {
    let Some(folder) = Folder::new("self-signed certificates") else { return };
    let plain = "-addext basicConstraints=critical,CA:false";
    for (name, further) in [
        ("own-ca".to_owned(), LOCALHOST.to_owned()),
        ("no-ca".to_owned(), format!("{LOCALHOST} {plain}")),
    ] {
        folder.self_signed(&name, RSA, &further);
        let identity = folder.load(&format!("{name}.pem"), &format!("{name}.key")).unwrap();
        let trusted = folder.path(&format!("{name}.pem"));
        handshake(&identity, &trusted, "localhost", false).unwrap();
        let other = handshake(&identity, &trusted, "other.example", false).unwrap_err();
        assert!(
            other.contains("not valid for name") || other.contains("NotValidForName"),
            "{other}"
        );
        // Another certificate of the same name and key is not this one.
        folder.openssl(&format!(
            "req -x509 -new -key {name}.key -out twin.pem -days 9 -subj /CN=twin{further}"
        ));
        assert!(handshake(&identity, &folder.path("twin.pem"), "localhost", false).is_err());
    }
    // One without any name is for whoever has its key.
    folder.self_signed("nameless", P256, "");
    let identity = folder.load("nameless.pem", "nameless.key").unwrap();
    handshake(&identity, &folder.path("nameless.pem"), "localhost", false).unwrap();
    // And the key is checked: the certificate with another key.
    let stolen = folder.load("nameless.pem", "own-ca.key").unwrap_err();
    assert!(stolen.contains("does not match"), "{stolen}");
    // One that is for clients only.
    let clients = format!("{LOCALHOST} -addext extendedKeyUsage=clientAuth");
    folder.self_signed("client", P256, &clients);
    let identity = folder.load("client.pem", "client.key").unwrap();
    assert!(handshake(&identity, &folder.path("client.pem"), "localhost", false).is_err());
}

#[test]
fn x509_version_1_serves_and_is_trusted_if_it_is_named() {
    let Some(folder) = Folder::new("X.509 version 1") else { return };
    folder.openssl(&format!("genpkey {RSA} -out v1.key"));
    folder.openssl("req -new -key v1.key -subj /CN=localhost -out v1.csr");
    folder.openssl("x509 -req -in v1.csr -signkey v1.key -days 9 -out v1.pem");
    let identity = folder.load("v1.pem", "v1.key").unwrap();
    handshake(&identity, &folder.path("v1.pem"), "localhost", false).unwrap();
}

#[test]
fn files_are_read_in_the_forms_that_tools_write() {
    let Some(folder) = Folder::new("forms of files") else { return };
    folder.signed();
    let (leaf, key, ca) = (folder.text("leaf.pem"), folder.text("leaf.key"), folder.text("ca.pem"));
    folder.write("crlf.pem", leaf.replace('\n', "\r\n"));
    folder.write("crlf.key", key.replace('\n', "\r\n"));
    folder.write("bom.pem", format!("\u{feff}{leaf}"));
    folder.write("indented.pem", leaf.replace('\n', "\n    "));
    folder.write("old.pem", leaf.replace("CERTIFICATE", "X509 CERTIFICATE"));
    folder.write("both.pem", format!("{key}{leaf}{ca}"));
    folder.openssl("x509 -in leaf.pem -text -out text.pem");
    folder.openssl("x509 -in leaf.pem -outform der -out leaf.der");
    folder.openssl("pkey -in leaf.key -outform der -out key.der");
    for (certificate, key) in [
        ("crlf.pem", "crlf.key"),
        ("bom.pem", "leaf.key"),
        ("indented.pem", "leaf.key"),
        ("old.pem", "leaf.key"),
        ("both.pem", "both.pem"),
        ("text.pem", "leaf.key"),
        ("leaf.der", "key.der"),
    ] {
        let identity = folder.load(certificate, key).unwrap();
        assert!(!identity.sorted, "{certificate}");
        handshake(&identity, &folder.path("ca.pem"), "localhost", false).unwrap();
    }
    folder.write("reversed.pem", format!("{ca}{leaf}"));
    let identity = folder.load("reversed.pem", "leaf.key").unwrap();
    assert!(identity.sorted);
    let expected = folder.load("both.pem", "leaf.key").unwrap();
    assert_eq!(identity.chain(), expected.chain());
}

#[test]
fn what_cannot_be_used_is_refused_with_the_way_out() {
    let Some(folder) = Folder::new("unusable files") else { return };
    folder.signed();
    let (leaf, key) = (folder.text("leaf.pem"), folder.text("leaf.key"));
    folder.openssl("pkcs8 -topk8 -in leaf.key -passout pass:x -out encrypted.key");
    folder.refused(
        "leaf.pem",
        "encrypted.key",
        &["encrypted.key", "is encrypted", "openssl pkey -in "],
    );
    folder.openssl("pkcs8 -topk8 -in leaf.key -passout pass:x -outform der -out encrypted.der");
    folder.refused("leaf.pem", "encrypted.der", &["is encrypted"]);
    folder.openssl(&format!("genpkey {RSA} -out rsa.key"));
    folder.openssl("rsa -in rsa.key -aes128 -passout pass:x -traditional -out old.key");
    folder.refused("leaf.pem", "old.key", &["is encrypted"]);
    folder.refused("leaf.pem", "rsa.key", &["rsa.key", "does not match", "leaf.pem"]);
    folder.refused(
        "leaf.key",
        "leaf.pem",
        &["no certificate found in", "a private key", "swapped"],
    );
    folder.refused("leaf.pem", "ca.pem", &["no private key found in", "a certificate", "swapped"]);
    folder.refused("leaf.csr", "leaf.key", &["a certificate request"]);
    folder.openssl("pkey -in leaf.key -pubout -out public.pem");
    folder.refused("leaf.pem", "public.pem", &["a public key"]);
    folder.openssl("pkcs12 -export -in leaf.pem -inkey leaf.key -passout pass:x -out both.p12");
    folder.refused("both.p12", "leaf.key", &["PKCS#12", "-nokeys"]);
    folder.refused("leaf.pem", "both.p12", &["PKCS#12", "-nocerts"]);
    folder.openssl("crl2pkcs7 -nocrl -certfile leaf.pem -out leaf.p7b");
    folder.refused("leaf.p7b", "leaf.key", &["PKCS#7", "openssl pkcs7"]);
    folder.openssl("x509 -in leaf.pem -trustout -out trusted.pem");
    folder.refused("trusted.pem", "leaf.key", &["openssl x509 -in"]);
    folder.write("cut.pem", leaf.split_at(leaf.len() / 2).0);
    folder.refused("cut.pem", "leaf.key", &["cut.pem", "cut off"]);
    // What stands after it would be the only certificate, and nobody would miss the first.
    let ca = folder.text("ca.pem");
    folder.write("merged.pem", leaf.replace("-----END CERTIFICATE-----\n", "") + &ca);
    folder.refused("merged.pem", "leaf.key", &["merged.pem", "cut off"]);
    folder.write("escaped.pem", leaf.replace('\n', "\\n"));
    folder.refused("escaped.pem", "leaf.key", &["printf '%b'"]);
    let utf16: Vec<u8> =
        std::iter::once(0xfeff_u16).chain(key.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    folder.write("utf16.key", utf16);
    folder.refused("leaf.pem", "utf16.key", &["UTF-16", "iconv"]);
    folder.write("empty", "\n");
    folder.refused("empty", "leaf.key", &["empty", "the file is empty"]);
    folder.write("text", "no certificate at all\n");
    folder.refused("text", "leaf.key", &["neither PEM"]);
    folder.refused("missing", "leaf.key", &["cannot read the certificate in ", "missing"]);
    folder.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out weak.key");
    folder.openssl("req -x509 -new -key weak.key -out weak.pem -days 9 -subj /CN=weak");
    folder.refused("weak.pem", "weak.key", &["weak.key", "1024 bits", "openssl genpkey"]);
    folder.openssl("ecparam -name secp256k1 -genkey -noout -out odd.key");
    folder.openssl("req -x509 -new -key odd.key -out odd.pem -days 9 -subj /CN=odd");
    folder.refused("odd.pem", "odd.key", &["odd.key", "not supported", "openssl genpkey"]);
}

#[test]
fn a_chain_is_as_valid_as_its_weakest_link() {
    let Some(folder) = Folder::new("the validity of chains") else { return };
    folder.signed();
    folder.openssl("req -x509 -new -key ca.key -out short.pem -days 9 -subj /CN=ca");
    folder.write("chain.pem", folder.text("leaf.pem") + &folder.text("short.pem"));
    let validity = folder.load("chain.pem", "leaf.key").unwrap().validity().unwrap();
    assert_eq!(validity.subject, "CN=ca");
    assert!(matches!(validity.state(validity.not_before), State::ExpiresSoon(8 | 9)));
    let both = file::certificates(&folder.path("chain.pem")).unwrap();
    assert_eq!(Validity::longest(&both).unwrap().subject, "CN=leaf");
}

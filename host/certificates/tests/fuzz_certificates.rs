//! Files of operators and certificates of clients, damaged in all ways: they are read or refused in one line, and what
//! was changed proves nothing. `cargo xtask fuzz certificates` tries many.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy allows them in test functions only, not in what these functions share"
)]

#[path = "../../../tests/fuzz/inputs.rs"]
mod inputs;

use std::path::PathBuf;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keepgate_certificates::client::Authorities;
use keepgate_certificates::trust::Trust;
use keepgate_certificates::{ClientCertificate, Fingerprint, Identity, Validity, file, pin};
use proptest::prelude::*;
use rustls::client::danger::ServerCertVerifier as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tempfile::TempDir;

use inputs::{Bytes, config, edited, edits};

const CA: &[u8] = include_bytes!("samples/ca.pem");
const LEAF: &[u8] = include_bytes!("samples/leaf.pem");

/// What operators have in their files: certificates first.
const FILES: [&[u8]; 12] = [
    CA,
    LEAF,
    include_bytes!("samples/rsa.pem"),
    include_bytes!("samples/p521.pem"),
    include_bytes!("samples/ed25519.pem"),
    include_bytes!("samples/leaf.key"),
    include_bytes!("samples/rsa.key"),
    include_bytes!("samples/p521.key"),
    include_bytes!("samples/ed25519.key"),
    include_bytes!("samples/sec1.key"),
    include_bytes!("samples/encrypted.key"),
    b"subject=CN = leaf\n\nno certificate at all\n",
];
/// How many of [`FILES`] are certificates.
const CERTIFICATES: usize = 5;

/// What means something in PEM and DER.
const WORDS: [&[u8]; 24] = [
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----END CERTIFICATE-----\n",
    b"-----BEGIN X509 CERTIFICATE-----",
    b"-----BEGIN TRUSTED CERTIFICATE-----\n",
    b"-----BEGIN PRIVATE KEY-----\n",
    b"-----END PRIVATE KEY-----\n",
    b"-----BEGIN RSA PRIVATE KEY-----\n",
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
    b"-----BEGIN ",
    b"-----",
    b"Proc-Type: 4,ENCRYPTED\n",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\\n",
    b"\r",
    b"\n",
    b"=",
    b"\x30\x80",
    b"\x30\x82\xff\xff",
    b"\x30\x84\xff\xff\xff\xff",
    b"\x02\x01\x03",
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02",
    b"\x17\x0d500101000000Z",
    b"\x18\x0f99991231235959Z",
];

fn der(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).unwrap()
}

/// The DER between the lines of a PEM file; the file itself if there is none.
fn binary(pem: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(pem);
    let lines = text.lines().filter(|line| !line.starts_with('-'));
    STANDARD.decode(lines.collect::<String>()).unwrap_or_else(|_| pem.to_vec())
}

/// One or two files in one, in PEM or DER, with damage or without.
fn content() -> impl Strategy<Value = Bytes> {
    let sample = || prop::sample::select(&FILES[..]);
    let whole = prop_oneof![
        2 => sample().prop_map(<[u8]>::to_vec),
        2 => sample().prop_map(binary),
        1 => (sample(), sample()).prop_map(|(one, two)| [one, two].concat()),
    ];
    let any = prop_oneof![
        8 => (whole.clone(), edits(&WORDS)).prop_map(|(sample, edits)| edited(&sample, &edits)),
        1 => whole,
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ];
    any.prop_map(Bytes)
}

/// Certificates as clients send them.
fn chain() -> impl Strategy<Value = Vec<CertificateDer<'static>>> {
    let sample = prop::sample::select(&FILES[..CERTIFICATES]).prop_map(|pem| der(pem).to_vec());
    let one = prop_oneof![
        1 => sample.clone(),
        4 => (sample, edits(&WORDS)).prop_map(|(sample, edits)| edited(&sample, &edits)),
    ];
    prop::collection::vec(one.prop_map(CertificateDer::from), 1..4)
}

/// A file of the thread that runs a test, for one input at a time.
fn write(name: &str, content: &[u8]) -> PathBuf {
    thread_local!(static FOLDER: TempDir = tempfile::tempdir().unwrap());
    let path = FOLDER.with(|folder| folder.path().join(name));
    std::fs::write(&path, content).unwrap();
    path
}

/// Whether an error has a part of what was in a file: 16 characters that look like Base64.
fn quotes(error: &str, content: &[u8]) -> bool {
    let has = |part: &[u8], kind: fn(&u8) -> bool| part.iter().any(kind);
    let mut parts = content.windows(16).filter(|part| {
        has(part, u8::is_ascii_lowercase)
            && has(part, u8::is_ascii_uppercase)
            && has(part, u8::is_ascii_digit)
    });
    parts.any(|part| std::str::from_utf8(part).is_ok_and(|part| error.contains(part)))
}

/// A moment at which all samples are valid.
fn now() -> i64 {
    static NOW: LazyLock<i64> = LazyLock::new(|| Validity::of(&der(LEAF)).unwrap().not_before + 1);
    *NOW
}

fn authorities() -> &'static Authorities {
    static CAS: LazyLock<Authorities> = LazyLock::new(|| {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/ca.pem");
        Authorities::load(&[file.into()]).unwrap()
    });
    &CAS
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn files_of_certificates_are_read_or_refused_in_one_line(content in content()) {
        let path = write("one.pem", &content.0);
        match file::certificates(&path) {
            Ok(all) => {
                prop_assert!(!all.is_empty());
                prop_assert!(all.iter().all(|one| Validity::of(one).is_some()));
                // Written as PEM, they are the same.
                let pem: String = all.iter().map(|one| file::to_pem("CERTIFICATE", one)).collect();
                let again = file::certificates(&write("again.pem", pem.as_bytes())).unwrap();
                prop_assert_eq!(&again, &all);
                // What trusts them may refuse them, and says why.
                drop(Trust::new(all));
            }
            Err(error) => {
                let error = error.to_string();
                prop_assert!(error.contains("one.pem") && !error.contains('\n'), "{}", error);
            }
        }
        if let Err(error) = Authorities::load(&[path]) {
            let error = error.to_string();
            prop_assert!(error.contains("one.pem") && !error.contains('\n'), "{}", error);
        }
    }

    #[test]
    fn keys_are_read_or_refused_and_never_quoted(certificate in content(), key in content()) {
        let (one, two) = (write("one.pem", &certificate.0), write("two.key", &key.0));
        match Identity::load(&one, &two) {
            Ok(identity) => {
                prop_assert!(identity.validity().is_some());
                // What it is as PEM is the same identity.
                let (chain, key) = identity.to_pem();
                let (one, two) =
                    (write("a.pem", chain.as_bytes()), write("a.key", key.as_bytes()));
                let again = Identity::load(&one, &two).unwrap();
                prop_assert_eq!(again.chain(), identity.chain());
                prop_assert!(!again.sorted);
            }
            Err(error) => {
                let error = error.to_string();
                let named = error.contains("one.pem") || error.contains("two.key");
                prop_assert!(named && !error.contains('\n'), "{}", error);
                prop_assert!(!quotes(&error, &key.0), "{}", error);
            }
        }
    }

    #[test]
    fn what_a_client_sends_is_read_or_refused_and_identifies_nobody_if_it_was_changed(chain in chain()) {
        let read = ClientCertificate::read(&chain);
        if let Ok(client) = &read {
            prop_assert_eq!(client.fingerprint(), Fingerprint::of(&chain[0]));
            for text in [client.subject(), client.issuer()] {
                prop_assert!(text.len() <= 1024 && !text.contains(char::is_control), "{:?}", text);
            }
            let _ = client.check(now());
            let _ = client.check(i64::MIN);
            // The authority has issued one certificate, and is another itself.
            if authorities().verify(client, now()).is_ok() {
                prop_assert_eq!(&chain[0], &der(LEAF));
            }
            let _ = authorities().verify(client, i64::MAX);
        } else if chain[0] == der(LEAF) {
            prop_assert!(false, "a good certificate is not read: {:?}", read);
        }
    }

    #[test]
    fn servers_are_trusted_by_exactly_the_certificates_that_are_named(chain in chain()) {
        let name: ServerName<'_> = "localhost".try_into().unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now().unsigned_abs()));
        let (own, others) = chain.split_first().unwrap();
        let leaf = der(LEAF);
        let pinned = pin::Pinned::new(Fingerprint::of(&leaf));
        let verified = pinned.verify_server_cert(own, others, &name, &[], now);
        prop_assert_eq!(verified.is_ok(), own == &leaf);
        let trust = Trust::new(vec![der(CA)]).unwrap();
        let verified = trust.verify_server_cert(own, others, &name, &[], now);
        // The authority's own certificate names nobody, so it is for whoever has its key.
        prop_assert_eq!(verified.is_ok(), own == &leaf || own == &der(CA), "{:?}", verified);
    }

    #[test]
    fn texts_are_fingerprints_or_refused(
        text in prop_oneof!["[0-9a-fA-F:]{0,100}", "(?s).{0,80}"],
        own in any::<[u8; 4]>(),
        edits in edits(&[b":", b"0", b"\xc3\xa9"]),
    ) {
        let written = Fingerprint::of(&own);
        let changed = edited(written.to_string().as_bytes(), &edits);
        for text in [text, String::from_utf8_lossy(&changed).into_owned()] {
            match text.parse::<Fingerprint>() {
                Ok(found) => prop_assert_eq!(found.to_string(), text.replace(':', "").to_lowercase()),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
        prop_assert_eq!(written.to_string().parse(), Ok(written));
    }
}

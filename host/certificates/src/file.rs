//! Certificates and private keys from files: PEM in what tools make of it (other text around it, a byte order
//! mark, CRLF, indentation), and DER. What is recognised but cannot be used gets an error with the way out.

mod problem;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub use problem::Problem;

/// The byte order mark that some editors put at the beginning of UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The line at the end of a certificate.
const END: &[u8] = b"-----END CERTIFICATE-----";

/// What a file was read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// One or more certificates.
    Certificate,
    /// A private key.
    PrivateKey,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::PrivateKey => "private key",
        })
    }
}

/// Why there is no certificate or key in a file. Never quotes the file.
#[derive(Debug, thiserror::Error)]
#[error("{}", problem.explain(*item, path))]
pub struct FileError {
    /// Which file.
    pub path: PathBuf,
    /// What was expected in it.
    pub item: Item,
    /// What is wrong.
    pub problem: Problem,
}

/// Reads all certificates of a file, in its order; at least one. Blocks.
///
/// # Errors
///
/// If there is none, or one of them is broken.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    parse(path, Item::Certificate, certificates_in)
}

/// Reads the first private key of a file. Blocks.
///
/// # Errors
///
/// If there is none, or it is encrypted.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    parse(path, Item::PrivateKey, private_key_in)
}

fn parse<T>(
    path: &Path,
    item: Item,
    parse: impl Fn(&[u8]) -> Result<T, Problem>,
) -> Result<T, FileError> {
    let bytes = fs::read(path).map_err(Problem::Unreadable);
    let parsed = bytes.and_then(|bytes| {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Problem::Empty);
        }
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Err(Problem::Utf16);
        }
        parse(bytes.strip_prefix(BOM).unwrap_or(&bytes))
    });
    parsed.map_err(|problem| FileError { path: path.to_owned(), item, problem })
}

fn certificates_in(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let Some(text) = Text::of(bytes)? else {
        let certificate = CertificateDer::from(bytes.to_vec());
        return match crate::validity::parse(&certificate) {
            Some(_) => Ok(vec![certificate]),
            None => Err(problem::of_binary(bytes)),
        };
    };
    if !text.has("CERTIFICATE") {
        return Err(match () {
            () if text.has("TRUSTED CERTIFICATE") => Problem::Trusted,
            () if text.has("PKCS7") => Problem::Pkcs7,
            () if text.has_suffix("CERTIFICATE REQUEST") => Problem::Request,
            () if text.has_suffix("PRIVATE KEY") => Problem::OnlyKey,
            () => Problem::Missing,
        });
    }
    // If another section begins before one has ended, the library takes the two for one.
    let announced = text.labels.iter().filter(|label| *label == "CERTIFICATE").count();
    let lines = text.pem.split(|byte| *byte == b'\n');
    if lines.filter(|line| line.starts_with(END)).count() < announced {
        return Err(Problem::Broken(pem::Error::MissingSectionEnd { end_marker: END.to_vec() }));
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text.pem).collect();
    let found: Vec<CertificateDer<'static>> = found.map_err(Problem::Broken)?;
    let whole = |certificate| crate::validity::parse(certificate).is_some();
    match found.iter().position(|certificate| !whole(certificate)) {
        Some(index) => Err(Problem::NotX509(index + 1)),
        None => Ok(found),
    }
}

fn private_key_in(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    let Some(text) = Text::of(bytes)? else {
        // The library takes an archive for a key.
        return match problem::of_binary(bytes) {
            Problem::NotPem => PrivateKeyDer::try_from(bytes.to_vec()).map_err(|_| Problem::NotPem),
            problem => Err(problem),
        };
    };
    // PKCS#8, or what OpenSSL wrote before it.
    if text.has("ENCRYPTED PRIVATE KEY") || text.encrypted {
        return Err(Problem::Encrypted);
    }
    match PrivateKeyDer::from_pem_slice(&text.pem) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(match () {
            () if text.has("OPENSSH PRIVATE KEY") => Problem::OpenSsh,
            () if text.has("DSA PRIVATE KEY") => Problem::Dsa,
            () if text.has_suffix("PUBLIC KEY") => Problem::PublicKey,
            () if text.has("CERTIFICATE") => Problem::OnlyCertificate,
            () => Problem::Missing,
        }),
        Err(error) => Err(Problem::Broken(error)),
    }
}

/// A text in PEM, with the liberties that tools take removed.
struct Text {
    pem: Vec<u8>,
    /// Of its sections.
    labels: Vec<String>,
    /// Whether a section says in a header that it is encrypted.
    encrypted: bool,
}

impl Text {
    /// `None` if these bytes are not PEM.
    fn of(bytes: &[u8]) -> Result<Option<Self>, Problem> {
        let text = String::from_utf8_lossy(bytes);
        if !text.contains("-----BEGIN ") {
            return Ok(None);
        }
        let mut all = Self { pem: Vec::new(), labels: Vec::new(), encrypted: false };
        // CR alone ends lines on very old systems.
        for line in text.split(['\n', '\r']).map(str::trim) {
            if let Some((label, rest)) =
                line.strip_prefix("-----BEGIN ").and_then(|line| line.split_once("-----"))
            {
                if rest.starts_with("\\n") {
                    return Err(Problem::EscapedLines);
                }
                all.labels.push(known_label(label).into_owned());
            }
            all.encrypted |= line.starts_with("Proc-Type:") && line.ends_with("ENCRYPTED");
            all.pem.extend_from_slice(known_label(line).as_bytes());
            all.pem.push(b'\n');
        }
        Ok(Some(all))
    }

    fn has(&self, label: &str) -> bool {
        self.labels.iter().any(|found| found == label)
    }

    fn has_suffix(&self, label: &str) -> bool {
        self.labels.iter().any(|found| found.ends_with(label))
    }
}

/// OpenSSL still reads this label of old tools.
fn known_label(text: &str) -> std::borrow::Cow<'_, str> {
    match text.contains("X509 CERTIFICATE") {
        true => text.replace("X509 CERTIFICATE", "CERTIFICATE").into(),
        false => text.into(),
    }
}

/// Writes PEM, for libraries that read nothing else.
pub fn to_pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

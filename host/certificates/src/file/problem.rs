//! What can be wrong with a file of certificates or keys, in words, and the commands that mend it.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use rustls_pki_types::pem;

use super::Item;

/// What is wrong with a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The system cannot read it.
    Unreadable(io::Error),
    /// It has no content.
    Empty,
    /// It is text in UTF-16, as PowerShell writes it.
    Utf16,
    /// Line breaks are written as `\n`, as in an environment variable.
    EscapedLines,
    /// It is neither PEM nor DER.
    NotPem,
    /// A PKCS#12 archive: `.p12` or `.pfx`.
    Pkcs12,
    /// A PKCS#7 bundle: `.p7b`.
    Pkcs7,
    /// PEM, but broken.
    Broken(pem::Error),
    /// The certificate of this number is not X.509.
    NotX509(usize),
    /// OpenSSL's own form of certificates, with trust settings.
    Trusted,
    /// A request for a certificate.
    Request,
    /// There is a private key instead of certificates.
    OnlyKey,
    /// There is a certificate instead of a private key.
    OnlyCertificate,
    /// There is a public key instead of a private one.
    PublicKey,
    /// The key is encrypted.
    Encrypted,
    /// OpenSSH's own form of keys.
    OpenSsh,
    /// A DSA key, which TLS no longer has.
    Dsa,
    /// PEM, but of something else.
    Missing,
}

/// Recognises binary files by the beginning of their ASN.1.
pub(super) fn of_binary(bytes: &[u8]) -> Problem {
    /// `signedData` of PKCS#7.
    const SIGNED_DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    /// An algorithm that encrypts by a password: PKCS#5 and PKCS#12.
    const BY_PASSWORD: [&[u8]; 2] = [
        &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05],
        &[0x06, 0x0a, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c],
    ];
    let Some(content) = sequence(bytes) else {
        return Problem::NotPem;
    };
    // PKCS#12 begins with its version, 3.
    if content.starts_with(&[0x02, 0x01, 0x03]) {
        return Problem::Pkcs12;
    }
    if content.starts_with(SIGNED_DATA) {
        return Problem::Pkcs7;
    }
    let algorithm = sequence(content).unwrap_or_default();
    if BY_PASSWORD.iter().any(|begin| algorithm.starts_with(begin)) {
        return Problem::Encrypted;
    }
    Problem::NotPem
}

/// The content of an ASN.1 sequence.
fn sequence(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(&[0x30])?;
    let (length, rest) = rest.split_first()?;
    match length {
        0x81..=0x84 => rest.get(usize::from(length & 0x7f)..),
        0..=0x7f => Some(rest),
        _ => None,
    }
}

impl Problem {
    /// What is wrong, and what to do.
    pub(super) fn explain(&self, item: Item, path: &Path) -> String {
        let file = path.display();
        let (shell, fixed) = (quoted(path, ""), quoted(path, ".pem"));
        let cannot_read = format!("cannot read the {item} in {file}");
        let none = format!("no {item} found in {file}");
        match self {
            Self::Unreadable(error) => {
                let mut text = format!("{cannot_read}: {error}");
                if error.kind() == io::ErrorKind::PermissionDenied {
                    text.push_str("; make it readable for the user that runs the gateway");
                }
                text
            }
            Self::Empty => format!("{none}: the file is empty"),
            Self::Utf16 => format!(
                "{cannot_read}: the text is UTF-16; convert it with `iconv -f UTF-16 -t UTF-8 {shell} > \
                 {fixed}`"
            ),
            Self::EscapedLines => format!(
                "{cannot_read}: line breaks are written as \\n; convert it with `printf '%b' \"$(cat \
                 {shell})\" > {fixed}`"
            ),
            Self::NotPem => format!(
                "{none}: it is neither PEM, which has a line `-----BEGIN {}-----`, nor DER",
                match item {
                    Item::Certificate => "CERTIFICATE",
                    Item::PrivateKey => "PRIVATE KEY",
                }
            ),
            Self::Pkcs12 => {
                let only = match item {
                    Item::Certificate => "-nokeys",
                    Item::PrivateKey => "-nocerts -nodes",
                };
                format!(
                    "{cannot_read}: it is a PKCS#12 archive; convert it with `openssl pkcs12 -in {shell} \
                     {only} -out {fixed}`"
                )
            }
            Self::Pkcs7 => {
                let form = if path.extension().is_some_and(|end| end == "der") {
                    "-inform DER "
                } else {
                    ""
                };
                format!(
                    "{cannot_read}: it is a PKCS#7 bundle; convert it with `openssl pkcs7 {form}-in \
                     {shell} -print_certs -out {fixed}`"
                )
            }
            Self::Broken(error) => {
                format!("{cannot_read}: {}; write the file again", broken(error))
            }
            Self::NotX509(number) => format!(
                "{cannot_read}: number {number} is not an X.509 certificate; `openssl x509 -in {shell} \
                 -noout -text` shows what it is"
            ),
            Self::Trusted => format!(
                "{cannot_read}: it is in OpenSSL's own form; convert it with `openssl x509 -in {shell} \
                 -out {fixed}`"
            ),
            Self::Request => format!(
                "{none}: it contains a certificate request; name the certificate that the authority made \
                 from it"
            ),
            Self::OnlyKey => {
                format!("{none}: it contains a private key; the two files may have been swapped")
            }
            Self::OnlyCertificate => {
                format!("{none}: it contains a certificate; the two files may have been swapped")
            }
            Self::PublicKey => {
                format!("{none}: it contains a public key; name the file of the private one")
            }
            Self::Encrypted => format!(
                "{cannot_read}: it is encrypted, and the gateway starts without a passphrase; decrypt it \
                 with `(umask 077; openssl pkey -in {shell} -out {fixed})`"
            ),
            Self::OpenSsh => format!(
                "{cannot_read}: it is in OpenSSH's form; convert a copy of it with `ssh-keygen -p -m PEM \
                 -N '' -f {shell}`"
            ),
            Self::Dsa => format!(
                "{cannot_read}: TLS no longer has DSA; make a key with `openssl genpkey -algorithm EC \
                 -pkeyopt ec_paramgen_curve:P-256 -out {fixed}` and a certificate for it"
            ),
            Self::Missing => format!("{none}: its PEM sections are something else"),
        }
    }
}

/// The library's text may quote the file, which may be a key.
fn broken(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a line `-----END …-----` is missing, so the file may have been cut off"
        }
        pem::Error::Base64Decode(_) => "what stands between its BEGIN and END lines is not Base64",
        _ => "it is not valid PEM",
    }
}

/// A path with something appended, as a word for a shell.
fn quoted(path: &Path, end: &str) -> String {
    let text = format!("{}{end}", path.display());
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@=".contains(c);
    if text.chars().all(plain) {
        return text;
    }
    let mut quoted = String::new();
    // A String takes everything.
    let _ = write!(quoted, "'{}'", text.replace('\'', r"'\''"));
    quoted
}

//! A cluster's files: certificates, user and password. They are read again for each snapshot, so files
//! that were renewed on disk take effect without a reload.

use std::fs;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::{Login, Secret, TlsFiles};

/// Where the credentials are.
#[derive(Clone)]
pub(super) struct CredentialFiles {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    login: Option<Login>,
}

/// The credentials as they are now.
pub(super) struct Credentials {
    pub(super) tls: ClientTlsConfig,
    /// Name and password.
    pub(super) login: Option<(String, String)>,
    /// The authorities for the members' certificates, for messages.
    pub(super) ca: Option<PathBuf>,
    /// The file of the client certificate, for messages.
    pub(super) certificate: Option<PathBuf>,
}

impl CredentialFiles {
    /// Checks that a certificate comes with its key. Reads no file.
    pub(super) fn new(tls: Option<TlsFiles>, login: Option<Login>) -> Result<Self, String> {
        let TlsFiles { ca, certificate, key } = tls.unwrap_or_default();
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(certificate), None) => {
                let certificate = certificate.display();
                return Err(format!("certificate {certificate} has no key; set `key` to its file"));
            }
            (None, Some(key)) => {
                let key = key.display();
                return Err(format!("key {key} has no certificate; set `certificate` to its file"));
            }
        };
        Ok(Self { ca, identity, login })
    }

    /// Reads everything. Blocks.
    pub(super) fn read(&self) -> Result<Credentials, String> {
        let mut tls = ClientTlsConfig::new();
        match &self.ca {
            Some(ca) => tls = tls.ca_certificate(Certificate::from_pem(certificates(ca)?)),
            None => tls = tls.with_native_roots(),
        }
        if let Some((certificate, key)) = &self.identity {
            let identity = Identity::from_pem(certificates(certificate)?, private_key(key)?);
            tls = tls.identity(identity);
        }
        let login = match &self.login {
            Some(Login { user, password }) => {
                Some((user.read("user")?, password.read("password")?))
            }
            None => None,
        };
        let certificate = self.identity.as_ref().map(|(certificate, _)| certificate.clone());
        Ok(Credentials { tls, login, ca: self.ca.clone(), certificate })
    }
}

impl Secret {
    fn read(&self, what: &str) -> Result<String, String> {
        let (text, place) = match self {
            Self::Text(text) => (text.clone(), format!("the {what}")),
            Self::File(file) => {
                let text = fs::read(file).map_err(|error| unreadable(file, &error))?;
                let text = String::from_utf8(text)
                    .map_err(|_| format!("{} is not UTF-8 text", file.display()))?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                let text = text.strip_suffix('\r').unwrap_or(text);
                (text.to_owned(), format!("the {what} in {}", file.display()))
            }
        };
        if text.is_empty() { Err(format!("{place} is empty")) } else { Ok(text) }
    }
}

/// Reads a file of certificates. A file without any is rejected here, because otherwise it would only show
/// as a failed handshake.
fn certificates(file: &Path) -> Result<Vec<u8>, String> {
    let pem = fs::read(file).map_err(|error| unreadable(file, &error))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificate.map_err(|error| format!("{} is not a PEM file: {error}", file.display()))?;
        count += 1;
    }
    if count == 0 {
        return Err(format!("{} contains no certificate; expected PEM", file.display()));
    }
    Ok(pem)
}

fn private_key(file: &Path) -> Result<Vec<u8>, String> {
    let pem = fs::read(file).map_err(|error| unreadable(file, &error))?;
    PrivateKeyDer::from_pem_slice(&pem)
        // The error may quote the file.
        .map_err(|_| format!("{} contains no usable private key; expected PEM", file.display()))?;
    Ok(pem)
}

fn unreadable(file: &Path, error: &std::io::Error) -> String {
    format!("cannot read {}: {error}", file.display())
}

//! A cluster's files: certificates, user and password. They are read again for each snapshot, so files
//! that were renewed on disk take effect without a reload.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepgate_certificates::file;
use keepgate_certificates::trust::Trust;
use tonic::transport::{ClientTlsConfig, Identity};

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
    /// Verifies members by the certificates in `ca`; `None` if the system's authorities do.
    pub(super) trust: Option<Arc<Trust>>,
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
        let trust = match &self.ca {
            Some(ca) => {
                let named = file::certificates(ca).map_err(|error| error.to_string())?;
                let trust = Trust::new(named);
                let unusable = |error| format!("cannot trust {}: {error}", ca.display());
                Some(trust.map_err(unusable)?)
            }
            None => {
                tls = tls.with_native_roots();
                None
            }
        };
        if let Some((certificate, key)) = &self.identity {
            let identity = keepgate_certificates::Identity::load(certificate, key);
            let identity = identity.map_err(|error| error.to_string())?;
            let (chain, key) = identity.to_pem();
            tls = tls.identity(Identity::from_pem(chain, key));
        }
        let login = match &self.login {
            Some(Login { user, password }) => {
                Some((user.read("user")?, password.read("password")?))
            }
            None => None,
        };
        let certificate = self.identity.as_ref().map(|(certificate, _)| certificate.clone());
        Ok(Credentials { tls, trust, login, ca: self.ca.clone(), certificate })
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

fn unreadable(file: &Path, error: &std::io::Error) -> String {
    format!("cannot read {}: {error}", file.display())
}

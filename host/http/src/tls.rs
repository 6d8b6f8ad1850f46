//! Certificate and key, and their replacement while serving; and whether clients are asked for a certificate. If a
//! reload fails, the current pair stays in use; open connections keep the pair with which they began.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use keepgate_certificates::client::ProofOfKey;
use keepgate_certificates::{Identity, IdentityError, Validity};
use rustls::crypto::ring;
use rustls::server::ProducesTickets;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{ServerConfig, SupportedProtocolVersion, version};

/// Offered to clients, in this order.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The files of a listener's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate with the chain to its root, in PEM; or the certificate alone, in DER.
    pub certificate: PathBuf,
    /// The private key of one of these certificates, in PEM or DER. It may be in the same file.
    pub key: PathBuf,
    /// The oldest version accepted.
    pub minimum: TlsVersion,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 of 2008. Older versions are never accepted.
    #[default]
    V1_2,
    /// TLS 1.3 of 2018.
    V1_3,
}

/// The TLS side of a listener.
pub struct Tls {
    files: TlsFiles,
    tickets: Tickets,
    active: ArcSwap<Active>,
    /// Whether clients are asked for a certificate.
    asks: AtomicBool,
}

/// The keys of session tickets. A ticket holds the client's certificate, so that a resumed session has it too. A session
/// that began without the question is not resumed where it is asked: the client would never be asked.
struct Tickets {
    plain: Arc<dyn ProducesTickets>,
    asking: Arc<dyn ProducesTickets>,
}

/// What new connections use.
struct Active {
    plain: Arc<ServerConfig>,
    /// Asks for a certificate.
    asking: Arc<ServerConfig>,
    validity: Option<Validity>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the files, or the two together.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Anything else.
    #[error("cannot use the certificate in {}: {source}", path.display())]
    Unusable {
        /// The file of the certificate.
        path: PathBuf,
        /// rustls's error.
        source: rustls::Error,
    },
}

impl Tls {
    /// Reads certificate and key, which must match.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let ticketer = || ring::Ticketer::new().map_err(|source| unusable(&files, source));
        let tickets = Tickets { plain: ticketer()?, asking: ticketer()? };
        let active = ArcSwap::new(read(&files, &tickets)?);
        Ok(Arc::new(Self { files, tickets, active, asks: AtomicBool::new(false) }))
    }

    /// Reads both files again. New connections use the new pair if it is valid; otherwise the current one
    /// stays in use. Blocks: do not call it on asynchronous threads.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.active.store(read(&self.files, &self.tickets)?);
        Ok(())
    }

    /// Sets whether new connections ask clients for a certificate. None is required: a client without one, or with one
    /// that nobody trusts, gets a response that says so.
    pub fn ask_for_certificates(&self, asks: bool) {
        self.asks.store(asks, Ordering::Relaxed);
    }

    /// The files of certificate and key.
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let active = self.active.load();
        match self.asks.load(Ordering::Relaxed) {
            true => active.asking.clone(),
            false => active.plain.clone(),
        }
    }

    /// Until when the chain that new connections use is valid.
    pub fn validity(&self) -> Option<Validity> {
        self.active.load().validity.clone()
    }
}

fn read(files: &TlsFiles, tickets: &Tickets) -> Result<Arc<Active>, TlsError> {
    let identity = Identity::load(&files.certificate, &files.key)?;
    if identity.sorted {
        let file = files.certificate.display();
        tracing::info!(%file, "certificates sorted: the server's own, then its issuers");
    }
    Ok(Arc::new(Active {
        plain: config(files, &identity, None, &tickets.plain)?,
        asking: config(files, &identity, Some(Arc::new(ProofOfKey::new())), &tickets.asking)?,
        validity: identity.validity(),
    }))
}

fn config(
    files: &TlsFiles,
    identity: &Identity,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let versions: &[&SupportedProtocolVersion] = match files.minimum {
        TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12],
        TlsVersion::V1_3 => &[&version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(keepgate_certificates::provider());
    let builder = builder.with_protocol_versions(versions);
    let builder = builder.map_err(|source| unusable(files, source))?;
    let builder = match clients {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let resolver = SingleCertAndKey::from(identity.certified.clone());
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    // Stateless and unchanged by reloads: clients resume sessions without state on the server.
    config.ticketer = tickets.clone();
    Ok(Arc::new(config))
}

fn unusable(files: &TlsFiles, source: rustls::Error) -> TlsError {
    TlsError::Unusable { path: files.certificate.clone(), source }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn pair(folder: &Path, name: &str) -> TlsFiles {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = TlsFiles {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
            minimum: TlsVersion::V1_2,
        };
        std::fs::write(&files.certificate, cert.pem()).unwrap();
        std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn a_reload_needs_a_matching_pair() {
        let folder = tempfile::tempdir().unwrap();
        let old = pair(folder.path(), "old");
        let new = pair(folder.path(), "new");
        let tls = Tls::load(old.clone()).unwrap();
        let before = tls.config();
        let unchanged = || Arc::ptr_eq(&before, &tls.config());

        std::fs::copy(&new.key, &old.key).unwrap();
        assert!(
            matches!(tls.reload(), Err(TlsError::Identity(IdentityError::Mismatch { .. })))
                && unchanged()
        );
        std::fs::write(&old.certificate, "-----BEGIN CERTIFICATE-----\ncut").unwrap();
        assert!(
            matches!(tls.reload(), Err(TlsError::Identity(IdentityError::File(_)))) && unchanged()
        );
        std::fs::copy(&new.certificate, &old.certificate).unwrap();
        tls.reload().unwrap();
        assert!(!unchanged());
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let good = pair(folder.path(), "good");
        let error = |files: TlsFiles| Tls::load(files).unwrap_err().to_string();

        let missing = folder.path().join("missing");
        let text = error(TlsFiles { certificate: missing.clone(), ..good.clone() });
        assert!(text.starts_with("cannot read the certificate in ") && text.contains("missing"));
        let text = error(TlsFiles { key: missing, ..good.clone() });
        assert!(text.starts_with("cannot read the private key in ") && text.contains("missing"));
        let text = error(TlsFiles { key: good.certificate.clone(), ..good.clone() });
        assert!(text.starts_with("no private key found in ") && text.contains("good.crt"));
        let text = error(TlsFiles { certificate: good.key.clone(), ..good.clone() });
        assert!(text.starts_with("no certificate found in ") && text.contains("good.key"));
        let text = error(TlsFiles { key: pair(folder.path(), "other").key, ..good });
        assert!(text.contains("other.key") && text.contains("good.crt"), "{text}");
    }
}

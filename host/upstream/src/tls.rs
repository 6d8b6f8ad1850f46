//! TLS to an upstream: whom it trusts and who the gateway is, from files. They are looked at before each connection
//! and read again if they changed. If they cannot be used any more, the ones before stay, and the log says so.

use std::fmt;
use std::fs;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use keepgate_certificates::pin::Pinned;
use keepgate_certificates::trust::Trust;
use keepgate_certificates::{Fingerprint, Identity, file};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::options::TlsFiles;

/// TLS of one upstream.
pub(crate) struct Tls {
    upstream: String,
    files: TlsFiles,
    /// The protocols to offer.
    alpn: Vec<Vec<u8>>,
    current: Mutex<Current>,
}

struct Current {
    /// An error if nothing needs them and they were never read.
    read: Result<Arc<Read>, String>,
    /// What the files were like when they were last looked at.
    seen: Vec<Option<Stamp>>,
}

/// What was read from the files.
struct Read {
    config: ClientConfig,
    verifier: Arc<dyn ServerCertVerifier>,
}

/// Changes with a file.
type Stamp = (SystemTime, u64);

impl Tls {
    /// Reads all files if they are `needed`. Blocks.
    pub(crate) fn new(
        upstream: &str,
        files: TlsFiles,
        http2: bool,
        needed: bool,
    ) -> Result<Self, String> {
        let both: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        let alpn: Vec<_> = both.iter().map(|protocol| protocol.to_vec()).collect();
        let seen = stamps(&files);
        let read = match needed {
            true => Ok(Arc::new(Read::new(&files, &alpn)?)),
            false => Err("its address is not https://".to_owned()),
        };
        let current = Mutex::new(Current { read, seen });
        Ok(Self { upstream: upstream.to_owned(), files, alpn, current })
    }

    /// The configuration for a connection, and what the server will show in it. Blocks.
    pub(crate) fn config(&self) -> Result<(ClientConfig, Shown), String> {
        let read = self.current()?;
        let shown = Shown::default();
        let mut config = read.config.clone();
        let watching = Watching { inner: Arc::clone(&read.verifier), shown: shown.clone() };
        config.dangerous().set_certificate_verifier(Arc::new(watching));
        Ok((config, shown))
    }

    fn current(&self) -> Result<Arc<Read>, String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = stamps(&self.files);
        if seen != current.seen {
            current.seen = seen;
            match Read::new(&self.files, &self.alpn) {
                Ok(read) => {
                    current.read = Ok(Arc::new(read));
                    tracing::info!(upstream = self.upstream, "upstream's certificates reloaded");
                }
                Err(error) => tracing::warn!(
                    upstream = self.upstream,
                    error,
                    "upstream's certificates rejected; the ones before stay active"
                ),
            }
        }
        current.read.clone()
    }

    /// Where the files are.
    pub(crate) fn files(&self) -> &TlsFiles {
        &self.files
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Read {
    fn new(files: &TlsFiles, alpn: &[Vec<u8>]) -> Result<Self, String> {
        let provider = keepgate_certificates::provider();
        let verifier: Arc<dyn ServerCertVerifier> = match (&files.fingerprint, &files.ca) {
            (Some(fingerprint), _) => Pinned::new(*fingerprint),
            (None, Some(ca)) => {
                let named = file::certificates(ca).map_err(|error| error.to_string())?;
                let unusable = |error| format!("cannot trust {}: {error}", ca.display());
                Trust::new(named).map_err(unusable)?
            }
            (None, None) => {
                let roots = Arc::clone(system_roots());
                if roots.is_empty() {
                    let what = "this system has no certificate authorities; name the upstream's own as `ca`, or the \
                                fingerprint of its certificate as `fingerprint`";
                    return Err(what.to_owned());
                }
                let built =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                built.build().map_err(|error| error.to_string())?
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier));
        let mut config = match &files.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let identity =
                    Identity::load(certificate, key).map_err(|error| error.to_string())?;
                let only = rustls::sign::SingleCertAndKey::from(identity.certified);
                builder.with_client_cert_resolver(Arc::new(only))
            }
        };
        config.alpn_protocols = alpn.to_vec();
        Ok(Self { config, verifier })
    }
}

/// Read once: they are many, and a reload of the gateway is no reason for them to change.
fn system_roots() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // Those that cannot be read are left out; if the server's is among them, its handshake fails.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    })
}

fn stamps(files: &TlsFiles) -> Vec<Option<Stamp>> {
    let identity = files.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
    let all = files.ca.iter().chain(identity);
    all.map(|file| {
        let file = fs::metadata(file).ok()?;
        Some((file.modified().ok()?, file.len()))
    })
    .collect()
}

/// The fingerprint of the certificate that a server shows, once it has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown(Arc<OnceLock<Fingerprint>>);

impl Shown {
    pub(crate) fn get(&self) -> Option<Fingerprint> {
        self.0.get().copied()
    }
}

/// Remembers what a server shows, so that a message can name it.
#[derive(Debug)]
struct Watching {
    inner: Arc<dyn ServerCertVerifier>,
    shown: Shown,
}

impl ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // A connection has one handshake.
        let _ = self.shown.0.set(Fingerprint::of(end_entity));
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

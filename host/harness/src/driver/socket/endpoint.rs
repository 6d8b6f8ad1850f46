//! Where a server is, and which certificates are trusted.

use std::fs;
use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::connection::{Connection, Duplex, Socket};

/// How long a connection may be silent before it counts as dead.
const SILENCE: Duration = Duration::from_secs(60);

/// Which server certificates are accepted.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those signed by the system's certificate authorities.
    Machine,
    /// Those signed by an authority in this PEM file.
    File(std::path::PathBuf),
    /// All. The server's identity is not checked.
    Anything,
}

/// Files with the system's certificate authorities on common distributions.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where a server is.
#[derive(Clone, Debug)]
pub struct Endpoint {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl Endpoint {
    /// A server without TLS.
    pub fn plain(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, tls: None }
    }

    /// A server with TLS.
    ///
    /// # Errors
    ///
    /// If the certificates to trust cannot be read.
    pub fn tls(host: &str, port: u16, trust: &Trust) -> Result<Self, String> {
        let tls = client(trust)?;
        Ok(Self { host: host.to_owned(), port, tls: Some(Arc::new(tls)) })
    }

    /// Connects. Each read waits for up to a minute.
    ///
    /// # Errors
    ///
    /// If nothing listens there, or the TLS handshake fails.
    pub fn connect(&self) -> io::Result<Connection> {
        let mut failed = io::Error::other(format!("{} has no address", self.host));
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, SILENCE) {
                Ok(stream) => return self.over(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn over(&self, stream: TcpStream) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let socket = Socket::Tcp(stream.try_clone()?);
        let stream: Box<dyn Duplex> = match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
                let client = ClientConnection::new(config.clone(), name);
                Box::new(StreamOwned::new(client.map_err(io::Error::other)?, stream))
            }
        };
        Ok(Connection::new(stream, socket, self.tls.is_none(), None))
    }
}

fn client(trust: &Trust) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match trust {
        Trust::Anything => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAnything(provider)))
        }
        Trust::File(file) => builder.with_root_certificates(roots(file)?),
        Trust::Machine => {
            let known = AUTHORITIES.iter().map(Path::new).find(|file| file.exists());
            let file = known.ok_or("this system has no certificate authorities; name a file")?;
            builder.with_root_certificates(roots(file)?)
        }
    };
    Ok(builder.with_no_client_auth())
}

/// Reads the certificates of a PEM file.
fn roots(file: &Path) -> Result<RootCertStore, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let pem = fs::read(file).map_err(|error| wrong(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        // Authorities that rustls cannot use are skipped: no server under test is signed by them.
        let _ = roots.add(certificate.map_err(|error| wrong(&error))?);
    }
    if roots.is_empty() {
        Err(wrong(&"contains no usable certificate; expected PEM"))
    } else {
        Ok(roots)
    }
}

/// The verifier for `--insecure`.
#[derive(Debug)]
struct AcceptAnything(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

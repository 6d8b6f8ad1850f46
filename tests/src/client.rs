//! Where a server is and which user to authenticate as. Requests are sent over a [`Connection`].

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

pub use crate::connection::{Connection, Download, Reply};
use crate::connection::{Duplex, Socket};
use crate::program::LONG;

/// Certificates that a client accepts as the server's.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// The certificates of a PEM file.
    pub fn file(path: &Path) -> Self {
        let config = Self::of(path).with_no_client_auth();
        Self(Arc::new(config))
    }

    /// The same for a client that presents a certificate: the PEM files of certificate and key.
    pub fn file_presenting(path: &Path, certificate: &Path, key: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap);
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let config = Self::of(path).with_client_auth_cert(chain.collect(), key);
        Self(Arc::new(config.unwrap()))
    }

    fn of(path: &Path) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let pem = fs::read(path).unwrap();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
    }
}

/// The address of a server, and the user to authenticate as.
#[derive(Clone, Debug)]
pub struct Endpoint {
    place: Place,
    trust: Option<Trust>,
    authorization: Option<String>,
}

#[derive(Clone, Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Endpoint {
    /// At an address, without TLS.
    pub fn tcp(address: SocketAddr) -> Self {
        Self { place: Place::Tcp(address), trust: None, authorization: None }
    }

    /// At a Unix socket.
    pub fn unix(path: &Path) -> Self {
        Self { place: Place::Unix(path.to_owned()), trust: None, authorization: None }
    }

    /// With TLS, for the name `localhost`.
    #[must_use]
    pub fn tls(mut self, trust: &Trust) -> Self {
        self.trust = Some(trust.clone());
        self
    }

    /// With a user and a password.
    #[must_use]
    pub fn credentials(mut self, name: &str, password: &str) -> Self {
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        self.authorization = Some(format!("Basic {text}"));
        self
    }

    /// The port.
    pub fn port(&self) -> u16 {
        match &self.place {
            Place::Tcp(address) => address.port(),
            Place::Unix(path) => panic!("{} has no port", path.display()),
        }
    }

    /// Connects. Reads from the connection fail after a minute without a byte.
    pub fn try_connect(&self) -> io::Result<Connection> {
        let (socket, plain): (Socket, Box<dyn Duplex>) = match &self.place {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(LONG))?;
                stream.set_write_timeout(Some(LONG))?;
                (Socket::Tcp(stream.try_clone()?), Box::new(stream))
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(LONG))?;
                (Socket::Unix(stream.try_clone()?), Box::new(stream))
            }
        };
        let stream: Box<dyn Duplex> = match &self.trust {
            None => plain,
            Some(Trust(config)) => {
                let name = ServerName::try_from("localhost").unwrap();
                let client =
                    ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
                Box::new(StreamOwned::new(client, plain))
            }
        };
        Ok(Connection::new(stream, socket, self.trust.is_none(), self.authorization.clone()))
    }

    /// Connects.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        self.try_connect().unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    /// Sends one request on a connection of its own.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let sent = self.connect().send(method, path, headers, body);
        sent.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// `GET`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    /// `POST`.
    #[track_caller]
    pub fn post(&self, path: &str, body: &[u8]) -> Reply {
        self.send("POST", path, &[], body)
    }

    /// The status of a request without a body.
    #[track_caller]
    pub fn status(&self, method: &str, path: &str) -> u16 {
        self.send(method, path, &[], b"").status
    }
}

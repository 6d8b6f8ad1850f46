//! Addresses and sockets: TCP and Unix, bound here or handed over by systemd. They are bound before
//! anything is served, so that errors appear at startup.

mod address;
mod handed_over;
mod tcp;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::peer::Peer;
use crate::transport::Socket;

pub use address::{Address, AddressError};
pub use handed_over::{HandedOver, HandedOverError, take_handed_over};

/// The address of a bound listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// Address and port.
    Tcp(SocketAddr),
    /// The path of a socket; `None` for an unnamed one from systemd.
    Unix(Option<PathBuf>),
}

/// Why an address cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refused.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// The address.
        address: Address,
        /// The system's error.
        source: io::Error,
    },
    /// The system refused one of the addresses of a host name.
    #[error("cannot listen on {address}: {resolved}: {source}")]
    Resolved {
        /// The address as configured.
        address: Address,
        /// What its host name was resolved to.
        resolved: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// A file that is not a socket has the socket's path.
    #[error("cannot listen on {}: a file that is not a socket exists there; move it away", path.display())]
    Occupied {
        /// The path of the file.
        path: PathBuf,
    },
    /// Another process listens on this socket.
    #[error("cannot listen on {}: another process is listening there", path.display())]
    InUse {
        /// The path of the socket.
        path: PathBuf,
    },
    /// systemd has not handed over a matching socket.
    #[error("cannot listen on {address}: {source}")]
    HandedOver {
        /// The address.
        address: Address,
        /// What is wrong.
        source: HandedOverError,
    },
}

/// Paths are written without a prefix, as rest-server prints them.
impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(Some(path)) => path.display().fmt(f),
            Self::Unix(None) => f.write_str("unnamed unix socket"),
        }
    }
}

/// A bound socket.
#[derive(Debug)]
pub(crate) enum Listener {
    /// One socket, or one for each address of a host name, with the same port.
    Tcp {
        listeners: Vec<TcpListener>,
        /// The socket that is asked first for the next connection, so that none starves the others.
        next: AtomicUsize,
    },
    Unix {
        listener: UnixListener,
        /// Removes the file when it is dropped.
        _file: Option<SocketFile>,
    },
}

/// The file of a Unix socket that this process created. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Inode number and time of the last change: inode numbers are reused.
type Identity = (u64, i64, i64);

impl Listener {
    /// Binds an address. `mode` applies to the file of a Unix socket, for example `0o660`; the umask
    /// decides if it is missing.
    pub(crate) async fn bind(address: &Address, mode: Option<u32>) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { address: address.clone(), source };
        match address {
            Address::Tcp { host, port } => tcp::bind(address, host, *port).await,
            Address::Unix(path) => {
                remove_stale_socket(path).await.map_err(failed)??;
                bind_unix(path, mode).map_err(failed)
            }
            Address::Systemd { name } => {
                let socket = take_handed_over().take(name.as_deref());
                socket.map_err(|source| BindError::HandedOver { address: address.clone(), source })
            }
        }
    }

    /// Wraps a TCP socket that is already listening.
    pub(crate) fn of_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::tcp(vec![TcpListener::from_std(listener)?]))
    }

    fn tcp(listeners: Vec<TcpListener>) -> Self {
        Self::Tcp { listeners, next: AtomicUsize::new(0) }
    }

    /// Wraps a Unix socket that is already listening. Its owner removes its file.
    pub(crate) fn of_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        Ok(Self::Unix { listener, _file: None })
    }

    /// The addresses of its sockets; several only for a host name.
    pub(crate) fn local_addresses(&self) -> io::Result<Vec<LocalAddress>> {
        match self {
            Self::Tcp { listeners, .. } => {
                let addresses = listeners.iter().map(TcpListener::local_addr);
                addresses.map(|address| address.map(LocalAddress::Tcp)).collect()
            }
            Self::Unix { listener, .. } => {
                let address = listener.local_addr()?;
                Ok(vec![LocalAddress::Unix(address.as_pathname().map(Path::to_owned))])
            }
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp { listeners, next } => {
                let (stream, address) = tcp::accept(listeners, next).await?;
                // Heads and small responses must not wait for acknowledgements. Errors are ignored:
                // the client is gone, which the next read notices.
                let _ = stream.set_nodelay(true);
                Ok((Socket::Tcp(stream), Peer::tcp(address)))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream), Peer::Unix))
            }
        }
    }
}

/// Removes a socket on which no process listens any more.
async fn remove_stale_socket(path: &Path) -> io::Result<Result<(), BindError>> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(())),
        Err(error) => return Err(error),
    };
    let path = path.to_owned();
    if !metadata.file_type().is_socket() {
        return Ok(Err(BindError::Occupied { path }));
    }
    match UnixStream::connect(&path).await {
        Ok(_) => Ok(Err(BindError::InUse { path })),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(&path).map(Ok)
        }
        Err(error) => Err(error),
    }
}

fn bind_unix(path: &Path, mode: Option<u32>) -> io::Result<Listener> {
    let listener = UnixListener::bind(path)?;
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    Ok(Listener::Unix { listener, _file: Some(file) })
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have replaced it.
        let ours = identity(&self.path).is_ok_and(|identity| identity == self.identity);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn port_of(listener: &Listener) -> u16 {
        match listener.local_addresses().unwrap().first() {
            Some(LocalAddress::Tcp(address)) => address.port(),
            other => panic!("not TCP: {other:?}"),
        }
    }

    #[tokio::test]
    async fn an_empty_host_binds_ipv4_and_ipv6() {
        let listener = Listener::bind(&address(":0"), None).await.unwrap();
        let port = port_of(&listener);
        for ip in ["127.0.0.1", "::1"] {
            let client = tokio::net::TcpStream::connect((ip, port)).await;
            if ip == "::1" && client.is_err() {
                continue; // This machine has no IPv6.
            }
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.to_string(), ip);
        }
    }

    #[tokio::test]
    async fn the_error_for_a_taken_port_names_it() {
        let first = Listener::bind(&address("127.0.0.1:0"), None).await.unwrap();
        let text = format!("127.0.0.1:{}", port_of(&first));
        let error = Listener::bind(&address(&text), None).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {text}: ")), "{error}");
    }

    #[tokio::test]
    async fn the_file_of_a_unix_socket_lives_as_long_as_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let at = Address::Unix(path.clone());

        let listener = Listener::bind(&at, Some(0o620)).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o620);
        let [LocalAddress::Unix(Some(local))] = &*listener.local_addresses().unwrap() else {
            panic!("not a Unix socket")
        };
        assert_eq!(*local, path);
        assert!(matches!(Listener::bind(&at, None).await, Err(BindError::InUse { .. })));
        drop(listener);
        assert!(!path.exists());

        // Left behind by a killed process.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = Listener::bind(&at, None).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "not a socket").unwrap();
        drop(listener);
        assert!(path.exists(), "a file of another process stays");
        assert!(matches!(Listener::bind(&at, None).await, Err(BindError::Occupied { .. })));
    }
}

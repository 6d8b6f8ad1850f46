//! Addresses and sockets: TCP and Unix, bound here or handed over by systemd. They are bound before
//! anything is served, so that errors appear at startup.

mod address;
mod handed_over;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};

use crate::peer::Peer;
use crate::transport::Socket;

pub use address::{Address, AddressError};
pub use handed_over::{HandedOver, HandedOverError, take_handed_over};

/// Connections that the system queues until they are accepted.
const BACKLOG: u32 = 1024;

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
    Tcp(TcpListener),
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
            Address::Tcp { host, port } => bind_tcp(host, *port).await.map_err(failed),
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
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    /// Wraps a Unix socket that is already listening. Its owner removes its file.
    pub(crate) fn of_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        Ok(Self::Unix { listener, _file: None })
    }

    pub(crate) fn local_address(&self) -> io::Result<LocalAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(LocalAddress::Tcp),
            Self::Unix { listener, .. } => {
                let address = listener.local_addr()?;
                Ok(LocalAddress::Unix(address.as_pathname().map(Path::to_owned)))
            }
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
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

async fn bind_tcp(host: &str, port: u16) -> io::Result<Listener> {
    if host.is_empty() || host == "::" {
        return match listen_tcp((Ipv6Addr::UNSPECIFIED, port).into()) {
            // This machine has no IPv6.
            Err(error) if is_unsupported(&error) => {
                listen_tcp((Ipv4Addr::UNSPECIFIED, port).into())
            }
            result => result,
        };
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        match listen_tcp(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::AFNOSUPPORT)
}

fn listen_tcp(address: SocketAddr) -> io::Result<Listener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            // Set explicitly, because defaults differ between systems.
            rustix::net::sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
            socket
        }
    };
    // A restart must not wait for connections of the previous process.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG).map(Listener::Tcp)
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
        match listener.local_address().unwrap() {
            LocalAddress::Tcp(address) => address.port(),
            LocalAddress::Unix(_) => panic!("not TCP"),
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
        assert_eq!(listener.local_address().unwrap().to_string(), path.display().to_string());
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

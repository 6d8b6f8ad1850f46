//! Addresses and sockets: TCP and Unix, bound here or handed over by systemd, before anything is
//! served, so that an error is seen at start.

mod address;
mod handed_over;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};

use crate::connection::Peer;
use crate::stream::Socket;

pub use address::{Address, AddressError};
pub use handed_over::{HandedOver, HandedOverError, take_handed_over};

/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 1024;

/// What is being listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// Address and port.
    Tcp(SocketAddr),
    /// Path of a socket; none for one that was handed over without a name.
    Unix(Option<PathBuf>),
}

/// Why nothing can be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refused.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// On which address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is no socket is where the socket would be.
    #[error("cannot listen on {}: a file is there that is no socket; move it away", path.display())]
    Occupied {
        /// Path of the file.
        path: PathBuf,
    },
    /// Another process answers on this socket.
    #[error("cannot listen on {}: another process listens there", path.display())]
    InUse {
        /// Path of the socket.
        path: PathBuf,
    },
    /// systemd has not handed over what is asked for.
    #[error("cannot listen on {address}: {source}")]
    HandedOver {
        /// On which address.
        address: Address,
        /// What is wrong.
        source: HandedOverError,
    },
}

/// A path stands for itself, as rest-server prints it.
impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(Some(path)) => path.display().fmt(f),
            Self::Unix(None) => f.write_str("unix socket without a name"),
        }
    }
}

/// A bound socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Held for its end.
        _file: Option<SocketFile>,
    },
}

/// The file of a Unix socket that this process made; removed with it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Inode and time of its last change: an inode's number alone may be used again.
type Identity = (u64, i64, i64);

impl Listener {
    /// Listens. `mode` is for the file of a Unix socket that is made here, as in `0o660`; without
    /// it the process's umask decides.
    pub(crate) async fn bind(address: &Address, mode: Option<u32>) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { address: address.clone(), source };
        match address {
            Address::Tcp { host, port } => bind_tcp(host, *port).await.map_err(failed),
            Address::Unix(path) => {
                clear_way(path).await.map_err(failed)??;
                bind_unix(path, mode).map_err(failed)
            }
            Address::Systemd { name } => {
                let socket = take_handed_over().take(name.as_deref());
                socket.map_err(|source| BindError::HandedOver { address: address.clone(), source })
            }
        }
    }

    /// A TCP socket that is listening already.
    pub(crate) fn of_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    /// A Unix socket that is listening already. Its file is not ours to remove.
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
                // Heads and small replies must not wait for the acknowledgement of what went
                // before. Fails where the client is gone, which is then noticed anyhow.
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
            // No IPv6 on this machine.
            Err(error) if is_unsupported(&error) => {
                listen_tcp((Ipv4Addr::UNSPECIFIED, port).into())
            }
            result => result,
        };
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
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
            // Said, because a system may have another default.
            rustix::net::sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
            socket
        }
    };
    // A restart must not wait for connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG).map(Listener::Tcp)
}

/// Removes a socket that nobody listens on any more.
async fn clear_way(path: &Path) -> io::Result<Result<(), BindError>> {
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
        // Another process may have put its own there since.
        let ours = identity(&self.path).is_ok_and(|identity| identity == self.identity);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "removing the socket");
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
    async fn an_empty_host_means_both_families() {
        let listener = Listener::bind(&address(":0"), None).await.unwrap();
        let port = port_of(&listener);
        for ip in ["127.0.0.1", "::1"] {
            let client = tokio::net::TcpStream::connect((ip, port)).await;
            if ip == "::1" && client.is_err() {
                continue; // A machine without IPv6.
            }
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.to_string(), ip);
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_names_it() {
        let first = Listener::bind(&address("127.0.0.1:0"), None).await.unwrap();
        let text = format!("127.0.0.1:{}", port_of(&first));
        let error = Listener::bind(&address(&text), None).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {text}: ")), "{error}");
    }

    #[tokio::test]
    async fn a_unix_socket_comes_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let at = Address::Unix(path.clone());

        let listener = Listener::bind(&at, Some(0o620)).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o620);
        assert_eq!(listener.local_address().unwrap().to_string(), path.display().to_string());
        assert!(matches!(Listener::bind(&at, None).await, Err(BindError::InUse { .. })));
        drop(listener);
        assert!(!path.exists());

        // Left behind by a process that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = Listener::bind(&at, None).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "not a socket").unwrap();
        drop(listener);
        assert!(path.exists(), "a file of somebody else stays");
        assert!(matches!(Listener::bind(&at, None).await, Err(BindError::Occupied { .. })));
    }
}

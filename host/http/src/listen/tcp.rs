//! TCP sockets to listen on: one, or one for each address of a host name.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Address, BindError, Listener};

/// Connections that the system queues until they are accepted.
const BACKLOG: u32 = 1024;

/// Accepts the next connection of any of these sockets.
pub(super) async fn accept(
    listeners: &[TcpListener],
    next: &AtomicUsize,
) -> io::Result<(TcpStream, SocketAddr)> {
    std::future::poll_fn(|context| {
        let first = next.load(Ordering::Relaxed) % listeners.len().max(1);
        let (before, after) = listeners.split_at(first);
        for listener in after.iter().chain(before) {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                next.fetch_add(1, Ordering::Relaxed);
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

/// Listens on every address that the host has: `localhost` is 127.0.0.1 and ::1, and clients choose
/// either. Go listens on the first IPv4 address only; a client of it is served here too.
pub(super) async fn bind(address: &Address, host: &str, port: u16) -> Result<Listener, BindError> {
    let failed = |source| BindError::Io { address: address.clone(), source };
    if host.is_empty() || host == "::" {
        let listener = match listen((Ipv6Addr::UNSPECIFIED, port).into()) {
            // This machine has no IPv6.
            Err(error) if is_unsupported(&error) => listen((Ipv4Addr::UNSPECIFIED, port).into()),
            result => result,
        };
        return Ok(Listener::tcp(vec![listener.map_err(failed)?]));
    }
    let resolved = tokio::net::lookup_host((host, port)).await.map_err(failed)?;
    let mut resolved: Vec<SocketAddr> = resolved.collect();
    // Sorted by IPv4 first, whose port the others get if it was for the system to choose.
    resolved.sort();
    resolved.dedup();
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut unusable = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for mut at in resolved {
        if let Some(first) = listeners.first() {
            at.set_port(first.local_addr().map_err(failed)?.port());
        }
        match listen(at) {
            Ok(listener) => listeners.push(listener),
            // An address that this machine does not have: IPv6 is off, or /etc/hosts lists another's.
            Err(error) if is_unsupported(&error) => {
                tracing::debug!(%address, resolved = %at, %error, "address not available");
                unusable = error;
            }
            // On another process's port, clients would reach one or the other by chance.
            Err(source) if host.parse::<IpAddr>().is_err() => {
                return Err(BindError::Resolved { address: address.clone(), resolved: at, source });
            }
            Err(error) => return Err(failed(error)),
        }
    }
    if listeners.is_empty() { Err(failed(unusable)) } else { Ok(Listener::tcp(listeners)) }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::AFNOSUPPORT)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
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
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::LocalAddress;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn bound(listener: &Listener) -> Vec<SocketAddr> {
        let addresses = listener.local_addresses().unwrap().into_iter();
        let tcp = addresses.map(|address| match address {
            LocalAddress::Tcp(address) => address,
            LocalAddress::Unix(_) => panic!("not TCP"),
        });
        tcp.collect()
    }

    #[tokio::test]
    async fn a_host_name_is_served_on_each_of_its_addresses() {
        let resolved = tokio::net::lookup_host(("localhost", 0)).await.unwrap();
        let mut resolved: Vec<_> = resolved.map(|address| address.ip()).collect();
        resolved.sort();
        resolved.dedup();
        // What this machine lacks, such as IPv6, is left out.
        resolved.retain(|ip| std::net::TcpListener::bind((*ip, 0)).is_ok());
        let listener = Listener::bind(&address("localhost:0"), None).await.unwrap();
        let port = bound(&listener).first().unwrap().port();
        let expected: Vec<_> = resolved.iter().map(|ip| SocketAddr::from((*ip, port))).collect();
        assert_eq!(bound(&listener), expected);
        for ip in resolved.iter().chain(&resolved) {
            let client = TcpStream::connect((*ip, port)).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.address(), Some(client.local_addr().unwrap().ip()));
        }
    }

    #[tokio::test]
    async fn a_host_name_whose_port_is_taken_on_one_address_is_refused() {
        let Ok(taken) = std::net::TcpListener::bind(("::1", 0)) else {
            return; // This machine has no IPv6.
        };
        let port = taken.local_addr().unwrap().port();
        let mut resolved = tokio::net::lookup_host(("localhost", 0)).await.unwrap();
        if !resolved.any(|address| address.is_ipv6()) {
            return; // Here, localhost is one address.
        }
        let error = Listener::bind(&address(&format!("localhost:{port}")), None).await.unwrap_err();
        let text = format!("cannot listen on localhost:{port}: [::1]:{port}: ");
        assert!(error.to_string().starts_with(&text), "{error}");
    }
}

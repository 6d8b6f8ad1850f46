//! Proxies in front of a listener, and where they say which client a request comes from.
//!
//! A client can write whatever it likes into a header, and proxies only add to what is there. So an address is believed
//! only if it comes from a network that the operator trusts, and headers are read from their end: each proxy is asked who
//! its own client was, until that is none of the trusted ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use crate::peer::Peer;

/// Where proxies say who their client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// Before the first byte of the connection, in version 1 or 2 of HAProxy's PROXY protocol. A trusted proxy must send it.
    ProxyProtocol,
    /// In the header `X-Forwarded-For`.
    XForwardedFor,
    /// In the header `Forwarded` (RFC 7239).
    Forwarded,
}

/// The proxies of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxies {
    trusted: Arc<[IpNet]>,
    says: ClientAddress,
}

impl Proxies {
    /// Proxies in these networks. A peer on a Unix socket counts as 127.0.0.1 and ::1.
    pub fn new(trusted: impl IntoIterator<Item = IpNet>, says: ClientAddress) -> Self {
        Self { trusted: trusted.into_iter().collect(), says }
    }

    /// Whether this peer begins its connections with a header of the PROXY protocol.
    pub(crate) fn begins_with_header(&self, peer: &Peer) -> bool {
        self.says == ClientAddress::ProxyProtocol && self.trusts(peer)
    }

    /// The client of a request that came from this peer.
    pub(crate) fn client(&self, peer: Peer, headers: &HeaderMap) -> Peer {
        let mut hops: Vec<Option<IpAddr>> = match self.says {
            ClientAddress::ProxyProtocol => return peer,
            ClientAddress::XForwardedFor => values(headers, "x-forwarded-for", |value, hops| {
                hops.extend(value.split(',').map(address));
            }),
            ClientAddress::Forwarded => values(headers, "forwarded", |value, hops| {
                let node = |node: Result<rfc7239::Forwarded<'_>, _>| {
                    node.ok().and_then(|node| node.forwarded_for?.ip().copied())
                };
                hops.extend(rfc7239::parse(value).map(node));
            }),
        };
        let mut client = peer;
        while self.trusts(&client) {
            // What is no address may be a name that hides it, and what is before that, nobody vouches for.
            let Some(Some(address)) = hops.pop() else { break };
            client = Peer::tcp(SocketAddr::new(address, 0));
        }
        client
    }

    fn trusts(&self, peer: &Peer) -> bool {
        let within = |address: IpAddr| self.trusted.iter().any(|net| net.contains(&address));
        match peer.address() {
            Some(address) => within(address),
            None => within(Ipv4Addr::LOCALHOST.into()) || within(Ipv6Addr::LOCALHOST.into()),
        }
    }
}

/// What all headers of a name say, in order. One that is not text says nothing.
fn values(
    headers: &HeaderMap,
    name: &str,
    mut read: impl FnMut(&str, &mut Vec<Option<IpAddr>>),
) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    for value in headers.get_all(name) {
        match HeaderValue::to_str(value) {
            Ok(value) => read(value, &mut hops),
            Err(_) => hops.push(None),
        }
    }
    hops
}

/// `192.0.2.1`, `192.0.2.1:1234`, `2001:db8::1` or `[2001:db8::1]:1234`, as proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    bare.parse().or_else(|_| with_port()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(says: ClientAddress) -> Proxies {
        let trusted = ["10.0.0.0/8", "127.0.0.1/32", "2001:db8::/32"];
        Proxies::new(trusted.map(|network| network.parse().unwrap()), says)
    }

    #[track_caller]
    fn says(
        says: ClientAddress,
        peer: Option<&str>,
        headers: &[(&'static str, &[u8])],
        client: &str,
    ) {
        let peer =
            peer.map_or(Peer::Unix, |peer| Peer::tcp(SocketAddr::new(peer.parse().unwrap(), 1)));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        assert_eq!(proxies(says).client(peer, &map).to_string(), client, "{headers:?}");
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        let for_header = |peer, value: &[u8], client| {
            says(ClientAddress::XForwardedFor, peer, &[("x-forwarded-for", value)], client);
        };
        for (value, client) in [
            ("198.51.100.7", "198.51.100.7"),
            (" 198.51.100.7 ", "198.51.100.7"),
            ("198.51.100.7:4711", "198.51.100.7"),
            ("2001:dba::1", "2001:dba::1"),
            ("[2001:dba::1]", "2001:dba::1"),
            ("[2001:dba::1]:80", "2001:dba::1"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            // What the client has made up is before what the proxy has added.
            ("127.0.0.1, 192.0.2.1, 198.51.100.7", "198.51.100.7"),
            // Two proxies.
            ("192.0.2.1, 198.51.100.7, 10.2.2.2", "198.51.100.7"),
            ("198.51.100.7,10.2.2.2,2001:db8::5", "198.51.100.7"),
            // A client in a proxy's network.
            ("10.9.9.9", "10.9.9.9"),
            // No address.
            ("", "10.1.1.1"),
            ("unknown", "10.1.1.1"),
            ("198.51.100.7, unknown", "10.1.1.1"),
            ("198.51.100.7, unknown, 10.2.2.2", "10.2.2.2"),
            ("198.51.100.7, 10.2.2.256", "10.1.1.1"),
        ] {
            for_header(Some("10.1.1.1"), value.as_bytes(), client);
        }
        for_header(Some("10.1.1.1"), b"198.51.100.7, \xff", "10.1.1.1");
        for_header(Some("192.0.2.9"), b"198.51.100.7", "192.0.2.9");
        for_header(None, b"198.51.100.7", "198.51.100.7");
        for_header(None, b"", "unix");
        says(ClientAddress::XForwardedFor, Some("10.1.1.1"), &[], "10.1.1.1");
        let twice: [(_, &[u8]); 2] =
            [("x-forwarded-for", b"192.0.2.1"), ("x-forwarded-for", b"198.51.100.7, 10.2.2.2")];
        says(ClientAddress::XForwardedFor, Some("10.1.1.1"), &twice, "198.51.100.7");
        // The other header is the client's.
        let other: [(_, &[u8]); 1] = [("forwarded", b"for=192.0.2.1")];
        says(ClientAddress::XForwardedFor, Some("10.1.1.1"), &other, "10.1.1.1");
        says(ClientAddress::ProxyProtocol, Some("10.1.1.1"), &other, "10.1.1.1");
    }

    #[test]
    fn the_header_of_the_standard_is_read_as_well() {
        for (value, client) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("For=\"198.51.100.7:47011\";proto=https;by=10.1.1.1", "198.51.100.7"),
            ("for=192.0.2.1, for=\"[2001:dba::1]:80\"", "2001:dba::1"),
            ("for=198.51.100.7;host=a, for=10.2.2.2", "198.51.100.7"),
            ("for=unknown", "10.1.1.1"),
            ("for=198.51.100.7, for=_hidden", "10.1.1.1"),
            ("proto=https", "10.1.1.1"),
            ("for", "10.1.1.1"),
        ] {
            let header: [(_, &[u8]); 1] = [("forwarded", value.as_bytes())];
            says(ClientAddress::Forwarded, Some("10.1.1.1"), &header, client);
        }
    }

    #[test]
    fn only_trusted_proxies_begin_with_a_header() {
        let peer = |peer: &str| Peer::tcp(SocketAddr::new(peer.parse().unwrap(), 1));
        let begins = |says, address: &str| proxies(says).begins_with_header(&peer(address));
        assert!(begins(ClientAddress::ProxyProtocol, "10.1.1.1"));
        assert!(!begins(ClientAddress::ProxyProtocol, "11.1.1.1"));
        assert!(!begins(ClientAddress::XForwardedFor, "10.1.1.1"));
    }
}

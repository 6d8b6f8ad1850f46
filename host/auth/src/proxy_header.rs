//! Users that a proxy in front has authenticated and names in a header.
//!
//! A client that bypasses the proxy can claim any name, so operators must either let only the proxy
//! reach this server, or configure the proxy's networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};
use ipnet::IpNet;

/// Bytes of a name. Surfaces use names as folders, and metrics as labels.
const MAX_NAME: usize = 255;

/// Headers about the message or the connection. They cannot carry a user's name, and some are removed
/// before this code sees them.
const RESERVED: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A header with the user's name, and the networks from which it is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    name: HeaderName,
    /// Empty: trusted from everywhere.
    trusted: Arc<[IpNet]>,
}

/// A text that cannot be the header with the user's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be the header with the user's name: {why}")]
pub struct ProxyHeaderError {
    text: String,
    why: &'static str,
}

/// What a request claims.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// No name, or an empty one.
    None,
    /// This user's name.
    User(String),
    /// A name, but from an untrusted peer.
    Untrusted {
        /// The name, for the log.
        user: String,
    },
    /// Something that no correctly configured proxy sends. No other method is tried then.
    Invalid {
        /// The name, for the log.
        user: String,
        /// The reason, for the log.
        why: &'static str,
    },
}

impl FromStr for ProxyHeader {
    type Err = ProxyHeaderError;

    /// The header with this name, trusted from everywhere.
    fn from_str(text: &str) -> Result<Self, ProxyHeaderError> {
        let error = |why| ProxyHeaderError { text: text.to_owned(), why };
        let name = HeaderName::from_str(text)
            .map_err(|_| error("write the name of a header, such as X-Forwarded-User"))?;
        if RESERVED.contains(&name) {
            return Err(error("it already has another meaning"));
        }
        Ok(Self { name, trusted: Arc::default() })
    }
}

impl ProxyHeader {
    /// Trusts it only from peers in these networks; an empty list trusts everybody.
    ///
    /// A peer without an address, such as one on a Unix socket, counts as 127.0.0.1 and ::1: only local
    /// processes can connect there, and the permissions of the socket's file decide which.
    pub fn trusted_from(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.trusted = networks.into_iter().collect();
        self
    }

    /// The name of the header.
    pub fn header(&self) -> &HeaderName {
        &self.name
    }

    fn trusts(&self, from: Option<IpAddr>) -> bool {
        let within = |address: IpAddr| self.trusted.iter().any(|net| net.contains(&address));
        self.trusted.is_empty()
            || match from {
                Some(address) => within(address.to_canonical()),
                None => within(Ipv4Addr::LOCALHOST.into()) || within(Ipv6Addr::LOCALHOST.into()),
            }
    }

    /// The user that a request from this peer claims to be.
    pub(crate) fn read(&self, headers: &HeaderMap, from: Option<IpAddr>) -> Claim {
        let mut values = headers.get_all(&self.name).iter();
        let Some(value) = values.next() else {
            return Claim::None;
        };
        if !self.trusts(from) {
            return Claim::Untrusted { user: shown(value) };
        }
        let invalid = |why| Claim::Invalid { user: shown(value), why };
        if values.next().is_some() {
            // The proxy appends its header to the client's instead of replacing it.
            return invalid("more than one header with a user's name");
        }
        let Ok(user) = std::str::from_utf8(value.as_bytes().trim_ascii()) else {
            return invalid("the user's name is not UTF-8");
        };
        if user.is_empty() {
            return Claim::None;
        }
        if user.len() > MAX_NAME {
            return invalid("the user's name is too long");
        }
        if user.chars().any(char::is_control) {
            return invalid("the user's name has control characters");
        }
        Claim::User(user.to_owned())
    }
}

fn shown(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> ProxyHeader {
        "X-Forwarded-User".parse().unwrap()
    }

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-forwarded-user", HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn read(values: &[&[u8]]) -> Claim {
        header().read(&headers(values), None)
    }

    #[test]
    fn reads_the_name_that_the_proxy_sets() {
        for name in ["alice", "Doe, John", "a/b", "zoë", "CN=x,O=y", &"x".repeat(MAX_NAME)] {
            assert_eq!(read(&[name.as_bytes()]), Claim::User(name.to_owned()), "{name}");
        }
        // HTTP/2 does not strip white space.
        assert_eq!(read(&[b" \tbob "]), Claim::User("bob".to_owned()));
        let nothings: [&[&[u8]]; 3] = [&[], &[b""], &[b" \t "]];
        for nothing in nothings {
            assert_eq!(read(nothing), Claim::None, "{nothing:?}");
        }
    }

    #[test]
    fn refuses_what_no_proxy_sends() {
        let long = "x".repeat(MAX_NAME + 1);
        let cases: [&[&[u8]]; 6] = [
            &[b"alice", b"mallory"],
            &[b"", b"mallory"],
            &[b"a\tb"],
            &[b"caf\xe9"],
            &["a\u{85}b".as_bytes()],
            &[long.as_bytes()],
        ];
        for values in cases {
            assert!(matches!(read(values), Claim::Invalid { .. }), "{values:?}");
        }
    }

    #[test]
    fn trusts_only_the_configured_networks() {
        let trusted = |networks: &[&str], from: Option<&str>| {
            let networks = networks.iter().map(|network| network.parse().unwrap());
            let header = header().trusted_from(networks);
            let from = from.map(|from| from.parse().unwrap());
            header.read(&headers(&[b"alice"]), from) == Claim::User("alice".to_owned())
        };
        assert!(trusted(&[], Some("192.0.2.1")) && trusted(&[], None));
        let proxies = ["10.1.0.0/16", "2001:db8::/32"];
        assert!(trusted(&proxies, Some("10.1.2.3")) && trusted(&proxies, Some("2001:db8::1")));
        assert!(trusted(&proxies, Some("::ffff:10.1.2.3")));
        assert!(!trusted(&proxies, Some("10.2.0.1")) && !trusted(&proxies, Some("::1")));
        // Unix sockets are local.
        assert!(!trusted(&proxies, None));
        assert!(trusted(&["127.0.0.1/32"], None) && trusted(&["::1/128"], None));
        assert!(trusted(&["127.0.0.0/8"], Some("127.0.0.1")));
        // No header is no claim, wherever the request comes from.
        let header = header().trusted_from(["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(header.read(&HeaderMap::new(), None), Claim::None);
        assert_eq!(
            header.read(&headers(&[b"alice"]), None),
            Claim::Untrusted { user: "alice".to_owned() }
        );
    }

    #[test]
    fn reserved_headers_are_refused() {
        assert_eq!(header().header().as_str(), "x-forwarded-user");
        for text in ["", "X User", "Authorization", "HOST", "connection", "x:y"] {
            let error = text.parse::<ProxyHeader>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} cannot be the header")), "{error}");
        }
    }
}

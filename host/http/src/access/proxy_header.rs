//! Users whose names a proxy in front has found out, and says in a header.
//!
//! Whoever reaches this server past the proxy can say any name, so an operator either lets only
//! the proxy reach it, or names the proxy's networks here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};
use ipnet::IpNet;

/// Bytes of a name. Names become folders and labels of metrics.
const MAX_NAME: usize = 255;

/// Headers that speak of the message or the connection. One of them says no user's name, and
/// some are taken away before anything here sees them.
const NO_NAMES: [HeaderName; 9] = [
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

/// A header with the user's name, and who is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    name: HeaderName,
    /// Empty: everybody is believed.
    believed: Arc<[IpNet]>,
}

/// Text that is no header for a user's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be the header with the user's name: {why}")]
pub struct ProxyHeaderError {
    text: String,
    why: &'static str,
}

/// What a request says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing, or an empty name.
    Nothing,
    /// This user's name.
    User(String),
    /// A name, but from somebody who is not believed.
    Unbelieved {
        /// As far as it can be shown.
        user: String,
    },
    /// Something that no proxy says that is set up well: nobody else is asked then.
    Wrong {
        /// As far as it can be shown.
        user: String,
        /// For the log.
        why: &'static str,
    },
}

impl FromStr for ProxyHeader {
    type Err = ProxyHeaderError;

    /// The header of this name, believed from everybody.
    fn from_str(text: &str) -> Result<Self, ProxyHeaderError> {
        let error = |why| ProxyHeaderError { text: text.to_owned(), why };
        let name = HeaderName::from_str(text)
            .map_err(|_| error("write a header's name, as in X-Forwarded-User"))?;
        if NO_NAMES.contains(&name) {
            return Err(error("it has another meaning already"));
        }
        Ok(Self { name, believed: Arc::default() })
    }
}

impl ProxyHeader {
    /// Believed only from peers within these networks; without any, from everybody.
    ///
    /// A peer on a Unix socket, or any other without an address, counts as the machine itself,
    /// which is 127.0.0.1 and ::1: only processes of this machine can be there, and who of them
    /// may connect is said by the socket's file.
    pub fn believed_from(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.believed = networks.into_iter().collect();
        self
    }

    /// Which header.
    pub fn header(&self) -> &HeaderName {
        &self.name
    }

    fn believes(&self, from: Option<IpAddr>) -> bool {
        let within = |address: IpAddr| self.believed.iter().any(|net| net.contains(&address));
        self.believed.is_empty()
            || match from {
                Some(address) => within(address.to_canonical()),
                None => within(Ipv4Addr::LOCALHOST.into()) || within(Ipv6Addr::LOCALHOST.into()),
            }
    }

    /// Who a request of this peer says that it is for.
    pub(super) fn read(&self, headers: &HeaderMap, from: Option<IpAddr>) -> Said {
        let mut values = headers.get_all(&self.name).iter();
        let Some(value) = values.next() else {
            return Said::Nothing;
        };
        if !self.believes(from) {
            return Said::Unbelieved { user: shown(value) };
        }
        let wrong = |why| Said::Wrong { user: shown(value), why };
        if values.next().is_some() {
            // A proxy that adds its word to the client's instead of replacing it.
            return wrong("more than one header with a user's name");
        }
        let Ok(user) = std::str::from_utf8(value.as_bytes().trim_ascii()) else {
            return wrong("the user's name is not UTF-8");
        };
        if user.is_empty() {
            return Said::Nothing;
        }
        if user.len() > MAX_NAME {
            return wrong("the user's name is too long");
        }
        if user.chars().any(char::is_control) {
            return wrong("the user's name has control characters");
        }
        Said::User(user.to_owned())
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

    fn read(values: &[&[u8]]) -> Said {
        header().read(&headers(values), None)
    }

    #[test]
    fn a_name_is_what_the_proxy_says() {
        for name in ["alice", "Doe, John", "a/b", "zoë", "CN=x,O=y", &"x".repeat(MAX_NAME)] {
            assert_eq!(read(&[name.as_bytes()]), Said::User(name.to_owned()), "{name}");
        }
        // HTTP/2 does not strip blanks.
        assert_eq!(read(&[b" \tbob "]), Said::User("bob".to_owned()));
        let nothings: [&[&[u8]]; 3] = [&[], &[b""], &[b" \t "]];
        for nothing in nothings {
            assert_eq!(read(nothing), Said::Nothing, "{nothing:?}");
        }
    }

    #[test]
    fn refuses_what_no_proxy_says() {
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
            assert!(matches!(read(values), Said::Wrong { .. }), "{values:?}");
        }
    }

    #[test]
    fn believes_whom_it_is_told_to() {
        let said = |networks: &[&str], from: Option<&str>| {
            let networks = networks.iter().map(|network| network.parse().unwrap());
            let header = header().believed_from(networks);
            let from = from.map(|from| from.parse().unwrap());
            header.read(&headers(&[b"alice"]), from) == Said::User("alice".to_owned())
        };
        assert!(said(&[], Some("192.0.2.1")) && said(&[], None));
        let proxies = ["10.1.0.0/16", "2001:db8::/32"];
        assert!(said(&proxies, Some("10.1.2.3")) && said(&proxies, Some("2001:db8::1")));
        assert!(said(&proxies, Some("::ffff:10.1.2.3")));
        assert!(!said(&proxies, Some("10.2.0.1")) && !said(&proxies, Some("::1")));
        // Unix sockets are of this machine.
        assert!(!said(&proxies, None));
        assert!(said(&["127.0.0.1/32"], None) && said(&["::1/128"], None));
        assert!(said(&["127.0.0.0/8"], Some("127.0.0.1")));
        // Nothing said is nothing, wherever it comes from.
        let header = header().believed_from(["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(header.read(&HeaderMap::new(), None), Said::Nothing);
        assert_eq!(
            header.read(&headers(&[b"alice"]), None),
            Said::Unbelieved { user: "alice".to_owned() }
        );
    }

    #[test]
    fn some_headers_say_no_name() {
        assert_eq!(header().header().as_str(), "x-forwarded-user");
        for text in ["", "X User", "Authorization", "HOST", "connection", "x:y"] {
            let error = text.parse::<ProxyHeader>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} cannot be the header")), "{error}");
        }
    }
}

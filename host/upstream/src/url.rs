//! URLs, read strictly: of upstreams and prefixes that the operator writes, and of addresses that clients name.
//!
//! Two programs that read one URL differently are how a check is got around. So whatever is read in several ways
//! somewhere is refused here: credentials, backslashes, fragments, names that are not ASCII, and numbers in place of
//! an address that only some programs take for one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name of a host.
const LONGEST_NAME: usize = 253;

/// A URL without credentials and without a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) encrypted: bool,
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// Path and query as they were written; `/` if there is no path.
    pub(crate) target: String,
}

/// A host: a name in lower case without a dot at its end, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Url {
    /// Reads a URL. The error says what is wrong, and never repeats the URL, which may hold credentials.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '\\') {
            return Err(format!(
                "contains {bad:?}; write a host name in its ASCII form (xn--…) and everything else percent-encoded"
            ));
        }
        if text.contains('#') {
            return Err("has a fragment; leave out `#` and what follows".to_owned());
        }
        let (scheme, rest) = text.split_once("://").ok_or("expected http:// or https://")?;
        let encrypted = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("expected http:// or https://".to_owned()),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err("contains credentials; leave out the part before `@`".to_owned());
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            Some(port) => port,
            None if encrypted => 443,
            None => 80,
        };
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { encrypted, host: Host::parse(host)?, port, target: format!("{slash}{target}") })
    }

    /// Host and port, the port only if it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        match (self.encrypted, self.port) {
            (true, 443) | (false, 80) => self.host.to_string(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.encrypted { "https" } else { "http" }
    }

    /// Whether another URL is of the same scheme, host and port.
    pub(crate) fn is_same_origin(&self, other: &Self) -> bool {
        (self.encrypted, &self.host, self.port) == (other.encrypted, &other.host, other.port)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.target)
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix('[') {
            let address = rest.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
            let address = address.ok_or("expected an IPv6 address in the brackets")?;
            return Ok(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        if name.is_empty() {
            return Err("has no host".to_owned());
        }
        if name.len() > LONGEST_NAME || !name.split('.').all(label) {
            return Err("expected a host name or an IP address".to_owned());
        }
        // What ends in a number is an address, in forms that only some programs know: `127.1`, `0x7f000001`, `017…`.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
            let address = name.parse::<Ipv4Addr>();
            let address = address.map_err(
                |_| "expected an IPv4 address as four decimal numbers such as 192.0.2.1",
            )?;
            return Ok(Self::Address(address.into()));
        }
        Ok(Self::Name(name))
    }
}

/// As in a URL: an IPv6 address in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let after_host = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = authority.get(after_host..).and_then(|rest| rest.find(':')) else {
        return Ok((authority, None));
    };
    let (host, port) = authority.split_at(after_host + colon);
    let port = port.strip_prefix(':').unwrap_or(port);
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(number) if digits && number > 0 => Ok((host, Some(number))),
        _ => Err("expected a port from 1 to 65535 after the colon".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_into_its_parts() {
        let url = Url::parse("HTTPS://Hooks.Example.:8443/a/b?c=d").unwrap();
        assert_eq!(url.to_string(), "https://hooks.example:8443/a/b?c=d");
        assert_eq!((url.port, url.encrypted), (8443, true));
        for (text, shown) in [
            ("http://h", "http://h/"),
            ("http://h:80/", "http://h/"),
            ("https://h:443?x", "https://h/?x"),
            ("http://[::1]:81/x", "http://[::1]:81/x"),
            ("http://192.0.2.1/", "http://192.0.2.1/"),
            ("http://a_b.xn--bcher-kva.example", "http://a_b.xn--bcher-kva.example/"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), shown, "{text}");
        }
        let one = Url::parse("https://h/a").unwrap();
        assert!(one.is_same_origin(&Url::parse("https://H.:443/b").unwrap()));
        for other in ["http://h/a", "https://h:444/a", "https://g/a"] {
            assert!(!one.is_same_origin(&Url::parse(other).unwrap()), "{other}");
        }
    }

    #[test]
    fn what_programs_read_in_different_ways_is_refused() {
        for (text, why) in [
            ("ftp://h/", "expected http://"),
            ("//h/", "expected http://"),
            ("http:/h/", "expected http://"),
            ("http:h", "expected http://"),
            ("unix:/x", "expected http://"),
            ("http://", "no host"),
            ("http:///x", "no host"),
            ("http://./", "no host"),
            ("http://:80/", "no host"),
            ("http://user@h/", "credentials"),
            ("http://user:secret@h/", "credentials"),
            ("http://good.example@evil.example/", "credentials"),
            ("http://good.example:80@evil.example/", "credentials"),
            ("http://good.example\\@evil.example/", "contains '\\\\'"),
            ("http://good.example#@evil.example/", "fragment"),
            ("http://good.example /", "contains ' '"),
            ("http://h/\u{9}", "contains '\\t'"),
            ("http://h/\r\nx: y", "contains '\\r'"),
            ("http://bücher.example/", "ASCII form"),
            ("http://ｇood.example/", "ASCII form"),
            ("http://good。example/", "ASCII form"),
            ("http://a..b/", "expected a host name"),
            ("http://a%2eb/", "expected a host name"),
            ("http://h,g/", "expected a host name"),
            ("http://h:/", "a port from 1"),
            ("http://h:0/", "a port from 1"),
            ("http://h:65536/", "a port from 1"),
            ("http://h:+80/", "a port from 1"),
            ("http://h:80:80/", "a port from 1"),
            ("http://[::1/", "a port from 1"),
            ("http://[::1]x/", "an IPv6 address"),
            ("http://[::1%25lo]/", "an IPv6 address"),
            ("http://[1.2.3.4]/", "an IPv6 address"),
            ("http://::1/", "a port from 1"),
            ("http://2130706433/", "four decimal numbers"),
            ("http://017700000001/", "four decimal numbers"),
            ("http://0x7f000001/", "four decimal numbers"),
            ("http://127.1/", "four decimal numbers"),
            ("http://0177.0.0.1/", "four decimal numbers"),
            ("http://0x7f.0.0.1/", "four decimal numbers"),
            ("http://127.0.0.0x1/", "four decimal numbers"),
            ("http://127.0.0.01/", "four decimal numbers"),
            ("http://1.2.3.4.5/", "four decimal numbers"),
            ("http://256.1.1.1/", "four decimal numbers"),
        ] {
            let error = Url::parse(text).map(|url| url.to_string()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}

//! Addresses to listen on, as operators write them.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen on: `:8000`, `127.0.0.1:8000`, `[::1]:0`,
/// `backup.example:8000`, `unix:/run/keepgate.sock`, `systemd` or `systemd:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port. An empty host or `::` means all addresses of the machine, IPv6 and IPv4; port 0
    /// means any free port.
    Tcp {
        /// A name or an address; IPv6 addresses without brackets.
        host: String,
        /// 0 to 65535.
        port: u16,
    },
    /// The path of a socket.
    Unix(PathBuf),
    /// A socket handed over by systemd, defined by a `.socket` unit.
    Systemd {
        /// Its `FileDescriptorName=`. If it is missing, exactly one socket must have been handed over.
        name: Option<String>,
    },
}

/// A text that is not an address to listen on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address to listen on: {why}")]
pub struct AddressError {
    text: String,
    why: &'static str,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = |why| AddressError { text: text.to_owned(), why };
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(error("unix: must be followed by a path"));
            }
            return Ok(Self::Unix(path.into()));
        }
        if text == "systemd" {
            return Ok(Self::Systemd { name: None });
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            // What systemd allows: it separates names by colons.
            let good = |byte: u8| matches!(byte, b' '..=b'~' if byte != b':');
            if name.is_empty() || !name.bytes().all(good) {
                return Err(error("systemd: must be followed by a FileDescriptorName="));
            }
            return Ok(Self::Systemd { name: Some(name.to_owned()) });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| {
            error(
                "write host:port, :port for all addresses, unix:/path/of/socket, or systemd for a \
                 socket handed over by systemd",
            )
        })?;
        let port = port.parse().map_err(|_| error("the port must be a number from 0 to 65535"))?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(error("brackets are only for IPv6 addresses")),
            None if host.contains(':') => return Err(error("IPv6 addresses need brackets")),
            None => host,
        };
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd { name: None } => f.write_str("systemd"),
            Self::Systemd { name: Some(name) } => write!(f, "systemd:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn parses_and_prints_addresses() {
        let tcp = |host: &str, port| Address::Tcp { host: host.to_owned(), port };
        assert_eq!(address(":8000"), tcp("", 8000));
        assert_eq!(address("127.0.0.1:0"), tcp("127.0.0.1", 0));
        assert_eq!(address("[::]:8000"), tcp("::", 8000));
        assert_eq!(address("backup.example:80"), tcp("backup.example", 80));
        assert_eq!(address("unix:/run/k.sock"), Address::Unix("/run/k.sock".into()));
        let systemd = |name: &str| Address::Systemd { name: Some(name.to_owned()) };
        assert_eq!(address("systemd"), Address::Systemd { name: None });
        assert_eq!(address("systemd:keepgate.socket"), systemd("keepgate.socket"));
        let texts = [
            "[::1]:8000",
            "127.0.0.1:1",
            ":0",
            "unix:/a b",
            "systemd",
            "systemd:a b",
            "systemd2:1",
        ];
        for text in texts {
            assert_eq!(address(text).to_string(), text);
        }
        for text in ["", "8000", "host", "host:", "host:65536", "::1:80", "[x]:1", "unix:"]
            .into_iter()
            .chain(["systemd:", "systemd:a:b", "systemd:ä", "Systemd"])
        {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}

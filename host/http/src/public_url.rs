//! The URL by which clients reach a listener, as the operator configures it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::uri::{Authority, Uri};

/// The URL by which clients reach a listener, which may differ from the address it listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(Arc<str>);

/// A text that is not a public URL.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be a public URL: {why}; write it like \"https://backup.example.org\"")]
pub struct PublicUrlError {
    text: String,
    why: &'static str,
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    /// Parses an `http` or `https` URL with a host and optionally a port and a path, and nothing else.
    /// Trailing slashes are ignored.
    fn from_str(text: &str) -> Result<Self, PublicUrlError> {
        let error = |why| PublicUrlError { text: text.to_owned(), why };
        if text.contains(['?', '#']) {
            return Err(error("it has a query or a fragment"));
        }
        let uri: Uri = text.parse().map_err(|_| error("it is not a URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(error("it does not start with https:// or http://"));
        }
        let authority = uri.authority().filter(|authority| is_host(authority));
        if authority.is_none() {
            return Err(error("it has no host, or a user name"));
        }
        Ok(Self(text.trim_end_matches('/').into()))
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// True for a host with an optional port and without a user. An empty host, as in `:80`, does not count.
pub(crate) fn is_host(authority: &Authority) -> bool {
    !authority.host().is_empty() && !authority.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_urls_with_a_host_and_nothing_but_a_port_and_path() {
        let shown = |text: &str| text.parse::<PublicUrl>().map(|url| url.to_string());
        for (text, expected) in [
            ("https://backup.example.org", "https://backup.example.org"),
            ("http://[::1]:8000/", "http://[::1]:8000"),
            ("https://x.example/a/b/", "https://x.example/a/b"),
        ] {
            assert_eq!(shown(text).unwrap(), expected);
        }
        for text in [
            "",
            "backup.example.org",
            "/path",
            "ftp://x.example",
            "https://",
            "https://user@x.example",
            "https://x.example/?a",
            "https://x.example/#a",
            "https://x example",
        ] {
            let error = shown(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} cannot be a public URL: ")), "{error}");
        }
    }
}

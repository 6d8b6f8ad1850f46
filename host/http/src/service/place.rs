//! Where a request came in: the address of its mount as the client reached it, and the name by which
//! logs know the request. No header of a proxy is believed here: who has a proxy in front says what the
//! clients' address is.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use http::uri::{Authority, Uri};
use http::{HeaderMap, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a segment of a path may not have as it is (RFC 3986).
const SEGMENT: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    // Between segments.
    .remove(b'/');

/// The address of a listener as its clients know it, which need not be the one that it listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(Arc<str>);

/// Text that is no such address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be a public URL: {why}; write it as in \"https://backup.example.org\"")]
pub struct PublicUrlError {
    text: String,
    why: &'static str,
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    /// A URL of `http` or `https` with a host, and perhaps a port and a path, and nothing else. A
    /// slash at its end does not count.
    fn from_str(text: &str) -> Result<Self, PublicUrlError> {
        let error = |why| PublicUrlError { text: text.to_owned(), why };
        if text.contains(['?', '#']) {
            return Err(error("it has a query or a fragment"));
        }
        let uri: Uri = text.parse().map_err(|_| error("it is no URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(error("it does not begin with https:// or http://"));
        }
        let authority = uri.authority().filter(|authority| is_host(authority));
        if authority.is_none() {
            return Err(error("it names no host, or more than host and port"));
        }
        Ok(Self(text.trim_end_matches('/').into()))
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host and perhaps a port, and no user. An empty host, as in `:80`, is none.
fn is_host(authority: &Authority) -> bool {
    !authority.host().is_empty() && !authority.as_str().contains('@')
}

/// The mount as the client reaches it; empty where nothing says how.
pub(super) fn base(
    head: &http::request::Parts,
    is_tls: bool,
    public: Option<&PublicUrl>,
    mount: &str,
) -> String {
    let path = if mount == "/" { "" } else { mount };
    let path = utf8_percent_encode(path, &SEGMENT);
    if let Some(public) = public {
        return format!("{public}{path}");
    }
    let scheme = if is_tls { "https" } else { "http" };
    match authority(&head.uri, &head.headers) {
        Some(authority) => format!("{scheme}://{authority}{path}"),
        None => String::new(),
    }
}

/// What the client calls this server: HTTP/2 and absolute targets say it in the target. None where it
/// says nothing, two things, or something that is no host.
fn authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    if let Some(authority) = uri.authority() {
        return Some(authority.clone()).filter(is_host);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
    Authority::try_from(host.as_bytes()).ok().filter(is_host)
}

/// Path and query as they were sent.
pub(super) fn target(uri: &Uri) -> String {
    uri.path_and_query().map_or("/", |target| target.as_str()).to_owned()
}

/// A name for one request: random for each start of the process, and counted on.
pub(super) fn next_id() -> String {
    static START: LazyLock<u64> = LazyLock::new(|| {
        let mut random = [0; 8];
        // Without random bytes it is still another one for each request of this process.
        let _ = getrandom::fill(&mut random);
        u64::from_le_bytes(random) >> 16
    });
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:012x}-{}", *START, NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str, hosts: &[&[u8]]) -> http::request::Parts {
        let mut request = http::Request::get(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn of(target: &str, hosts: &[&[u8]]) -> String {
        base(&head(target, hosts), false, None, "/etcd")
    }

    #[test]
    fn the_base_is_how_the_client_got_here() {
        assert_eq!(of("/etcd/x?y", &[b"backup:8000"]), "http://backup:8000/etcd");
        assert_eq!(of("/etcd/x", &[b"[::1]:8000"]), "http://[::1]:8000/etcd");
        // What HTTP/2 and a proxy's clients send; the header does not count then.
        assert_eq!(of("https://a.example/etcd", &[b"b.example"]), "http://a.example/etcd");
        let head = head("/", &[b"backup"]);
        assert_eq!(base(&head, true, None, "/"), "https://backup");
        assert_eq!(base(&head, true, None, "/a b/\u{e9}"), "https://backup/a%20b/%C3%A9");
    }

    #[test]
    fn without_a_host_there_is_no_base() {
        let wrong: [&[&[u8]]; 8] = [
            &[],
            &[b""],
            &[b"a", b"b"],
            &[b"user@host"],
            &[b"a b"],
            &[b":80"],
            &[b"host/evil"],
            &[b"caf\xe9"],
        ];
        for hosts in wrong {
            assert_eq!(of("/etcd", hosts), "", "{hosts:?}");
        }
        let public = "https://backup.example.org/".parse().unwrap();
        let base = base(&head("/etcd", &[]), false, Some(&public), "/etcd");
        assert_eq!(base, "https://backup.example.org/etcd");
    }

    #[test]
    fn public_urls_are_addresses_and_nothing_else() {
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

    #[test]
    fn no_two_requests_have_the_same_name() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| next_id()).collect();
        assert_eq!(ids.len(), 1000);
    }
}

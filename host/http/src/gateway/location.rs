//! The URL of a mount as the client reached it, and the request's target. Headers set by proxies are
//! not trusted here: behind a proxy, operators configure a public URL.

use http::uri::{Authority, Uri};
use http::{HeaderMap, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::public_url::{PublicUrl, is_host};

/// Characters that must be encoded in a segment of a path (RFC 3986).
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
    // The separator of segments.
    .remove(b'/');

/// The URL of the mount as the client reaches it; empty if unknown.
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

/// The host by which the client addresses this server. HTTP/2 and absolute targets name it in the
/// target. `None` if it is missing, ambiguous or invalid.
fn authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    if let Some(authority) = uri.authority() {
        return Some(authority.clone()).filter(is_host);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
    Authority::try_from(host.as_bytes()).ok().filter(is_host)
}

/// Path and query as the client sent them.
pub(super) fn target(uri: &Uri) -> String {
    uri.path_and_query().map_or("/", |target| target.as_str()).to_owned()
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
        base(&head(target, hosts), false, None, "/apps")
    }

    #[test]
    fn the_base_names_the_host_that_the_client_addressed() {
        assert_eq!(of("/apps/x?y", &[b"backup:8000"]), "http://backup:8000/apps");
        assert_eq!(of("/apps/x", &[b"[::1]:8000"]), "http://[::1]:8000/apps");
        // HTTP/2 and clients of proxies send absolute targets; the header does not count then.
        assert_eq!(of("https://a.example/apps", &[b"b.example"]), "http://a.example/apps");
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
            assert_eq!(of("/apps", hosts), "", "{hosts:?}");
        }
        let public = "https://backup.example.org/".parse().unwrap();
        let base = base(&head("/apps", &[]), false, Some(&public), "/apps");
        assert_eq!(base, "https://backup.example.org/apps");
    }
}

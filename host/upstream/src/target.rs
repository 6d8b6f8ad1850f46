//! Where one request goes, and whether the operator allows it. What cannot be read in one way only is refused, not put
//! right.

use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri};

use crate::UpstreamError;
use crate::dial::{Allowed, Dialer, Peer, Resolve};
use crate::options::{Address, Destination, OptionsError};
use crate::path::{self, PathRule};
use crate::tls::Tls;
use crate::url::Url;

/// Where the requests of an upstream go.
#[derive(Debug)]
pub(crate) enum Route {
    /// To one place.
    One {
        scheme: Scheme,
        /// What requests call the host.
        authority: Authority,
        /// Before the path of each request; without a slash at its end.
        base: String,
    },
    /// Wherever a request says, within these.
    Listed(Vec<Listed>),
}

/// URLs that clients may name.
#[derive(Debug)]
pub(crate) struct Listed {
    prefix: Url,
    rule: PathRule,
    private: bool,
}

/// Where one request goes.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    /// Where to connect, if that is this request's alone.
    pub(crate) own: Option<(Url, Allowed)>,
}

impl Route {
    /// Reads where an upstream is.
    pub(crate) fn new(destination: &Destination) -> Result<Self, OptionsError> {
        match destination {
            Destination::Url { url, host } => {
                let parsed =
                    Url::parse(url).map_err(|what| OptionsError(format!("url: {what}")))?;
                if parsed.target.contains('?') {
                    return Err(OptionsError("url: has a query; leave it out".to_owned()));
                }
                path::check_target(&parsed.target)
                    .map_err(|what| OptionsError(format!("url: {what}")))?;
                let scheme = if parsed.encrypted { Scheme::HTTPS } else { Scheme::HTTP };
                let authority = host.clone().unwrap_or_else(|| parsed.authority());
                let base = parsed.target.trim_end_matches('/').to_owned();
                Ok(Self::One { scheme, authority: read_host(&authority)?, base })
            }
            Destination::Socket { host, .. } => {
                let host = host.as_deref().unwrap_or("localhost");
                let (scheme, base) = (Scheme::HTTP, String::new());
                Ok(Self::One { scheme, authority: read_host(host)?, base })
            }
            Destination::Addresses(addresses) => {
                addresses.iter().map(Listed::new).collect::<Result<_, _>>().map(Self::Listed)
            }
        }
    }

    /// Where a request goes, if the URL may be named or the path is in `rules`.
    pub(crate) fn resolve(
        &self,
        target: &str,
        rules: &[PathRule],
    ) -> Result<Target, UpstreamError> {
        match self {
            Self::One { scheme, authority, base } => {
                let segments = path::check_target(target).map_err(UpstreamError::Invalid)?;
                if !rules.is_empty() && !rules.iter().any(|rule| rule.allows(&segments)) {
                    let what = "the operator does not allow this path".to_owned();
                    return Err(UpstreamError::Denied(what));
                }
                let uri = uri(scheme, authority, &format!("{base}{target}"))?;
                Ok(Target { uri, own: None })
            }
            Self::Listed(listed) => {
                let url = Url::parse(target)
                    .map_err(|what| UpstreamError::Invalid(format!("the URL {what}")))?;
                let segments = path::check_target(&url.target).map_err(UpstreamError::Invalid)?;
                let mut matching =
                    listed.iter().filter(|one| one.allows(&url, &segments)).peekable();
                if matching.peek().is_none() {
                    let what =
                        "the operator's list of addresses has none with which this URL begins";
                    return Err(UpstreamError::Denied(what.to_owned()));
                }
                let private = matching.any(|one| one.private);
                let scheme = if url.encrypted { Scheme::HTTPS } else { Scheme::HTTP };
                let authority = read_host(&url.authority());
                let authority = authority.map_err(|error| UpstreamError::Invalid(error.0))?;
                let uri = uri(&scheme, &authority, &url.target)?;
                Ok(Target { uri, own: Some((url, Allowed::Named { private })) })
            }
        }
    }
}

impl Listed {
    fn new(address: &Address) -> Result<Self, OptionsError> {
        let Address { prefix, private } = address;
        let wrong = |what: String| OptionsError(format!("address {prefix:?}: {what}"));
        let url = Url::parse(prefix).map_err(|what| {
            // What it quotes may be a secret.
            OptionsError(format!("an address in the list {what}"))
        })?;
        if url.target.contains('?') {
            return Err(wrong("has a query; leave it out".to_owned()));
        }
        let rule = PathRule::parse(&url.target).map_err(wrong)?;
        Ok(Self { prefix: url, rule, private: *private })
    }

    fn allows(&self, url: &Url, segments: &[Vec<u8>]) -> bool {
        self.prefix.is_same_origin(url) && self.rule.allows(segments)
    }
}

fn read_host(text: &str) -> Result<Authority, OptionsError> {
    let wrong =
        || OptionsError(format!("host {text:?}: expected a host name, with a port if it has one"));
    let authority: Authority = text.parse().map_err(|_| wrong())?;
    if text.contains('@') || authority.host().is_empty() { Err(wrong()) } else { Ok(authority) }
}

fn uri(scheme: &Scheme, authority: &Authority, target: &str) -> Result<Uri, UpstreamError> {
    let no = |_| UpstreamError::Invalid("the path or the query is not that of a URL".to_owned());
    let target: PathAndQuery = target.parse().map_err(no)?;
    let parts = Uri::builder().scheme(scheme.clone()).authority(authority.clone());
    parts.path_and_query(target).build().map_err(|error| UpstreamError::Invalid(error.to_string()))
}

/// The dialer for one place.
pub(crate) fn dialer(
    destination: &Destination,
    tls: &Arc<Tls>,
    timeout: Duration,
    resolver: &Arc<dyn Resolve>,
) -> Result<Option<Dialer>, OptionsError> {
    let peer = match destination {
        Destination::Url { url, .. } => {
            let url = Url::parse(url).map_err(|what| OptionsError(format!("url: {what}")))?;
            to(url, Allowed::Any, tls)
        }
        Destination::Socket { path, .. } => Peer::Socket(path.clone()),
        Destination::Addresses(_) => return Ok(None),
    };
    Ok(Some(Dialer { peer, timeout, resolver: Arc::clone(resolver) }))
}

/// Where to connect for a URL.
pub(crate) fn to(url: Url, allowed: Allowed, tls: &Arc<Tls>) -> Peer {
    let tls = url.encrypted.then(|| Arc::clone(tls));
    Peer::Tcp { host: url.host, port: url.port, tls, allowed }
}

/// Reads the methods that an operator allows.
pub(crate) fn methods(texts: &[String]) -> Result<Vec<Method>, OptionsError> {
    let read = |text: &String| {
        let method = Method::from_bytes(text.as_bytes()).ok();
        let upper = text.bytes().all(|byte| byte.is_ascii_uppercase());
        // A tunnel and an echo of secrets.
        let method =
            method.filter(|method| upper && ![Method::CONNECT, Method::TRACE].contains(method));
        let wrong = || {
            format!(
                "method {text:?}: expected one such as \"GET\"; CONNECT and TRACE are never sent"
            )
        };
        method.ok_or_else(|| OptionsError(wrong()))
    };
    texts.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(prefixes: &[&str]) -> Route {
        let address = |prefix: &&str| Address { prefix: (*prefix).to_owned(), private: false };
        Route::new(&Destination::Addresses(prefixes.iter().map(address).collect())).unwrap()
    }

    #[test]
    fn a_url_has_to_begin_with_an_address_in_the_list() {
        let route = listed(&["https://Hooks.example/a/b", "http://other.example:8080"]);
        for url in [
            "https://hooks.example/a/b",
            "https://HOOKS.example.:443/a/b/c?d",
            "https://hooks.example/a/%62/",
            "http://other.example:8080/anything",
            "http://other.example:8080?x",
        ] {
            assert!(route.resolve(url, &[]).is_ok(), "{url}");
        }
        for url in [
            "http://hooks.example/a/b",
            "https://hooks.example:8443/a/b",
            "https://hooks.example/a/bc",
            "https://hooks.example/a",
            "https://hooks.example.evil.example/a/b",
            "https://xhooks.example/a/b",
            "http://other.example/",
            "http://other.example:80801/",
        ] {
            let error = route.resolve(url, &[]).map(|target| target.uri).unwrap_err();
            let denied = matches!(error, UpstreamError::Denied(_));
            assert!(denied || url.contains("80801"), "{url}: {error}");
        }
        for url in [
            "https://hooks.example/a/b/../c",
            "https://hooks.example/a/b/%2e%2e/c",
            "https://hooks.example//a/b",
            "https://hooks.example@evil.example/a/b",
            "https://evil.example\\@hooks.example/a/b",
            "/a/b",
        ] {
            let error = route.resolve(url, &[]).map(|target| target.uri).unwrap_err();
            assert!(matches!(error, UpstreamError::Invalid(_)), "{url}: {error}");
        }
        let empty = listed(&[]).resolve("https://hooks.example/a/b", &[]).unwrap_err();
        assert!(matches!(empty, UpstreamError::Denied(_)));
    }

    #[test]
    fn a_path_is_put_below_the_upstreams_own() {
        let url = |url: &str, host: Option<&str>| {
            let host = host.map(str::to_owned);
            Route::new(&Destination::Url { url: url.to_owned(), host })
        };
        let at = |route: &Route, target: &str| route.resolve(target, &[]).unwrap().uri.to_string();
        let route = url("https://h:8443/base/", None).unwrap();
        assert_eq!(at(&route, "/1.0?x=y"), "https://h:8443/base/1.0?x=y");
        assert_eq!(at(&url("https://h", Some("lxd")).unwrap(), "/"), "https://lxd/");
        let rules = [PathRule::parse("/1.0").unwrap()];
        assert!(route.resolve("/1.0/x", &rules).is_ok());
        assert!(matches!(route.resolve("/2.0", &rules), Err(UpstreamError::Denied(_))));
        assert!(matches!(route.resolve("/1.0/../2.0", &rules), Err(UpstreamError::Invalid(_))));
        for (bad, why) in [
            ("https://h/?x", "query"),
            ("https://u:p@h/", "credentials"),
            ("ftp://h/", "http://"),
            ("https://h/a/../b", "`..`"),
        ] {
            assert!(url(bad, None).unwrap_err().0.contains(why), "{bad}");
        }
        assert!(url("https://h/", Some("a@b")).is_err() && url("https://h/", Some("")).is_err());
    }

    #[test]
    fn methods_are_in_upper_case_and_no_tunnels() {
        assert_eq!(methods(&["GET".to_owned(), "PURGE".to_owned()]).unwrap().len(), 2);
        for text in ["get", "", "A B", "CONNECT", "TRACE"] {
            assert!(methods(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}

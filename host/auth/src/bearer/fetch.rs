//! Gets an issuer's keys over HTTP: from a URL, or from where the issuer's own description of itself says (OpenID
//! Connect Discovery 1.0).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use keepgate_upstream::{
    Destination, Exchanges as _, Fields, Request, Timeouts, TlsFiles, Upstream, UpstreamError,
    UpstreamOptions, Wishes,
};
use serde::Deserialize;

/// The longest document that is read, in bytes.
const LONGEST: u64 = 1024 * 1024;
/// For each step of a request.
const STEP: Duration = Duration::from_secs(5);
/// For everything, so that an issuer that sends a byte now and then holds up nobody.
const TOTAL: Duration = Duration::from_secs(15);
/// Where an issuer describes itself, below its name.
const DESCRIPTION: &str = "/.well-known/openid-configuration";

/// A set of keys as an issuer publishes it.
pub(super) struct Fetched {
    pub(super) text: Bytes,
    /// How long the issuer wants it to be kept, if it says so.
    pub(super) max_age: Option<Duration>,
}

/// Where the keys of an issuer are on the network.
pub(super) struct Remote {
    /// The name of the table in the configuration.
    name: String,
    ca: Option<PathBuf>,
    first: Arc<Link>,
    /// The issuer, if `first` is its description.
    issuer: Option<String>,
    /// The keys, where the description says. Kept for its connection.
    described: Mutex<Option<Arc<Link>>>,
}

#[derive(Deserialize)]
struct Description {
    issuer: String,
    jwks_uri: String,
}

impl Remote {
    /// Keys at a URL. Blocks, because it reads `ca`.
    pub(super) fn at(name: &str, url: &str, ca: Option<PathBuf>) -> Result<Self, String> {
        let first = Link::new(name, url, ca.clone())?;
        Self::new(name, first, None, ca)
    }

    /// Keys wherever an issuer says. Blocks, because it reads `ca`.
    pub(super) fn of(name: &str, issuer: &str, ca: Option<PathBuf>) -> Result<Self, String> {
        let first = Link::new(name, &description_of(issuer), ca.clone())?;
        Self::new(name, first, Some(issuer.to_owned()), ca)
    }

    fn new(
        name: &str,
        first: Link,
        issuer: Option<String>,
        ca: Option<PathBuf>,
    ) -> Result<Self, String> {
        let described = Mutex::default();
        Ok(Self { name: name.to_owned(), ca, first: Arc::new(first), issuer, described })
    }

    /// Asks for the keys.
    pub(super) async fn fetch(&self) -> Result<Fetched, String> {
        let fetched = tokio::time::timeout(TOTAL, self.ask()).await;
        fetched.unwrap_or_else(|_| {
            Err(format!("{}: no whole answer within {TOTAL:?}", self.first.url))
        })
    }

    async fn ask(&self) -> Result<Fetched, String> {
        match &self.issuer {
            None => self.first.get().await,
            Some(issuer) => self.link_of(issuer).await?.get().await,
        }
    }

    /// Where the issuer says that its keys are.
    async fn link_of(&self, issuer: &str) -> Result<Arc<Link>, String> {
        let url = &self.first.url;
        let text = self.first.get().await?.text;
        let description = serde_json::from_slice::<Description>(&text);
        let Description { issuer: said, jwks_uri } = description
            .map_err(|error| format!("{url}: not the description of an issuer: {error}"))?;
        if said != issuer {
            return Err(format!(
                "{url}: it describes the issuer {said:?}; write exactly that as `issuer`, if it is the right one"
            ));
        }
        if url.starts_with("https:") && !jwks_uri.starts_with("https:") {
            return Err(format!("{url}: `jwks_uri` is {jwks_uri:?}; expected https://"));
        }
        let known = || self.described.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = known().as_ref().filter(|link| link.url == jwks_uri) {
            return Ok(Arc::clone(link));
        }
        let (name, ca, target) = (self.name.clone(), self.ca.clone(), jwks_uri.clone());
        let opened = tokio::task::spawn_blocking(move || Link::new(&name, &target, ca)).await;
        let opened = opened.unwrap_or_else(|error| Err(error.to_string()));
        let link = opened.map_err(|why| format!("{url}: `jwks_uri` is {jwks_uri:?}: {why}"))?;
        let link = Arc::new(link);
        *known() = Some(Arc::clone(&link));
        Ok(link)
    }
}

/// Where an issuer describes itself.
pub(super) fn description_of(issuer: &str) -> String {
    format!("{}{DESCRIPTION}", issuer.trim_end_matches('/'))
}

/// One document.
struct Link {
    url: String,
    upstream: Upstream,
    target: String,
}

impl Link {
    fn new(name: &str, url: &str, ca: Option<PathBuf>) -> Result<Self, String> {
        let (options, target) = options(name, url, ca)?;
        let upstream = Upstream::new(options).map_err(|error| error.to_string())?;
        upstream.check("GET", &target).map_err(|error| error.to_string())?;
        Ok(Self { url: url.to_owned(), upstream, target })
    }

    async fn get(&self) -> Result<Fetched, String> {
        let url = &self.url;
        let headers = vec![("accept".to_owned(), "application/json".to_owned())];
        let (method, target) = ("GET".to_owned(), self.target.clone());
        let request = Request { method, target, headers, body: None, wishes: Wishes::default() };
        let response = self.upstream.send(request).await.map_err(|error| self.reason(&error))?;
        match response.status {
            200 => {}
            status @ 300..400 => {
                return Err(format!(
                    "{url}: it answers {status} and leads elsewhere; write where to"
                ));
            }
            status => return Err(format!("{url}: it answers {status}")),
        }
        let max_age = max_age(&response.headers);
        let text = response.body.collect(LONGEST).await;
        let text = text.map_err(|error| format!("{url}: {error}"))?;
        Ok(Fetched { text, max_age })
    }

    /// Why there is no response. What the error itself says is meant for plugins, and names no address.
    fn reason(&self, error: &UpstreamError) -> String {
        let why = match error {
            UpstreamError::Unavailable(_) => self.upstream.status().failing,
            _ => None,
        };
        format!("{}: {}", self.url, why.unwrap_or_else(|| error.to_string()))
    }
}

/// Checks a URL without reading a file.
pub(super) fn check(url: &str, ca: Option<PathBuf>) -> Result<(), String> {
    let (options, _) = options("", url, ca)?;
    Upstream::check(&options).map_err(|error| error.to_string())
}

/// How to connect, and what to ask for there.
fn options(
    name: &str,
    url: &str,
    ca: Option<PathBuf>,
) -> Result<(UpstreamOptions, String), String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url:?} is not a URL: {error}"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("{url:?} is not a URL; expected https://"));
    };
    if scheme != "https" && !(scheme == "http" && is_this_machine(authority.host())) {
        return Err(format!(
            "{url:?}: expected https://, because whoever can change the keys on their way can make tokens; http:// is \
             accepted for this machine only, such as http://127.0.0.1"
        ));
    }
    let url = format!("{scheme}://{authority}");
    let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let mut options =
        UpstreamOptions::new(format!("auth.{name}"), Destination::Url { url, host: None });
    options.tls = TlsFiles { ca, ..TlsFiles::default() };
    options.methods = vec!["GET".to_owned()];
    options.timeouts = Timeouts { connect: STEP, answer: STEP, silence: STEP, turn: STEP };
    options.limits.body = Some(LONGEST);
    Ok((options, target))
}

fn is_this_machine(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// For how long a response may be kept.
fn max_age(headers: &Fields) -> Option<Duration> {
    let values = headers.iter().filter(|(name, _)| name == "cache-control");
    let directives = values.flat_map(|(_, value)| value.split(','));
    let ages = directives.filter_map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "max-age" => value.trim().trim_matches('"').parse().ok().map(Duration::from_secs),
            "no-cache" | "no-store" => Some(Duration::ZERO),
            _ => None,
        }
    });
    ages.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for good in [
            "https://login.example.org/realms/x/certs?y=z",
            "https://login.example.org",
            "http://127.0.0.1:8080/keys",
            "http://[::1]:8080/keys",
            "http://localhost/keys",
        ] {
            assert_eq!(check(good, None), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("http://login.example.org/keys", "expected https://"),
            ("http://127.0.0.1.example.org/keys", "expected https://"),
            ("http://localhost@login.example.org/", "expected https://"),
            ("ftp://localhost/", "expected https://"),
            ("https://user:secret@login.example.org/", "contains credentials"),
            ("login.example.org/keys", "is not a URL"),
            ("/keys", "is not a URL"),
            ("", "is not a URL"),
        ] {
            let said = check(bad, None).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
        let said = check("http://127.0.0.1/", Some("ca.pem".into())).unwrap_err();
        assert!(said.contains("not https://"), "{said}");
    }

    #[test]
    fn an_issuer_describes_itself_below_its_name() {
        for issuer in ["https://login.example.org/realms/x", "https://login.example.org/realms/x/"]
        {
            let expected = "https://login.example.org/realms/x/.well-known/openid-configuration";
            assert_eq!(description_of(issuer), expected);
        }
    }

    #[test]
    fn the_shortest_time_counts() {
        let age = |value: &str| max_age(&vec![("cache-control".to_owned(), value.to_owned())]);
        assert_eq!(age("public, max-age=300, must-revalidate"), Some(Duration::from_secs(300)));
        assert_eq!(age("Max-Age=\"60\""), Some(Duration::from_secs(60)));
        assert_eq!(age("max-age=60, no-store"), Some(Duration::ZERO));
        assert_eq!(age("no-cache"), Some(Duration::ZERO));
        assert_eq!(age("max-age=soon"), None);
        assert_eq!(age("public"), None);
        assert_eq!(max_age(&Vec::new()), None);
    }
}

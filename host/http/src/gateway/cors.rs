//! Cross-origin requests from browsers (CORS), as the Fetch standard defines them: which origins may use a mount, the
//! answer to preflights, and the headers that let a script read a response.
//!
//! Browsers send preflights without credentials, so the host answers them before authentication. This gives no access:
//! CORS restricts browsers alone, and `keepgate-auth` decides who may use a mount for the request that follows.
//!
//! `tower_http::cors` does not fit: it answers every `OPTIONS` itself, including those that a surface defines, replaces
//! headers that a plugin has set, and adds some of its own for origins that are not allowed.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use url::Url;

use crate::response_body::ResponseBody;

const ANY: &str = "*";

/// Seconds for which a browser may remember the answer to a preflight: few, because an origin that is taken off the
/// list counts as allowed for as long.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// What scripts may read besides the headers that Fetch lets them read anyway.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "ETag, Content-Range, Accept-Ranges, Location, Link, Retry-After, Content-Disposition, Upload-Offset, \
     Upload-Complete, Upload-Length",
);

const PREFLIGHT_VARY: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);

/// The origins whose scripts may use a mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Cors(Origins);

#[derive(Debug, PartialEq, Eq)]
enum Origins {
    Any,
    /// As browsers send them.
    Listed(Vec<HeaderValue>),
}

/// Why a list of origins cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorsError {
    /// Nothing is listed.
    #[error("no origin is listed; list origins such as \"https://app.example.org\", or [\"*\"]")]
    Empty,
    /// `*` stands beside others.
    #[error("\"*\" allows any origin; remove it or the others")]
    AnyAndOthers,
    /// For example `https://*.example.org`.
    #[error("{0:?} is a pattern, which is not supported; list each origin")]
    Pattern(String),
    /// For example a host without a scheme.
    #[error(
        "expected an origin such as \"https://app.example.org\" or \"http://localhost:3000\", or \"*\" alone, \
         found {0:?}"
    )]
    NotAnOrigin(String),
    /// Browsers send the origin in another form, so this one would never match.
    #[error("{text:?} never matches, because browsers send this origin as {sent:?}; write that")]
    Spelling {
        /// What was given.
        text: String,
        /// What browsers send.
        sent: String,
    },
}

impl Cors {
    /// Allows these origins, each written as `scheme://host` or `scheme://host:port`; or any origin, for `*` alone.
    ///
    /// # Errors
    ///
    /// Fails if the list is empty or has anything else in it.
    pub fn new<'a>(origins: impl IntoIterator<Item = &'a str>) -> Result<Self, CorsError> {
        let texts: Vec<&str> = origins.into_iter().collect();
        match texts.as_slice() {
            [] => Err(CorsError::Empty),
            [ANY] => Ok(Self(Origins::Any)),
            texts if texts.contains(&ANY) => Err(CorsError::AnyAndOthers),
            texts => {
                let origins = texts.iter().map(|text| origin(text)).collect::<Result<_, _>>()?;
                Ok(Self(Origins::Listed(origins)))
            }
        }
    }

    /// The answer to a preflight from an allowed origin; `None` if the request is anything else.
    pub(super) fn preflight(&self, head: &http::request::Parts) -> Option<Response<ResponseBody>> {
        let is_options = head.method == Method::OPTIONS;
        let method =
            head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).filter(|_| is_options)?;
        let mut headers = self.allowance(&head.headers)?;
        if Method::from_bytes(method.as_bytes()).is_ok() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        }
        let names = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        if let Some(names) = names.filter(|names| are_header_names(names)) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        headers.insert(header::VARY, PREFLIGHT_VARY);
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        *response.headers_mut() = headers;
        Some(response)
    }

    /// Lets the script that sent a request read the response, if its origin is allowed.
    pub(super) fn apply(&self, request: &HeaderMap, response: &mut HeaderMap) {
        if !varies_by_origin(response) {
            response.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        // A plugin that sets some of these headers has a policy of its own. A mixture would be neither policy.
        if response.keys().any(|name| name.as_str().starts_with("access-control-")) {
            return;
        }
        if let Some(allowance) = self.allowance(request) {
            response.extend(allowance);
            response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }

    /// The headers that allow the origin of a request; `None` if it is not allowed, or the request has none.
    fn allowance(&self, request: &HeaderMap) -> Option<HeaderMap> {
        let origin = request.get(header::ORIGIN)?;
        let mut headers = HeaderMap::new();
        match &self.0 {
            // Fetch forbids credentials here.
            Origins::Any => {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static(ANY));
            }
            Origins::Listed(origins) => {
                let allowed = origins.iter().find(|allowed| *allowed == origin)?;
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed.clone());
                let credentials = HeaderValue::from_static("true");
                headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
            }
        }
        Some(headers)
    }
}

/// An origin of the configuration, if it is written as browsers send it.
fn origin(text: &str) -> Result<HeaderValue, CorsError> {
    if text.contains('*') {
        return Err(CorsError::Pattern(text.to_owned()));
    }
    let not_an_origin = || CorsError::NotAnOrigin(text.to_owned());
    let sent = serialize(text).ok_or_else(not_an_origin)?;
    if sent != text {
        return Err(CorsError::Spelling { text: text.to_owned(), sent });
    }
    HeaderValue::try_from(sent).map_err(|_| not_an_origin())
}

/// The origin of a URL as browsers send it: in lower case, with international names in ASCII, and without the
/// scheme's default port. `Url::origin` is not used because it knows only the schemes of the web, and applications in
/// a shell have others (`capacitor://localhost`).
fn serialize(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{host}{port}", url.scheme()))
}

/// Whether a value is a list of header names and nothing else, so that it may be sent back.
fn are_header_names(value: &HeaderValue) -> bool {
    let mut names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    names.all(|name| HeaderName::from_bytes(name).is_ok())
}

/// Whether caches already know that a response depends on the origin.
fn varies_by_origin(response: &HeaderMap) -> bool {
    let values = response.get_all(header::VARY).into_iter();
    let mut names =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.any(|name| name.trim() == ANY || name.trim().eq_ignore_ascii_case("origin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_accepted_only_as_browsers_send_them() {
        for text in [
            "https://app.example.org",
            "http://localhost:3000",
            "http://[::1]:8080",
            "https://xn--bcher-kva.example",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
            "*",
        ] {
            assert!(Cors::new([text]).is_ok(), "{text}");
        }
        for (text, expected) in [
            ("https://app.example.org/", "https://app.example.org"),
            ("https://app.example.org/path?q", "https://app.example.org"),
            ("https://App.Example.org", "https://app.example.org"),
            ("https://app.example.org:443", "https://app.example.org"),
            ("http://app.example.org:080", "http://app.example.org"),
            ("https://user@app.example.org", "https://app.example.org"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            (" https://app.example.org", "https://app.example.org"),
        ] {
            let (text, sent) = (text.to_owned(), expected.to_owned());
            let error = Cors::new([text.as_str()]).unwrap_err();
            assert_eq!(error, CorsError::Spelling { text, sent });
        }
        for text in ["", "null", "app.example.org", "localhost:3000", "https://", "file:///", "//x"]
        {
            let error = Cors::new([text]).unwrap_err();
            assert_eq!(error, CorsError::NotAnOrigin(text.to_owned()));
        }
        let pattern = "https://*.example.org";
        assert_eq!(Cors::new([pattern]).unwrap_err(), CorsError::Pattern(pattern.to_owned()));
    }

    #[test]
    fn any_origin_is_allowed_only_alone() {
        assert_eq!(Cors::new([]).unwrap_err(), CorsError::Empty);
        let both = ["https://app.example.org", "*"];
        assert_eq!(Cors::new(both).unwrap_err(), CorsError::AnyAndOthers);
    }

    #[test]
    fn a_response_names_the_origin_once_among_what_it_depends_on() {
        let cors = Cors::new(["*"]).unwrap();
        for (before, after) in [
            (vec![], vec!["Origin"]),
            (vec!["Accept"], vec!["Accept", "Origin"]),
            (vec!["Accept, origin"], vec!["Accept, origin"]),
            (vec!["Accept", "Origin"], vec!["Accept", "Origin"]),
            (vec!["*"], vec!["*"]),
        ] {
            let mut response = HeaderMap::new();
            for value in before {
                response.append(header::VARY, HeaderValue::from_static(value));
            }
            cors.apply(&HeaderMap::new(), &mut response);
            let found: Vec<_> = response.get_all(header::VARY).iter().collect();
            assert_eq!(found, after);
            assert_eq!(response.keys_len(), 1);
        }
    }
}

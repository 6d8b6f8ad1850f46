//! Validates endpoints: `http://` or `https://`, a host, a port. Anything else is refused when the
//! configuration is read, not when the first backup is due at night.

use std::fmt;

use http::Uri;
use http::uri::Scheme;

/// An endpoint without a path and without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    uri: Uri,
    host: String,
}

impl Url {
    /// Parses an endpoint, or says what is wrong with it without repeating credentials.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("the endpoint {:?} {what}", shown(text)));
        if text.contains('@') {
            return wrong("contains credentials: write user and password beside the endpoints");
        }
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return wrong("must begin with http:// or https://");
        }
        let Ok(uri) = text.parse::<Uri>() else {
            return wrong("is not a URL");
        };
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return wrong("is not a URL");
        };
        if authority.host().is_empty() {
            return wrong("has no host");
        }
        if authority.as_str() != authority.host()
            && authority.port_u16().is_none_or(|port| port == 0)
        {
            return wrong("has an invalid port");
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return wrong("must end after host and port");
        }
        let host = authority.host().to_owned();
        let built = Uri::builder()
            .scheme(scheme.clone())
            .authority(authority.clone())
            .path_and_query("/")
            .build();
        match built {
            Ok(uri) => Ok(Self { uri, host }),
            Err(_) => wrong("is not a URL"),
        }
    }

    /// Whether the connection is encrypted.
    pub(super) fn is_tls(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// Host name or address.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether this text denotes the same endpoint.
    pub(super) fn is(&self, text: &str) -> bool {
        Self::parse(text).is_ok_and(|other| other == *self)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        write!(f, "{scheme}://{authority}")
    }
}

/// The text without anything before an `@`.
fn shown(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    match before.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://...@{host}"),
        None => format!("...@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn an_endpoint_is_shown_as_it_is_compared() {
        for text in ["http://10.0.0.1:2379", "http://10.0.0.1:2379/"] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.to_string(), "http://10.0.0.1:2379");
            assert!(url.is("http://10.0.0.1:2379") && url.is("http://10.0.0.1:2379/"));
            assert!(!url.is("https://10.0.0.1:2379") && !url.is("http://10.0.0.1:2380"));
            assert!(!url.is_tls());
        }
        let url = Url::parse("https://[::1]:2379").unwrap();
        assert!(url.is_tls());
        assert_eq!((url.host(), url.to_string().as_str()), ("[::1]", "https://[::1]:2379"));
        assert_eq!(Url::parse("https://etcd.example").unwrap().to_string(), "https://etcd.example");
    }

    #[test]
    fn invalid_endpoints_are_refused_with_the_reason() {
        for (text, reason) in [
            ("10.0.0.1:2379", "must begin with http://"),
            ("unix:///run/etcd", "must begin with http://"),
            ("http://", "is not a URL"),
            ("http://:2379", "has no host"),
            ("http://host:", "has an invalid port"),
            ("http://host:0", "has an invalid port"),
            ("http://host:99999", ""),
            ("http://host:2379/v3", "must end after host and port"),
            ("http://host:2379?x", "must end after host and port"),
            ("http://ho st:2379", "is not a URL"),
        ] {
            let refused = Url::parse(text).unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
            assert!(refused.contains(text), "{text}: {refused}");
        }
    }

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        for text in
            ["https://root:hunter2@host:2379", "root:hunter2@host", "http://a@root:hunter2@h"]
        {
            let refused = Url::parse(text).unwrap_err();
            assert!(refused.contains("credentials"), "{refused}");
            assert!(!refused.contains("hunter2") && !refused.contains("root"), "{refused}");
        }
    }
}

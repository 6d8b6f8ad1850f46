//! Who may come in to a mount. Nobody does without a configured way in; that everybody may is
//! said with [`Access::Open`].

mod proxy_header;

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use keepgate_core::Principal;

use crate::htpasswd::{Htpasswd, Verdict};

use proxy_header::Said;
pub use proxy_header::{ProxyHeader, ProxyHeaderError};

/// Why a login by name and password fails, for the log.
const WRONG_PASSWORD: &str = "unknown user or wrong password";

/// What a client that has not said who it is, or not rightly, is asked for.
pub(crate) const BASIC_CHALLENGE: HeaderValue =
    HeaderValue::from_static(r#"Basic realm="keepgate", charset="UTF-8""#);

/// Padding is often left out by hand-written clients.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The way in to a mount.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everybody comes in, as nobody in particular.
    Open,
    /// Who one of these methods knows comes in; they are asked in order. An empty list lets
    /// nobody in.
    Methods(Vec<Method>),
}

/// A way of knowing who asks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Method {
    /// Name and password by HTTP Basic, checked against a file.
    Htpasswd(Arc<Htpasswd>),
    /// The user's name, in a header that a proxy in front sets. `Authorization` is not looked at.
    ProxyHeader(ProxyHeader),
}

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Come in; none on an open mount.
    Admitted(Option<Principal>),
    /// No credentials that a method of the mount looks at.
    Anonymous,
    /// Credentials, but wrong ones.
    Rejected {
        /// As who; for the log.
        user: String,
        /// For the log.
        why: &'static str,
    },
    /// Too many passwords are being checked just now.
    Busy,
}

impl Access {
    /// True where clients are to be asked for a name and password.
    pub(crate) fn uses_basic(&self) -> bool {
        match self {
            Self::Open => false,
            Self::Methods(methods) => {
                methods.iter().any(|method| matches!(method, Method::Htpasswd(_)))
            }
        }
    }

    /// Asks each method in turn until one knows who this is.
    pub(crate) async fn admit(&self, headers: &HeaderMap, from: Option<IpAddr>) -> Decision {
        let methods = match self {
            Self::Open => return Decision::Admitted(None),
            Self::Methods(methods) => methods,
        };
        let mut decision = Decision::Anonymous;
        for method in methods {
            match method.admit(headers, from).await {
                ControlFlow::Break(decision) => return decision,
                ControlFlow::Continue(Decision::Anonymous) => {}
                ControlFlow::Continue(other) => decision = other,
            }
        }
        decision
    }

    /// Headers that are between a proxy and this server, and nobody else's business.
    pub(crate) fn withheld(&self) -> impl Iterator<Item = &HeaderName> {
        let methods = match self {
            Self::Open => [].as_slice(),
            Self::Methods(methods) => methods,
        };
        methods.iter().filter_map(|method| match method {
            Method::ProxyHeader(header) => Some(header.header()),
            Method::Htpasswd(_) => None,
        })
    }
}

impl Method {
    /// What this method makes of a request. After `Break` no other one is asked.
    async fn admit(
        &self,
        headers: &HeaderMap,
        from: Option<IpAddr>,
    ) -> ControlFlow<Decision, Decision> {
        match self {
            Self::Htpasswd(file) => by_password(file, headers, from).await,
            Self::ProxyHeader(header) => by_header(header, headers, from),
        }
    }
}

async fn by_password(
    file: &Arc<Htpasswd>,
    headers: &HeaderMap,
    from: Option<IpAddr>,
) -> ControlFlow<Decision, Decision> {
    let Some((user, password)) = basic(headers) else {
        return ControlFlow::Continue(Decision::Anonymous);
    };
    let Ok(user) = String::from_utf8(user) else {
        let user = "(not UTF-8)".to_owned();
        return ControlFlow::Continue(Decision::Rejected { user, why: WRONG_PASSWORD });
    };
    match file.verify(&user, &password, from).await {
        Verdict::Accepted => ControlFlow::Break(admitted(user, "htpasswd")),
        Verdict::Rejected => {
            ControlFlow::Continue(Decision::Rejected { user, why: WRONG_PASSWORD })
        }
        // Whether this method knows them is open. Asking the next one instead would let a user's
        // identity depend on the load.
        Verdict::Busy => ControlFlow::Break(Decision::Busy),
    }
}

fn by_header(
    header: &ProxyHeader,
    headers: &HeaderMap,
    from: Option<IpAddr>,
) -> ControlFlow<Decision, Decision> {
    match header.read(headers, from) {
        Said::User(user) => ControlFlow::Break(admitted(user, "proxy")),
        Said::Nothing => ControlFlow::Continue(Decision::Anonymous),
        Said::Unbelieved { user } => {
            let why = "a header with the user's name, but not from a proxy that is believed";
            ControlFlow::Continue(Decision::Rejected { user, why })
        }
        Said::Wrong { user, why } => ControlFlow::Break(Decision::Rejected { user, why }),
    }
}

fn admitted(name: String, method: &'static str) -> Decision {
    Decision::Admitted(Some(Principal { name, method: method.into(), claims: Vec::new() }))
}

/// User and password from `Authorization: Basic …`.
fn basic(headers: &HeaderMap) -> Option<(Vec<u8>, Vec<u8>)> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut user = BASE64.decode(rest.trim_ascii()).ok()?;
    let colon = user.iter().position(|byte| *byte == b':')?;
    let password = user.split_off(colon + 1);
    user.truncate(colon);
    Some((user, password))
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).unwrap();
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    #[test]
    fn reads_basic_credentials() {
        let expect = |value: &str, user: &str, password: &str| {
            let found = basic(&headers(value)).unwrap();
            assert_eq!(found, (user.into(), password.into()), "{value}");
        };
        expect("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin", "open sesame");
        expect("basic QWxhZGRpbjpvcGVuIHNlc2FtZQ", "Aladdin", "open sesame");
        expect("BASIC   YTpiOmM= ", "a", "b:c");
        expect("Basic Og==", "", "");
    }

    #[test]
    fn other_credentials_are_none() {
        for value in ["Bearer abc", "Basic", "Basic ", "Basic !!!", "Basic YWJj", "Basicc YTpi"] {
            assert_eq!(basic(&headers(value)), None, "{value}");
        }
        assert_eq!(basic(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn nobody_comes_in_without_a_way_in() {
        let credentials = headers("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let closed = Access::Methods(Vec::new());
        assert_eq!(closed.admit(&credentials, None).await, Decision::Anonymous);
        assert!(!closed.uses_basic());
        let open = Access::Open.admit(&credentials, None).await;
        assert_eq!(open, Decision::Admitted(None));
    }
}

//! Who may use a mount. Access must be configured: without a method nobody is admitted, and
//! [`Access::Open`] admits everybody.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderName, header};
use keepgate_core::Principal;

use crate::bearer::{self, Issuer};
use crate::certificate::{Certificates, PresentedCertificate};
use crate::challenge::{Challenges, TokenError};
use crate::htpasswd::{Htpasswd, Verdict};
use crate::proxy_header::{Claim, ProxyHeader};

/// Why a login with name and password fails, for the log.
const WRONG_PASSWORD: &str = "unknown user or wrong password";

/// Hand-written clients often omit the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The access rules of a mount.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everybody is admitted, without a principal.
    Open,
    /// Clients that one of these methods authenticates are admitted; methods are tried in order. An
    /// empty list admits nobody.
    Methods(Vec<Method>),
}

/// A way to authenticate clients. To add one, add a variant and its arm in `Method::admit`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Method {
    /// HTTP Basic, checked against a file of users.
    Htpasswd(Arc<Htpasswd>),
    /// The user's name in a header set by a proxy in front. `Authorization` is ignored.
    ProxyHeader(ProxyHeader),
    /// The certificate that the client presented in the handshake. What a proxy says about certificates is ignored.
    Certificates(Arc<Certificates>),
    /// A token of an issuer.
    Bearer(Arc<Issuer>),
    /// The plugin judges `Authorization` itself. Whoever no other method admits or refuses is admitted without a
    /// principal.
    Plugin,
}

/// What is known about the client of a request.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The headers of its request.
    pub headers: &'a HeaderMap,
    /// Its address, if it has one.
    pub address: Option<IpAddr>,
    /// The certificate that it presented when it connected.
    pub certificate: Option<&'a PresentedCertificate>,
}

/// The outcome of authentication.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Admitted; `None` on an open mount.
    Admitted(Option<Principal>),
    /// No credentials for any method of the mount.
    Anonymous,
    /// Invalid credentials: a name with the reason, for the log.
    Rejected {
        /// The claimed name.
        user: String,
        /// The reason.
        why: &'static str,
    },
    /// A certificate that is not accepted. Holds the reason, for the log.
    Distrusted(Cow<'static, str>),
    /// A token that is not valid.
    InvalidToken {
        /// Who it says to be; empty if that cannot be read.
        user: String,
        /// The reason, for the log.
        why: Cow<'static, str>,
    },
    /// A token that says to be of an issuer which is none of the mount's.
    ForeignToken {
        /// Which issuer.
        issuer: String,
    },
    /// A valid token, whose user gets no access.
    Denied {
        /// The user.
        user: String,
        /// The reason, for the log.
        why: String,
    },
    /// A token that cannot be verified, because the issuer's keys were never fetched, or too long ago.
    NoKeys,
    /// Too many passwords are being checked at the moment.
    Busy,
}

/// How clients without valid credentials are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// 401: they are asked for a name and password, or for a token.
    Challenged(Challenges),
    /// 401: there is nothing that a client could be asked for.
    Unauthorized,
    /// 403: they need a certificate, which cannot be asked for after the handshake.
    Forbidden,
}

impl Access {
    /// How clients without valid credentials are answered.
    pub fn refused(&self) -> Refused {
        let has_certificates =
            self.methods().iter().any(|one| matches!(one, Method::Certificates(_)));
        match self.challenges(TokenError::Missing) {
            Some(challenges) => Refused::Challenged(challenges),
            None if has_certificates => Refused::Forbidden,
            None => Refused::Unauthorized,
        }
    }

    /// What clients are asked for, if there is anything; `error` is about the token that came.
    pub fn challenges(&self, error: TokenError) -> Option<Challenges> {
        let methods = self.methods();
        let basic = methods.iter().any(|method| matches!(method, Method::Htpasswd(_)));
        let bearer = methods.iter().any(|method| matches!(method, Method::Bearer(_)));
        (basic || bearer).then(|| Challenges { basic, bearer: bearer.then_some(error) })
    }

    fn methods(&self) -> &[Method] {
        match self {
            Self::Open => &[],
            Self::Methods(methods) => methods,
        }
    }

    /// Tries each method until one decides.
    pub async fn admit(&self, client: Client<'_>) -> Decision {
        let methods = match self {
            Self::Open => return Decision::Admitted(None),
            Self::Methods(methods) => methods,
        };
        let mut decision = Decision::Anonymous;
        for method in methods {
            match method.admit(client).await {
                ControlFlow::Break(decision) => return decision,
                ControlFlow::Continue(Decision::Anonymous) => {}
                // Whichever issuer the token is of has said more.
                ControlFlow::Continue(Decision::ForeignToken { .. })
                    if decision != Decision::Anonymous => {}
                ControlFlow::Continue(other) => decision = other,
            }
        }
        match decision {
            Decision::Anonymous | Decision::Distrusted(_) | Decision::ForeignToken { .. }
                if self.has_plugin() =>
            {
                Decision::Admitted(None)
            }
            decision => decision,
        }
    }

    fn has_plugin(&self) -> bool {
        self.methods().iter().any(|method| matches!(method, Method::Plugin))
    }

    /// Whether `Authorization` is passed to handlers: if the plugin judges it, unless it is for another method, also if
    /// that was not asked because one before it has admitted the client.
    pub fn passes_authorization(&self, headers: &HeaderMap) -> bool {
        self.has_plugin() && !self.methods().iter().any(|method| method.takes(headers))
    }

    /// Headers that a trusted proxy sets. They are not passed to handlers.
    pub fn withheld(&self) -> impl Iterator<Item = &HeaderName> {
        self.methods().iter().filter_map(|method| match method {
            Method::ProxyHeader(header) => Some(header.header()),
            Method::Htpasswd(_) | Method::Certificates(_) | Method::Bearer(_) | Method::Plugin => {
                None
            }
        })
    }
}

impl Method {
    /// Whether what is in `Authorization` is for this method.
    fn takes(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Htpasswd(_) => credentials(headers, b"basic ").is_some(),
            Self::Bearer(issuer) => {
                credentials(headers, b"bearer ").is_some_and(|token| issuer.is_named_by(token))
            }
            Self::ProxyHeader(_) | Self::Certificates(_) | Self::Plugin => false,
        }
    }

    /// Authenticates a request. After `Break` no other method is tried.
    async fn admit(&self, client: Client<'_>) -> ControlFlow<Decision, Decision> {
        let Client { headers, address, certificate } = client;
        match self {
            Self::Htpasswd(file) => by_password(file, headers, address).await,
            Self::ProxyHeader(header) => by_header(header, headers, address),
            Self::Certificates(trusted) => by_certificate(trusted, certificate).await,
            Self::Bearer(issuer) => by_token(issuer, headers).await,
            Self::Plugin => ControlFlow::Continue(Decision::Anonymous),
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
        // Unknown whether this method would accept them. Trying the next one instead would make a
        // user's identity depend on load.
        Verdict::Busy => ControlFlow::Break(Decision::Busy),
    }
}

fn by_header(
    header: &ProxyHeader,
    headers: &HeaderMap,
    from: Option<IpAddr>,
) -> ControlFlow<Decision, Decision> {
    match header.read(headers, from) {
        Claim::User(user) => ControlFlow::Break(admitted(user, "proxy")),
        Claim::None => ControlFlow::Continue(Decision::Anonymous),
        Claim::Untrusted { user } => {
            let why = "a header with the user's name, but not from a trusted proxy";
            ControlFlow::Continue(Decision::Rejected { user, why })
        }
        Claim::Invalid { user, why } => ControlFlow::Break(Decision::Rejected { user, why }),
    }
}

async fn by_certificate(
    trusted: &Certificates,
    certificate: Option<&PresentedCertificate>,
) -> ControlFlow<Decision, Decision> {
    let Some(certificate) = certificate else {
        return ControlFlow::Continue(Decision::Anonymous);
    };
    match trusted.identify(certificate).await {
        Ok(principal) => ControlFlow::Break(Decision::Admitted(Some(principal))),
        // The client may have a password too.
        Err(reason) => ControlFlow::Continue(Decision::Distrusted(reason)),
    }
}

async fn by_token(issuer: &Issuer, headers: &HeaderMap) -> ControlFlow<Decision, Decision> {
    let Some(token) = credentials(headers, b"bearer ") else {
        return ControlFlow::Continue(Decision::Anonymous);
    };
    match issuer.verify(token).await {
        bearer::Verdict::Accepted(principal) => {
            ControlFlow::Break(Decision::Admitted(Some(principal)))
        }
        // Another method may be about the same issuer, with another audience or other requirements.
        bearer::Verdict::Foreign { issuer } => {
            ControlFlow::Continue(Decision::ForeignToken { issuer })
        }
        bearer::Verdict::Invalid { user, why } => {
            ControlFlow::Continue(Decision::InvalidToken { user, why })
        }
        bearer::Verdict::Denied { user, why } => {
            ControlFlow::Continue(Decision::Denied { user, why })
        }
        // As with passwords: an identity does not depend on who can be reached.
        bearer::Verdict::NoKeys => ControlFlow::Break(Decision::NoKeys),
    }
}

fn admitted(name: String, method: &'static str) -> Decision {
    Decision::Admitted(Some(Principal { name, method: method.into(), claims: Vec::new() }))
}

/// User and password from `Authorization: Basic …`.
fn basic(headers: &HeaderMap) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut user = BASE64.decode(credentials(headers, b"basic ")?).ok()?;
    let colon = user.iter().position(|byte| *byte == b':')?;
    let password = user.split_off(colon + 1);
    user.truncate(colon);
    Some((user, password))
}

/// What follows this scheme in `Authorization`. Schemes are written in any case.
fn credentials<'a>(headers: &'a HeaderMap, scheme: &[u8]) -> Option<&'a [u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (found, rest) = value.split_at_checked(scheme.len())?;
    found.eq_ignore_ascii_case(scheme).then(|| rest.trim_ascii())
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).unwrap();
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    #[test]
    fn parses_basic_credentials() {
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
    fn ignores_other_credentials() {
        for value in ["Bearer abc", "Basic", "Basic ", "Basic !!!", "Basic YWJj", "Basicc YTpi"] {
            assert_eq!(basic(&headers(value)), None, "{value}");
        }
        assert_eq!(basic(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn a_plugin_judges_whom_no_other_method_refuses() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, format!("b:{}\n", bcrypt::hash("c", 4).unwrap())).unwrap();
        let users = Htpasswd::load(file.path(), crate::htpasswd::Options::default()).unwrap();
        let alone = Access::Methods(vec![Method::Plugin]);
        let both = Access::Methods(vec![Method::Htpasswd(users), Method::Plugin]);
        for (value, wrong) in [("Bearer abc", false), ("", false), ("Basic YTpi", true)] {
            let headers = headers(value);
            let client = Client { headers: &headers, address: None, certificate: None };
            assert_eq!(alone.admit(client).await, Decision::Admitted(None), "{value}");
            let refused = matches!(both.admit(client).await, Decision::Rejected { .. });
            assert_eq!(refused, wrong, "{value}");
        }
        // Whoever has admitted the client: a password for the host stays in the host.
        for (value, passed) in [("", true), ("Bearer abc", true), ("Basic YTpi", false)] {
            let headers = headers(value);
            assert_eq!(both.passes_authorization(&headers), passed, "{value}");
            assert!(alone.passes_authorization(&headers), "{value}");
            assert!(!Access::Open.passes_authorization(&headers), "{value}");
        }
    }

    #[tokio::test]
    async fn nobody_is_admitted_without_a_method() {
        let headers = headers("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let client = Client { headers: &headers, address: None, certificate: None };
        let closed = Access::Methods(Vec::new());
        assert_eq!(closed.admit(client).await, Decision::Anonymous);
        assert_eq!(closed.refused(), Refused::Unauthorized);
        assert_eq!(Access::Open.admit(client).await, Decision::Admitted(None));
    }
}

//! What clients without valid credentials are asked for, in `WWW-Authenticate`.

use http::HeaderValue;

/// Asks for a name and password.
pub const BASIC_CHALLENGE: HeaderValue =
    HeaderValue::from_static(r#"Basic realm="keepgate", charset="UTF-8""#);

/// What clients of a mount are asked for: at least one of these. Each is a header of its own, because not every client
/// can take apart a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenges {
    /// A name and password.
    pub basic: bool,
    /// A token, with what is wrong with the one that came.
    pub bearer: Option<TokenError>,
}

/// What a client learns about the token that it sent (RFC 6750, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It sent none.
    Missing,
    /// It is not valid.
    Invalid,
    /// It is valid, but its user gets no access.
    Insufficient,
}

impl Challenges {
    /// The values of the headers.
    pub fn values(self) -> impl Iterator<Item = HeaderValue> {
        let bearer = self.bearer.map(|error| {
            HeaderValue::from_static(match error {
                TokenError::Missing => r#"Bearer realm="keepgate""#,
                TokenError::Invalid => r#"Bearer realm="keepgate", error="invalid_token""#,
                TokenError::Insufficient => {
                    r#"Bearer realm="keepgate", error="insufficient_scope""#
                }
            })
        });
        self.basic.then_some(BASIC_CHALLENGE).into_iter().chain(bearer)
    }
}

//! JSON Web Tokens in their compact form (RFC 7519), signed with ES256 or ES384 and with nothing else: there is no
//! algorithm `none`, and none with shared secrets.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keepgate_sdk::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::key::{Algorithm, Key};

/// How far clocks may be apart, in seconds.
pub(super) const SKEW: u64 = 60;
/// The longest token in bytes.
const LONGEST: usize = 8192;
/// A key that has signed nothing: the base point of P-256, whose private key is 1.
const NOBODYS: &str = "3059301306072a8648ce3d020106082a8648ce3d03010703420004\
                       6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                       4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

/// A token, of which nothing is verified.
#[derive(Debug)]
pub(crate) struct Jwt<'a> {
    header: Header,
    claims: Vec<u8>,
    signed: &'a [u8],
    signature: Vec<u8>,
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// What must be understood, which nothing is.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// The claims that every token here has (RFC 7519, section 4.1). Times are in seconds since 1970.
#[derive(Debug, Deserialize)]
pub(crate) struct Registered {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: Audience,
    pub(crate) exp: u64,
    #[serde(default)]
    nbf: Option<u64>,
    #[serde(default)]
    iat: Option<u64>,
}

impl Registered {
    /// Whether the token is valid at this time, and expires at most this much later.
    pub(crate) fn is_current(&self, now: u64, longest: Duration) -> bool {
        let begun = |from: Option<u64>| from.is_none_or(|from| from <= now + SKEW);
        now < self.exp.saturating_add(SKEW)
            && self.exp <= now + longest.as_secs() + SKEW
            && begun(self.nbf)
            && begun(self.iat)
    }
}

/// For whom a token is.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Some(Vec<String>),
}

impl Audience {
    pub(crate) fn contains(&self, url: &str) -> bool {
        match self {
            Self::One(one) => one == url,
            Self::Some(some) => some.iter().any(|one| one == url),
        }
    }
}

impl<'a> Jwt<'a> {
    /// Reads a token; none if it is no signed JWT of a supported algorithm.
    pub(crate) fn parse(token: &'a str) -> Option<Self> {
        if token.len() > LONGEST {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        if !matches!(header.alg.as_str(), "ES256" | "ES384") || header.crit.is_some() {
            return None;
        }
        let (claims, signature) = (decode(claims)?, decode(signature)?);
        Some(Self { header, claims, signed: signed.as_bytes(), signature })
    }

    /// Its claims; none if they are not as they must be.
    pub(crate) fn claims<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.claims).ok()
    }

    /// The key that it names.
    pub(crate) fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// Whether a key is of its algorithm.
    pub(crate) fn fits(&self, key: &Key) -> bool {
        let named = match key.algorithm {
            Algorithm::ES256 => "ES256",
            Algorithm::ES384 => "ES384",
            Algorithm::Ed25519 => return false,
        };
        self.header.alg == named
    }

    pub(crate) fn is_signed_by(&self, key: &Key) -> bool {
        self.fits(key) && key.has_signed(self.signed, &self.signature)
    }

    /// Verifies the signature with a key that is nobody's, so that a client cannot tell from the time whether there is
    /// one to verify it with.
    pub(crate) fn verify_in_vain(&self) {
        let key = hex::decode(NOBODYS).map(|der| Key::from_der(&der, Timestamp(0)));
        if let Ok(Ok(key)) = key {
            key.has_signed(self.signed, &self.signature);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_key_that_is_nobodys_can_be_used() {
        let der = hex::decode(NOBODYS).unwrap();
        assert_eq!(Key::from_der(&der, Timestamp(0)).unwrap().algorithm, Algorithm::ES256);
    }

    #[test]
    fn other_algorithms_and_forms_are_no_tokens() {
        let of = |header: &str| {
            let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
            format!("{}.{}.{}", part(header), part("{}"), part("x"))
        };
        assert!(Jwt::parse(&of(r#"{"alg":"ES256"}"#)).is_some());
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS256"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"es256"}"#,
            r#"{"alg":"ES256","crit":["b64"],"b64":false}"#,
            r#"{"typ":"JWT"}"#,
            "[]",
        ] {
            assert!(Jwt::parse(&of(header)).is_none(), "{header}");
        }
        for text in
            ["", ".", "..", "a.b.c", "a.b.c.d", &of(r#"{"alg":"ES256"}"#).replace('.', "=.")]
        {
            assert!(Jwt::parse(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_not(
            text in ".{0,200}|[A-Za-z0-9_=.-]{0,200}",
            header in "\\PC{0,40}|\\{\"alg\":\"(ES256|ES384|none)\"(,\"kid\":\"[a-z/]{0,9}\")?\\}",
            claims: Vec<u8>,
            signature: Vec<u8>,
        ) {
            let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
            let made = format!("{}.{}.{}", part(header.as_bytes()), part(&claims), part(&signature));
            if let Some(jwt) = Jwt::parse(&made) {
                jwt.verify_in_vain();
                let _ = jwt.claims::<serde_json::Value>();
            }
            if let Some(jwt) = Jwt::parse(&text) {
                jwt.verify_in_vain();
            }
        }
    }
}

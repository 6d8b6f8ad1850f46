//! Bearer tokens of an external issuer: JSON Web Tokens (RFC 7519) in `Authorization: Bearer …` (RFC 6750), verified
//! with the keys that the issuer publishes.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `claims` | what a token says |
//! | `clock` | the time, which tests set |
//! | `fetch` | keys over HTTP, and where an issuer has them |
//! | `key_set` | which keys can be used, and for which token |
//! | `keys` | keys that are kept up to date |
//! | `source` | where keys are, as the operator says |
//! | `signature` | which algorithms are accepted, and their verification by ring |
//!
//! jsonwebtoken decodes tokens: it checks that the signature is by this key and this algorithm, and that the audience is
//! one of those expected. Around it are the rules that it does not have: times by our clock, one issuer and not a list,
//! and claims that occur once.
//!
//! Tokens are not remembered, as passwords are: to verify one by RSA or P-256 takes a quarter of a millisecond even
//! unoptimised, where bcrypt takes tenths of a second, and a memory would be one more place where a token outlives its
//! key.

mod claims;
mod clock;
mod fetch;
mod key_set;
mod keys;
mod signature;
mod source;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation, dangerous, decode, decode_header};
use keepgate_core::Principal;

use crate::htpasswd::is_user_name;

pub use clock::{Clock, Now};
pub use keys::{KEEP, Keys, KeysStatus, PAUSE};
pub use signature::Algorithms;
pub use source::KeySource;

use claims::{Claims, SCOPE};
use key_set::{Candidates, KeySet};

/// The longest token in bytes.
const LONGEST: usize = 16 * 1024;
/// The longest name of a user in bytes: names are folders.
const LONGEST_NAME: usize = 255;
/// The most bytes of a user's claims, as of a job's user.
const MOST_CLAIMS: usize = 8 * 1024;
/// What tokens for access call their type, if they do. Others are for other purposes, such as logging out.
const TYPES: [&str; 4] = ["jwt", "at+jwt", "application/jwt", "application/at+jwt"];
/// Claims whose names mean something else here, or which users have anyway.
const RESERVED: [&str; 8] =
    ["iss", "sub", SCOPE, "fingerprint", "spki-sha256", "subject", "issuer", "verified"];

/// What is expected of an issuer's tokens.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The issuer, exactly as tokens name it (`iss`).
    pub issuer: String,
    /// Of which a token must be for one (`aud`).
    pub audience: Vec<String>,
    /// The claim with the user's name.
    pub name: String,
    /// Further claims that plugins get.
    pub claims: Vec<String>,
    /// Claims that a token must have, each with the values of which it must have one.
    pub require: Vec<(String, Vec<String>)>,
    /// How far the issuer's clock may be off.
    pub leeway: Duration,
    /// How tokens may be signed.
    pub algorithms: Algorithms,
}

/// An issuer of tokens.
pub struct Issuer {
    rules: Rules,
    keys: Arc<Keys>,
    clock: Clock,
}

/// What a token is worth.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is valid, and of this user.
    Accepted(Principal),
    /// It says that another issuer issued it.
    Foreign {
        /// Which, for the log.
        issuer: String,
    },
    /// It proves nothing.
    Invalid {
        /// Who it says to be, for the log.
        user: String,
        /// The reason, for the log.
        why: Cow<'static, str>,
    },
    /// It is valid, but its user gets no access.
    Denied {
        /// The user, for the log.
        user: String,
        /// The reason, for the log.
        why: String,
    },
    /// It cannot be verified, because there are no keys.
    NoKeys,
}

/// Why a token is not authentic.
enum Failure {
    /// No known key has signed it.
    UnknownKey,
    Invalid(Cow<'static, str>),
}

/// Why a claim cannot be one of those that plugins get, if it cannot.
pub fn check_extra_claim(name: &str) -> Result<(), String> {
    match name {
        "" => Err("a claim has a name".to_owned()),
        _ if RESERVED.contains(&name) => Err(format!(
            "{name:?} has a meaning of its own for plugins, which get `iss`, `sub` and `scope` of every token; remove it"
        )),
        _ => Ok(()),
    }
}

impl Issuer {
    /// An issuer with these keys.
    pub fn new(rules: Rules, keys: Arc<Keys>, clock: Clock) -> Self {
        signature::use_ring();
        Self { rules, keys, clock }
    }

    /// Its keys.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Whether a token says that it is of this issuer. That proves nothing.
    pub(crate) fn is_named_by(&self, token: &[u8]) -> bool {
        let said = dangerous::insecure_decode_claims::<Claims>(token);
        said.is_ok_and(|said| said.text("iss") == Some(&self.rules.issuer))
    }

    /// Verifies a token.
    pub(crate) async fn verify(&self, token: &[u8]) -> Verdict {
        let invalid = |why: Cow<'static, str>| Verdict::Invalid { user: String::new(), why };
        if token.len() > LONGEST {
            return invalid("the token is longer than 16 KiB".into());
        }
        // Nothing that is read here is believed: it says which issuer is to be asked, and whose attempt is logged.
        let said = match dangerous::insecure_decode_claims::<Claims>(token) {
            Ok(said) => said,
            Err(error) => return invalid(format!("the claims cannot be read: {error}").into()),
        };
        match said.text("iss") {
            Some(issuer) if issuer == self.rules.issuer => {}
            issuer => {
                let issuer = issuer.unwrap_or("nobody").to_owned();
                return Verdict::Foreign { issuer };
            }
        }
        let user = said.text(&self.rules.name).unwrap_or_default().to_owned();
        let header = match self.header(token) {
            Ok(header) => header,
            Err(why) => return Verdict::Invalid { user, why },
        };
        let Some(keys) = self.keys.get().await else {
            return Verdict::NoKeys;
        };
        let mut authentic = self.authenticate(token, &header, &keys);
        if let Err(Failure::UnknownKey) = authentic
            && let Some(newer) = self.keys.newer(&keys).await
        {
            authentic = self.authenticate(token, &header, &newer);
        }
        match authentic.and_then(|claims| self.check_times(&claims).map(|()| claims)) {
            Ok(claims) => match self.principal(&claims) {
                Ok(principal) => Verdict::Accepted(principal),
                Err(why) => Verdict::Denied { user, why },
            },
            Err(Failure::UnknownKey) => {
                let why = match &header.kid {
                    Some(id) => {
                        format!("no key of the issuer fits: kid {id:?}, alg {:?}", header.alg)
                    }
                    None => format!("no key of the issuer has signed it; alg {:?}", header.alg),
                };
                Verdict::Invalid { user, why: why.into() }
            }
            Err(Failure::Invalid(why)) => Verdict::Invalid { user, why },
        }
    }

    /// The header, if tokens may have one like it.
    fn header(&self, token: &[u8]) -> Result<Header, Cow<'static, str>> {
        let header = decode_header(token);
        let header = header.map_err(|error| format!("the header cannot be read: {error}"))?;
        if let Some(critical) = &header.crit {
            return Err(format!("`crit` names {critical:?}, which is not supported").into());
        }
        if let Some(other) =
            header.typ.as_ref().filter(|name| !TYPES.contains(&&*name.to_ascii_lowercase()))
        {
            return Err(format!("its type (`typ`) is {other:?}, so it is not for access").into());
        }
        if !self.rules.algorithms.contains(header.alg) {
            return Err(format!("the algorithm {:?} is not accepted", header.alg).into());
        }
        Ok(header)
    }

    /// The claims of a token that one of these keys has signed, and that is for us.
    fn authenticate(
        &self,
        token: &[u8],
        header: &Header,
        keys: &KeySet,
    ) -> Result<Claims, Failure> {
        let mut validation = Validation::new(header.alg);
        // By our own clock; see `check_times`.
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&self.rules.issuer]);
        validation.set_audience(&self.rules.audience);
        let (keys, otherwise) = match keys.candidates(header.kid.as_deref(), header.alg) {
            Candidates::Named(keys) => (keys, Failure::Invalid("the signature is wrong".into())),
            Candidates::Unnamed(keys) => (keys, Failure::UnknownKey),
        };
        for key in keys {
            match decode::<Claims>(token, key, &validation) {
                // It may be a list for the library.
                Ok(token) if token.claims.text("iss") == Some(&self.rules.issuer) => {
                    return Ok(token.claims);
                }
                Ok(_) => return Err(Failure::Invalid("another issuer issued it".into())),
                Err(error) => match error.into_kind() {
                    ErrorKind::InvalidSignature => {}
                    other => return Err(Failure::Invalid(reason(&other))),
                },
            }
        }
        Err(otherwise)
    }

    fn check_times(&self, claims: &Claims) -> Result<(), Failure> {
        let invalid = |why: String| Failure::Invalid(why.into());
        let time = |name| claims.time(name).map_err(invalid);
        // Seconds since 1970 are exact in this type for longer than anybody needs.
        #[expect(clippy::cast_precision_loss)]
        let now = self.clock.now().unix as f64;
        let leeway = self.rules.leeway.as_secs_f64();
        let expires = time("exp")?.ok_or_else(|| invalid("it never expires (`exp`)".to_owned()))?;
        if expires + leeway <= now {
            return Err(invalid(format!("it expired {} seconds ago", now - expires)));
        }
        if let Some(begins) = time("nbf")?.filter(|begins| *begins - leeway > now) {
            return Err(invalid(format!("it is not valid yet, but in {} seconds", begins - now)));
        }
        Ok(())
    }

    /// The user of a valid token, or why they get no access.
    fn principal(&self, claims: &Claims) -> Result<Principal, String> {
        let name = &self.rules.name;
        let user = claims.text(name).ok_or_else(|| {
            format!("the claim {name:?}, which would be the user's name, is missing or not a text")
        })?;
        let is_folder = user != "." && user != ".." && user.len() <= LONGEST_NAME;
        if !is_user_name(user) || !is_folder {
            return Err(format!(
                "its claim {name:?} is not the name of a user, which has at most {LONGEST_NAME} bytes, and only \
                 letters, digits and the characters @ . _ -; let `name` be a claim that fits"
            ));
        }
        for (required, accepted) in &self.rules.require {
            let values = claims.values(required);
            if !values.iter().any(|value| accepted.contains(value)) {
                return Err(format!(
                    "the claim {required:?} has none of the values that are required"
                ));
            }
        }
        let mut fields = vec![("iss".to_owned(), self.rules.issuer.clone())];
        let extra = self.rules.claims.iter().map(String::as_str);
        for name in ["sub", SCOPE].into_iter().chain(extra) {
            let values = claims.values(name);
            fields.extend(values.into_iter().map(|value| (name.to_owned(), value)));
        }
        let size: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > MOST_CLAIMS {
            return Err(format!(
                "the claims for plugins have {size} bytes; at most {MOST_CLAIMS} are passed on, so list fewer in `claims`"
            ));
        }
        Ok(Principal { name: user.to_owned(), method: "bearer".into(), claims: fields })
    }
}

/// Why the library refuses a token, in words.
fn reason(error: &ErrorKind) -> Cow<'static, str> {
    match error {
        ErrorKind::InvalidAudience => "it is for another audience (`aud`)".into(),
        ErrorKind::InvalidIssuer => "another issuer issued it".into(),
        ErrorKind::MissingRequiredClaim(name) => {
            format!("its claim {name:?} is missing or no value of its kind").into()
        }
        other => format!("it cannot be decoded: {other:?}").into(),
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("issuer", &self.rules.issuer).finish_non_exhaustive()
    }
}

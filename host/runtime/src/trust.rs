//! Trust: which components may be loaded. If the operator names digests or keys, a file is refused unless
//! its SHA-256 is one of the digests, or `NAME.wasm.minisig` beside it is a signature of exactly these
//! bytes by one of the keys.
//!
//! Only this module makes a `Vetted`, and only a `Vetted` can be loaded: no byte of a file is parsed or
//! compiled, and no cached code for it is read, before its digest or signature is checked.
//!
//! A signature says who made a component, not its name or version: whoever can write to the plugin folder
//! can install an older signed component, or one under another's name. Use digests to say exactly which
//! component may run.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Appended to a component's file name, gives that of its signature.
pub(crate) const SIGNATURE_SUFFIX: &str = ".minisig";

/// What a digest starts with in a configuration.
const DIGEST_PREFIX: &str = "sha256:";

/// The rules of trust. There are none by default, and then every component is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// In lower-case hex.
    digests: BTreeSet<String>,
    keys: Vec<Key>,
}

/// A minisign public key.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    /// As in the configuration, so that it can be found there.
    text: String,
    key: PublicKey,
}

/// Why rules are rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not a digest.
    #[error(
        "{0:?} is not a digest: write \"sha256:\" and 64 hexadecimal digits, as sha256sum prints"
    )]
    Digest(String),
    /// Not a minisign key.
    #[error(
        "{0:?} is not a minisign public key: write the second line of its .pub file, which starts \
         with RW"
    )]
    Key(String),
}

/// Why a component is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum TrustDecision {
    /// There are no rules.
    NoRules,
    /// Its digest is allowed.
    Digest,
    /// It is signed.
    Signature {
        /// The key, as in the configuration.
        key: String,
        /// What the signature says about the component: minisign's trusted comment.
        comment: String,
    },
}

/// The bytes of a component that may be loaded.
pub(crate) struct Vetted {
    pub(crate) bytes: Vec<u8>,
    /// SHA-256 in lower-case hex.
    pub(crate) digest: String,
    pub(crate) decision: TrustDecision,
}

impl Trust {
    /// Trusts these digests, `sha256:…`, and keys, `RW…`. Without any, everything is trusted.
    pub fn new<'a>(
        digests: impl IntoIterator<Item = &'a str>,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, TrustError> {
        let digests = digests.into_iter().map(parse_digest).collect::<Result<_, _>>()?;
        let keys = keys.into_iter().map(Key::parse).collect::<Result<_, _>>()?;
        Ok(Self { digests, keys })
    }

    /// Whether there are rules.
    pub fn has_rules(&self) -> bool {
        !self.digests.is_empty() || !self.keys.is_empty()
    }

    /// The digests and keys, for `/status`.
    pub(crate) fn status(&self) -> serde_json::Value {
        let keys: Vec<_> = self.keys.iter().map(|key| &key.text).collect();
        serde_json::json!({"digests": self.digests, "keys": keys})
    }

    /// Checks whether a component may be loaded. Hashing takes milliseconds for each megabyte. The error
    /// says why not and what to do; `file` is for its text.
    pub(crate) fn vet(
        &self,
        file: &Path,
        bytes: Vec<u8>,
        signature: Option<&[u8]>,
    ) -> Result<Vetted, String> {
        let digest = hex::encode(Sha256::digest(&bytes));
        match self.decision(&bytes, &digest, signature) {
            Ok(decision) => Ok(Vetted { bytes, digest, decision }),
            Err(why) => Err(self.refuse(file, &digest, &why)),
        }
    }

    /// Checks whether a loaded component, whose file may have changed, may stay loaded: these rules must
    /// have its digest or the key of its signature.
    pub(crate) fn renew(
        &self,
        file: &Path,
        digest: &str,
        decision: &TrustDecision,
    ) -> Result<TrustDecision, String> {
        let still = match decision {
            TrustDecision::Signature { key, .. } => {
                self.keys.iter().any(|known| known.text == *key)
            }
            TrustDecision::NoRules | TrustDecision::Digest => false,
        };
        match () {
            () if !self.has_rules() => Ok(TrustDecision::NoRules),
            () if self.digests.contains(digest) => Ok(TrustDecision::Digest),
            () if still => Ok(decision.clone()),
            () => Err(self.refuse(
                file,
                digest,
                "it was loaded under other rules, and its file has changed since",
            )),
        }
    }

    fn decision(
        &self,
        bytes: &[u8],
        digest: &str,
        signature: Option<&[u8]>,
    ) -> Result<TrustDecision, String> {
        if !self.has_rules() {
            return Ok(TrustDecision::NoRules);
        }
        if self.digests.contains(digest) {
            return Ok(TrustDecision::Digest);
        }
        if self.keys.is_empty() {
            return Err("its digest is not allowed".to_owned());
        }
        let Some(signature) = signature else {
            return Err("it is not signed".to_owned());
        };
        let text = std::str::from_utf8(signature).ok();
        let signature = text.and_then(|text| Signature::decode(text).ok());
        let signature =
            signature.ok_or("its signature file is not a minisign signature, or is incomplete")?;
        let mut known = false;
        for Key { text, key } in &self.keys {
            match key.verify(bytes, &signature, true) {
                Ok(()) => {
                    let comment = signature.trusted_comment().to_owned();
                    return Ok(TrustDecision::Signature { key: text.clone(), comment });
                }
                Err(minisign_verify::Error::UnexpectedKeyId) => {}
                Err(_) => known = true,
            }
        }
        Err(match known {
            true => {
                "its signature is not of these bytes: one of the two files changed after it was \
                     signed, or is still being copied"
                    .to_owned()
            }
            false => "its signature is by a key that the configuration does not name".to_owned(),
        })
    }

    fn refuse(&self, file: &Path, digest: &str, why: &str) -> String {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let sign = match self.keys.is_empty() {
            true => String::new(),
            false => {
                format!(", or sign it with `minisign -S -m {name}` and put {name}.minisig beside")
            }
        };
        let todo = format!(
            "if it is yours, add \"{DIGEST_PREFIX}{digest}\" to `allow` of [plugins]{sign}"
        );
        format!("{why}; {todo}")
    }
}

impl TrustDecision {
    /// `None` if there were no rules.
    pub(crate) fn applied(&self) -> Option<&Self> {
        (*self != Self::NoRules).then_some(self)
    }
}

impl fmt::Display for TrustDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRules => f.write_str("no rules"),
            Self::Digest => f.write_str("by its digest"),
            // The signer chooses the comment, so it is quoted.
            Self::Signature { key, comment } => write!(f, "signed with {key}: {comment:?}"),
        }
    }
}

impl Key {
    fn parse(text: &str) -> Result<Self, TrustError> {
        let key = PublicKey::from_base64(text).map_err(|_| TrustError::Key(text.to_owned()))?;
        Ok(Self { text: text.to_owned(), key })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse_digest(text: &str) -> Result<String, TrustError> {
    let digits = text.strip_prefix(DIGEST_PREFIX);
    let whole = |digits: &&str| digits.len() == 64 && hex::decode(digits).is_ok();
    let digits = digits.filter(whole).ok_or_else(|| TrustError::Digest(text.to_owned()))?;
    Ok(digits.to_ascii_lowercase())
}

/// The path of a component's signature.
pub(crate) fn signature_of(component: &Path) -> PathBuf {
    let mut path = component.as_os_str().to_owned();
    path.push(SIGNATURE_SUFFIX);
    path.into()
}

#[cfg(test)]
mod tests;

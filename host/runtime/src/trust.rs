//! Trust: which components may be loaded at all. Where the operator names digests or keys, a file
//! is refused unless its SHA-256 is among the digests, or `NAME.wasm.minisig` beside it is a
//! signature of these very bytes by one of the keys.
//!
//! A `Vetted` is made nowhere else, and nothing else can be loaded: no byte of a file is parsed
//! or compiled, and no compiled code of it is read, before its digest or its signature was looked
//! at.
//!
//! A signature says who made a component, not what it is called or which version it is: whoever may
//! write to the plugin folder can put an older one in place, or one under another's name, as long as
//! it was signed. Digests are the way to say which one exactly.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Ends a component's file name to make that of its signature.
pub(crate) const SIGNATURE_SUFFIX: &str = ".minisig";

/// What a digest begins with, as it is written in a configuration.
const DIGEST_PREFIX: &str = "sha256:";

/// The rules. By default there are none, and every component is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// In lower-case hex.
    digests: BTreeSet<String>,
    keys: Vec<Key>,
}

/// A key of minisign's.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    /// As it was written, so that it is found again.
    text: String,
    key: PublicKey,
}

/// Why rules make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not the digest of anything.
    #[error("{0:?} is no digest: write \"sha256:\" and 64 hexadecimal digits, as sha256sum prints")]
    Digest(String),
    /// Not a key of minisign's.
    #[error(
        "{0:?} is no public key of minisign's: write the second line of its .pub file, which \
         begins with RW"
    )]
    Key(String),
}

/// Why a component is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum Warrant {
    /// There are no rules.
    Nothing,
    /// Its digest is allowed.
    Digest,
    /// It is signed.
    Signature {
        /// With this key, as the configuration has it.
        key: String,
        /// What the signature says of the component: minisign's trusted comment.
        comment: String,
    },
}

/// The bytes of a component that may be loaded.
pub(crate) struct Vetted {
    pub(crate) bytes: Vec<u8>,
    /// SHA-256 in lower-case hex.
    pub(crate) digest: String,
    pub(crate) warrant: Warrant,
}

impl Trust {
    /// Rules of these digests, `sha256:…`, and keys, `RW…`. Without either there are none, and
    /// everything is trusted.
    pub fn new<'a>(
        digests: impl IntoIterator<Item = &'a str>,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, TrustError> {
        let digests = digests.into_iter().map(parse_digest).collect::<Result<_, _>>()?;
        let keys = keys.into_iter().map(Key::parse).collect::<Result<_, _>>()?;
        Ok(Self { digests, keys })
    }

    /// True where there are rules.
    pub fn is_asked(&self) -> bool {
        !self.digests.is_empty() || !self.keys.is_empty()
    }

    /// For the status: how many digests are allowed, and which keys.
    pub(crate) fn status(&self) -> serde_json::Value {
        let keys: Vec<_> = self.keys.iter().map(|key| &key.text).collect();
        serde_json::json!({"digests": self.digests, "keys": keys})
    }

    /// Whether a component may be loaded. Hashes it, which takes milliseconds for each megabyte.
    /// `Err` says why not, and what to do. `file` is where it is, for the words.
    pub(crate) fn vet(
        &self,
        file: &Path,
        bytes: Vec<u8>,
        signature: Option<&[u8]>,
    ) -> Result<Vetted, String> {
        let digest = hex::encode(Sha256::digest(&bytes));
        match self.warrant(&bytes, &digest, signature) {
            Ok(warrant) => Ok(Vetted { bytes, digest, warrant }),
            Err(why) => Err(self.refuse(file, &digest, &why)),
        }
    }

    /// Whether a component that serves, and whose bytes are no longer there to be looked at, may go
    /// on: its digest, or the key of its signature, must be among these rules.
    pub(crate) fn renew(
        &self,
        file: &Path,
        digest: &str,
        warrant: &Warrant,
    ) -> Result<Warrant, String> {
        let still = match warrant {
            Warrant::Signature { key, .. } => self.keys.iter().any(|known| known.text == *key),
            Warrant::Nothing | Warrant::Digest => false,
        };
        match () {
            () if !self.is_asked() => Ok(Warrant::Nothing),
            () if self.digests.contains(digest) => Ok(Warrant::Digest),
            () if still => Ok(warrant.clone()),
            () => Err(self.refuse(
                file,
                digest,
                "it was loaded under other rules, and its file is another one since",
            )),
        }
    }

    fn warrant(
        &self,
        bytes: &[u8],
        digest: &str,
        signature: Option<&[u8]>,
    ) -> Result<Warrant, String> {
        if !self.is_asked() {
            return Ok(Warrant::Nothing);
        }
        if self.digests.contains(digest) {
            return Ok(Warrant::Digest);
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
            signature.ok_or("its signature file is none of minisign's, or half of one")?;
        let mut known = false;
        for Key { text, key } in &self.keys {
            match key.verify(bytes, &signature, true) {
                Ok(()) => {
                    let comment = signature.trusted_comment().to_owned();
                    return Ok(Warrant::Signature { key: text.clone(), comment });
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

impl Warrant {
    /// None where nobody asked.
    pub(crate) fn asked(&self) -> Option<&Self> {
        (*self != Self::Nothing).then_some(self)
    }
}

impl fmt::Display for Warrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("not asked"),
            Self::Digest => f.write_str("by its digest"),
            // What a comment holds is the signer's choice: quoted.
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

/// Where the signature of a component is.
pub(crate) fn signature_of(component: &Path) -> PathBuf {
    let mut path = component.as_os_str().to_owned();
    path.push(SIGNATURE_SUFFIX);
    path.into()
}

#[cfg(test)]
mod tests;

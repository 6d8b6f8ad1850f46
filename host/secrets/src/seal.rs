//! Sealing: bytes that only this gateway, or another one with the same keys, can read, and only for the purpose that
//! they were sealed for.
//!
//! ```text
//! version   1 byte    1
//! key id    8 bytes   which key, so that keys can be replaced
//! random   24 bytes   makes each message's key
//! sealed    n bytes   AES-256-GCM
//! tag      16 bytes
//! ```
//!
//! All keys are derived from the file's bytes by HKDF-SHA256 with the `name` that the operator gave, so two mounts with
//! different names cannot open each other's, even with the same file, and the mount's path plays no part: it may change.
//! Each message is encrypted under a key of its own, derived from 192 random bits. So the nonce can be constant, and one
//! file is good for more messages than anybody makes; with random nonces under one key, AES-GCM would be good for 2³².
//! The tag covers the header and the context, too.
//!
//! A change of any of this needs another version byte: what was sealed must open for ever.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use zeroize::Zeroizing;

use crate::material::Material;

/// The fewest bytes of a key file: 256 bits of random bytes, or 32 characters of text that stands for as many as it can.
pub const MIN_KEY: usize = 32;
/// The random bytes that each message takes.
pub const RANDOM_LENGTH: usize = 24;
/// How much longer what is sealed is.
pub const OVERHEAD: usize = HEADER + TAG;

const VERSION: u8 = 1;
const ID: usize = 8;
const HEADER: usize = 1 + ID + RANDOM_LENGTH;
const TAG: usize = 16;
/// Of AES-256.
const KEY: usize = 32;

const SALT: &[u8] = b"keepgate seal 1";

/// Why keys cannot be used together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Nothing could be sealed.
    #[error("no key is given; give one or more, the first of which seals")]
    NoKey,
    /// A copy of another key, which would only seem to replace it. The numbers are positions in the list, from 0.
    #[error("two of the keys are the same")]
    Same(usize, usize),
    /// The library refuses, which it does for no key that a file can hold.
    #[error("no key can be derived from one of the files")]
    Underivable,
}

/// What was to be opened was not sealed under one of the keys for this context, or is damaged. Deliberately says no
/// more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this was not sealed here for this purpose, or is damaged")]
pub struct NotSealed;

/// The keys of a mount: the first one seals, all of them open.
pub struct SealKeys {
    name: String,
    first: SealKey,
    older: Vec<SealKey>,
}

struct SealKey {
    id: [u8; ID],
    root: hkdf::Prk,
}

impl SealKeys {
    /// Keys that are bound to a name.
    ///
    /// # Errors
    ///
    /// [`SealError`] if there is none or one is given twice.
    pub fn new<'a>(
        name: &str,
        keys: impl IntoIterator<Item = &'a Material>,
    ) -> Result<Self, SealError> {
        let mut keys = keys.into_iter().map(|material| SealKey::new(name, material));
        let first = keys.next().ok_or(SealError::NoKey)?.ok_or(SealError::Underivable)?;
        let mut older: Vec<SealKey> = Vec::new();
        for (key, position) in keys.zip(1..) {
            let key = key.ok_or(SealError::Underivable)?;
            let known = std::iter::once(&first).chain(&older);
            if let Some(same) = known.map(|known| known.id).position(|id| id == key.id) {
                return Err(SealError::Same(same, position));
            }
            older.push(key);
        }
        Ok(Self { name: name.to_owned(), first, older })
    }

    /// The name that they are bound to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Encrypts and authenticates. `random` must be fresh for each call, from the system's generator. `None` only if
    /// the plaintext is longer than the cipher allows, 64 GiB.
    pub fn seal(
        &self,
        plaintext: &[u8],
        context: &[u8],
        random: [u8; RANDOM_LENGTH],
    ) -> Option<Vec<u8>> {
        let header = [&[VERSION][..], &self.first.id, &random].concat();
        let mut buffer = Vec::with_capacity(OVERHEAD + plaintext.len());
        buffer.extend_from_slice(&header);
        buffer.extend_from_slice(plaintext);
        let key = self.first.message_key(&self.name, &random)?;
        let aad = Aad::from([&header, context].concat());
        let body = buffer.get_mut(HEADER..)?;
        let tag = key.seal_in_place_separate_tag(nonce(), aad, body).ok()?;
        buffer.extend_from_slice(tag.as_ref());
        Some(buffer)
    }

    /// The plaintext of what [`seal`](Self::seal) made with one of these keys for the same context.
    ///
    /// # Errors
    ///
    /// [`NotSealed`] for anything else, whatever is wrong with it.
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, NotSealed> {
        let (header, body) = sealed.split_at_checked(HEADER).ok_or(NotSealed)?;
        let (version, rest) = header.split_first().ok_or(NotSealed)?;
        let (id, random) = rest.split_at_checked(ID).ok_or(NotSealed)?;
        if *version != VERSION {
            return Err(NotSealed);
        }
        let mut keys = std::iter::once(&self.first).chain(&self.older);
        let key = keys.find(|key| key.id == id).ok_or(NotSealed)?;
        let key = key.message_key(&self.name, random).ok_or(NotSealed)?;
        let aad = Aad::from([header, context].concat());
        let mut buffer = body.to_vec();
        let length = key.open_in_place(nonce(), aad, &mut buffer).map_err(|_| NotSealed)?.len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKeys").field("name", &self.name).finish_non_exhaustive()
    }
}

impl SealKey {
    fn new(name: &str, material: &Material) -> Option<Self> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&material.bytes);
        let mut id = [0; ID];
        derive(&root, b"id", name, &[], &mut id)?;
        Some(Self { id, root })
    }

    /// The key of one message.
    fn message_key(&self, name: &str, random: &[u8]) -> Option<LessSafeKey> {
        let mut key = Zeroizing::new([0; KEY]);
        derive(&self.root, b"key", name, random, &mut *key)?;
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).ok()?))
    }
}

/// Fills bytes with what follows from a key for this purpose and name.
fn derive(
    root: &hkdf::Prk,
    purpose: &[u8],
    name: &str,
    random: &[u8],
    out: &mut [u8],
) -> Option<()> {
    // The name's length keeps its end and what follows apart.
    let length = (name.len() as u64).to_be_bytes();
    let info = [purpose, &[0], &length, name.as_bytes(), random];
    root.expand(&info, Length(out.len())).and_then(|derived| derived.fill(out)).ok()
}

/// How many bytes to derive.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Constant, because each key encrypts one message.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

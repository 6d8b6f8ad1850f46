//! Keys that a test grants. Signing is real. Sealing has the host's limits, failures and lengths, and another cipher:
//! it is good for tests and for nothing else.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::{MAX_CONTEXT, MAX_MESSAGE};
use crate::Failure;
use crate::testing::{Host, with};

/// Version, key id and random bytes.
const HEADER: usize = 1 + ID + 24;
const ID: usize = 8;
const TAG: usize = 16;
/// What is sealed begins with it. The host has another, so that neither opens the other's.
const VERSION: u8 = 0xff;

/// The keys of the mount.
#[derive(Debug, Default)]
struct Keys {
    hmac: BTreeMap<String, Vec<u8>>,
    seal: Vec<Vec<u8>>,
    /// How much has been sealed.
    sealed: u64,
}

/// The names of the keys for [`hmac_sha256`] that the mount grants, in order.
pub fn keys() -> Vec<String> {
    with(|own: &mut Keys| own.hmac.keys().cloned().collect())
}

/// The HMAC-SHA256 of a message of at most 1 MiB, under the key of this name. Fails with [`Failure::Denied`] if the
/// mount does not grant the key, and with [`Failure::TooLarge`] for a longer message.
pub fn hmac_sha256(key: &str, message: &[u8]) -> Result<Vec<u8>, Failure> {
    Ok(signing(key, message)?.finalize().into_bytes().to_vec())
}

/// Whether this is the HMAC-SHA256 of the message. Takes the same time however much of it is right; use it instead of
/// comparing. Fails as [`hmac_sha256`] does.
pub fn verify_hmac_sha256(key: &str, message: &[u8], mac: &[u8]) -> Result<bool, Failure> {
    Ok(signing(key, message)?.verify_slice(mac).is_ok())
}

/// Encrypts and authenticates at most 1 MiB, for [`open`] to read with the same context of at most 1 KiB. The result is
/// at most 64 bytes longer and differs each time. Fails with [`Failure::Denied`] if the mount grants no key for
/// sealing, and with [`Failure::TooLarge`] for a longer plaintext or context.
pub fn seal(plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>, Failure> {
    let key = seal_keys()?.into_iter().next().unwrap_or_default();
    at_most(MAX_MESSAGE, plaintext)?;
    at_most(MAX_CONTEXT, context)?;
    let number = with(|own: &mut Keys| {
        own.sealed += 1;
        own.sealed
    });
    let mut sealed = vec![VERSION];
    sealed.extend(id(&key));
    sealed.extend([0; 16]);
    sealed.extend(number.to_be_bytes());
    let cipher = cipher(&key, &sealed, plaintext);
    sealed.extend(cipher);
    let tag = tag(&key, &sealed, context);
    sealed.extend(tag);
    Ok(sealed)
}

/// The plaintext of what [`seal`] made, with any of the mount's keys for sealing. Fails with [`Failure::Invalid`],
/// whose text is always the same, if it was not sealed under one of them for this context, or was changed; with
/// [`Failure::Denied`] if the mount grants no key for sealing, and with [`Failure::TooLarge`] for a longer context.
pub fn open(sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, Failure> {
    let keys = seal_keys()?;
    at_most(MAX_CONTEXT, context)?;
    let opened = keys.iter().find_map(|key| {
        let (rest, found) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
        let (header, cipher_text) = rest.split_at_checked(HEADER)?;
        let right = header.get(1..=ID)? == id(key) && tag(key, rest, context) == found;
        right.then(|| cipher(key, header, cipher_text))
    });
    let why = || Failure::Invalid(NOT_SEALED.to_owned());
    opened.ok_or_else(why)
}

/// The host's text.
const NOT_SEALED: &str = "this was not sealed here for this purpose, or is damaged";

fn signing(key: &str, message: &[u8]) -> Result<Hmac<Sha256>, Failure> {
    let (found, granted) = with(|own: &mut Keys| {
        let names: Vec<_> = own.hmac.keys().map(String::as_str).collect();
        (own.hmac.get(key).cloned(), names.join(", "))
    });
    let found = found.ok_or_else(|| {
        let granted = if granted.is_empty() { "(none)" } else { &granted };
        Failure::Denied(format!("the mount grants no key {key:?}; granted: {granted}"))
    })?;
    at_most(MAX_MESSAGE, message)?;
    mac(&found, &[message])
}

/// An unfinished MAC over these parts.
fn mac(key: &[u8], parts: &[&[u8]]) -> Result<Hmac<Sha256>, Failure> {
    let mac = Hmac::<Sha256>::new_from_slice(key);
    let mut mac = mac.map_err(|error| Failure::Internal(error.to_string()))?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac)
}

fn seal_keys() -> Result<Vec<Vec<u8>>, Failure> {
    let keys = with(|own: &mut Keys| own.seal.clone());
    match keys.is_empty() {
        true => Err(Failure::Denied("the mount grants no key for sealing".to_owned())),
        false => Ok(keys),
    }
}

fn at_most(limit: usize, bytes: &[u8]) -> Result<(), Failure> {
    match bytes.len() > limit {
        true => Err(Failure::TooLarge(limit as u64)),
        false => Ok(()),
    }
}

/// The bytes of a finished MAC.
fn sum(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    mac(key, parts).map(|mac| mac.finalize().into_bytes().to_vec()).unwrap_or_default()
}

fn id(key: &[u8]) -> Vec<u8> {
    let mut id = sum(key, &[b"id"]);
    id.truncate(ID);
    id
}

fn tag(key: &[u8], sealed: &[u8], context: &[u8]) -> Vec<u8> {
    let length = (context.len() as u64).to_be_bytes();
    let mut tag = sum(key, &[b"tag", &length, context, sealed]);
    tag.truncate(TAG);
    tag
}

/// Encrypts, or decrypts what it encrypted.
fn cipher(key: &[u8], header: &[u8], bytes: &[u8]) -> Vec<u8> {
    let stream = (0_u64..).flat_map(|block| sum(key, &[b"stream", header, &block.to_be_bytes()]));
    bytes.iter().zip(stream).map(|(byte, mask)| byte ^ mask).collect()
}

impl Host {
    /// Grants a key to sign with.
    pub fn hmac_key(&self, name: &str, key: &[u8]) {
        with(|own: &mut Keys| own.hmac.insert(name.to_owned(), key.to_vec()));
    }

    /// Grants keys for sealing, in place of those before: the first one seals, all of them open.
    pub fn seal_keys(&self, keys: &[&[u8]]) {
        with(|own: &mut Keys| own.seal = keys.iter().map(|key| key.to_vec()).collect());
    }
}

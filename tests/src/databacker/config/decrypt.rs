//! Decrypting a configuration, step by step: X25519, HSalsa20, HKDF, and one of two ciphers.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use serde_json::Value;
use x25519_dalek::PublicKey;

use crate::databacker::seed::Seed;

/// What the key is derived for.
const INFO: &[u8] = b"SymmetricKey";

struct ThirtyTwo;

impl KeyType for ThirtyTwo {
    fn len(&self) -> usize {
        32
    }
}

/// Decrypts the spec of an encrypted configuration.
///
/// # Errors
///
/// If it is not for this instance, or was changed.
pub fn decrypt(spec: &Value, seed: &Seed) -> Result<Vec<u8>, String> {
    let text = |name: &str| match spec[name].as_str() {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(format!("empty {name}")),
    };
    let algorithm = match text("algorithm")? {
        "aes256-gcm" => &AES_256_GCM,
        "chacha20-poly1305" => &CHACHA20_POLY1305,
        other => return Err(format!("unknown algorithm: {other}")),
    };
    if text("recipientPublicKey")? != seed.encryption_public_key() {
        return Err("the configuration is for another key".to_owned());
    }
    let bytes = |name: &str| {
        BASE64_STANDARD.decode(text(name)?).map_err(|error| format!("{name}: {error}"))
    };
    let sender: [u8; 32] =
        bytes("senderPublicKey")?.try_into().map_err(|_| "senderPublicKey: not 32 bytes")?;
    let mut data = bytes("data")?;
    let nonce = data.get(..12).ok_or("data: no nonce")?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
    let key = symmetric_key(&shared_key(seed, sender));
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &key).unwrap());
    let opened = key.open_within(nonce, Aad::empty(), &mut data, 12..);
    Ok(opened.map_err(|_| "data: cannot be decrypted")?.to_vec())
}

/// What NaCl calls the precomputation of `box`.
pub fn shared_key(seed: &Seed, sender: [u8; 32]) -> [u8; 32] {
    let agreed = seed.secret().diffie_hellman(&PublicKey::from(sender));
    hsalsa20(agreed.as_bytes(), &[0; 16])
}

fn symmetric_key(shared: &[u8; 32]) -> [u8; 32] {
    let extracted = Salt::new(HKDF_SHA256, &[0; 32]).extract(shared);
    let mut key = [0; 32];
    extracted.expand(&[INFO], ThirtyTwo).unwrap().fill(&mut key).unwrap();
    key
}

/// The core of Salsa20 without the addition at its end; of its result, the words that are not known to everybody.
fn hsalsa20(key: &[u8; 32], input: &[u8; 16]) -> [u8; 32] {
    let word =
        |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[4 * at..4 * at + 4].try_into().unwrap());
    let constant = b"expand 32-byte k";
    let mut words = [0_u32; 16];
    for at in 0..4 {
        words[5 * at] = word(constant, at);
        words[1 + at] = word(key, at);
        words[11 + at] = word(key, 4 + at);
        words[6 + at] = word(input, at);
    }
    let mut turn = |a: usize, b: usize, c: usize, d: usize| {
        words[b] ^= words[a].wrapping_add(words[d]).rotate_left(7);
        words[c] ^= words[b].wrapping_add(words[a]).rotate_left(9);
        words[d] ^= words[c].wrapping_add(words[b]).rotate_left(13);
        words[a] ^= words[d].wrapping_add(words[c]).rotate_left(18);
    };
    for _ in 0..10 {
        turn(0, 4, 8, 12);
        turn(5, 9, 13, 1);
        turn(10, 14, 2, 6);
        turn(15, 3, 7, 11);
        turn(0, 1, 2, 3);
        turn(5, 6, 7, 4);
        turn(10, 11, 8, 9);
        turn(15, 12, 13, 14);
    }
    let mut out = [0; 32];
    for (at, from) in [0, 5, 10, 15, 6, 7, 8, 9].into_iter().enumerate() {
        out[4 * at..4 * at + 4].copy_from_slice(&words[from].to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use x25519_dalek::StaticSecret;

    use super::*;

    /// The protocol's own example: the keys are the bytes from 0 and from 32.
    const RECIPIENT: &str = "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=";
    const SENDER: &str = "NYBy1jZYgNGu6jKa35EhODhR7SGijjt16WXQ0s0WYlQ=";
    const AES: &str = "QEFCQ0RFRkdISUpLc2fHVG28c+4JZWXO49t5bibXC0OuyvJljfTAWHgFb4AJtTZ3GK2IMU3DRqK1XkmpdLjj0dVuqzL6Hj+dE9lTz4yIUo0=";
    const CHACHA: &str = "QEFCQ0RFRkdISUpLaS0yxJTM3MmmoFLpLuClKjVtgIUaBHxbSj+PDHdGmPHbiLd3qB2eeaTpthKWtVHXqkppMi/mpOTMMoUyIZwtBqvMXqQ=";

    fn bytes_from(first: u8) -> [u8; 32] {
        std::array::from_fn(|at| first + u8::try_from(at).unwrap())
    }

    fn hex_of(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    #[test]
    fn each_step_agrees_with_the_published_example() {
        let (recipient, sender) = (Seed::new(bytes_from(0)), Seed::new(bytes_from(32)));
        assert_eq!(recipient.encryption_public_key(), RECIPIENT);
        assert_eq!(sender.encryption_public_key(), SENDER);
        let public = |seed: &Seed| PublicKey::from(&seed.secret()).to_bytes();
        let secret: StaticSecret = recipient.secret();
        assert_eq!(
            secret.diffie_hellman(&PublicKey::from(public(&sender))).as_bytes().to_vec(),
            hex_of("9663aa1da97e848a914a436d04163dfbb89178f107f1b5b77ed3854203382854")
        );
        let shared = hex_of("429b61f5d96e37268dfc5114849d599c9ceabffdb68c1f52cd0499af30f5b377");
        assert_eq!(shared_key(&recipient, public(&sender)).to_vec(), shared);
        assert_eq!(shared_key(&sender, public(&recipient)).to_vec(), shared);
        assert_eq!(
            symmetric_key(&shared.try_into().unwrap()).to_vec(),
            hex_of("335fc63485c70ffb4f55cfc115289c9d6602eea4d0eea6894e01e723ce92014b")
        );
    }

    #[test]
    fn the_published_examples_are_decrypted() {
        let seed = Seed::new(bytes_from(0));
        for (algorithm, data) in [("aes256-gcm", AES), ("chacha20-poly1305", CHACHA)] {
            let spec = json!({
                "algorithm": algorithm,
                "recipientPublicKey": RECIPIENT,
                "senderPublicKey": SENDER,
                "data": data,
            });
            let plaintext = decrypt(&spec, &seed).unwrap();
            assert_eq!(plaintext, b"version: config.databack.io/v1\nkind: local\nspec: {}\n");

            let mut changed = spec.clone();
            changed["data"] = json!(data.replacen("QEFC", "QEFD", 1));
            assert_eq!(decrypt(&changed, &seed).unwrap_err(), "data: cannot be decrypted");
            assert!(decrypt(&spec, &Seed::random()).unwrap_err().contains("another key"));
        }
        assert_eq!(decrypt(&json!({}), &seed).unwrap_err(), "empty algorithm");
    }
}

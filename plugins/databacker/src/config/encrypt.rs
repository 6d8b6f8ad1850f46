//! Configurations that only their instance can read, in the form that its client decrypts: a key is agreed on between a
//! fresh X25519 key pair and the instance's, as in NaCl's `box`, and what is encrypted with it is the whole document.
//!
//! ```text
//! shared = HSalsa20(key: X25519(sender's private key, recipient's public key), input: 16 zero bytes)
//! key    = HKDF-SHA-256(shared, no salt, info: "SymmetricKey", 32 bytes)
//! data   = nonce (12 bytes), ciphertext, tag (16 bytes)
//! ```

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, KeyInit};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::ChaCha20Poly1305;
use hkdf::Hkdf;
use keepgate_sdk::{Failure, environment};
use salsa20::cipher::consts::U10;
use salsa20::hsalsa;
use serde_json::{Value, json};
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

/// What goes into the key besides the shared secret.
const INFO: &[u8] = b"SymmetricKey";
const NONCE: usize = 12;
/// The shortest data: a nonce and a tag.
pub(super) const SHORTEST: usize = NONCE + 16;

/// A cipher that clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Algorithm {
    /// The names of all of them.
    pub(super) const NAMES: &[&str] = &["aes256-gcm", "chacha20-poly1305"];

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Aes256Gcm, Self::ChaCha20Poly1305].into_iter().find(|one| one.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    fn encrypt(self, key: &[u8; 32], nonce: &[u8; NONCE], plaintext: &[u8]) -> Option<Vec<u8>> {
        let (key, nonce) = (key.into(), nonce.into());
        match self {
            Self::Aes256Gcm => Aes256Gcm::new(key).encrypt(nonce, plaintext).ok(),
            Self::ChaCha20Poly1305 => ChaCha20Poly1305::new(key).encrypt(nonce, plaintext).ok(),
        }
    }
}

/// The `spec` of an encrypted configuration for the instance with this public key, which is in base64. `None` if nothing
/// can be encrypted for it: it is no key, or one of the few with which everybody would know the secret.
pub(super) fn spec(
    algorithm: Algorithm,
    recipient: &str,
    plaintext: &[u8],
) -> Result<Option<Value>, Failure> {
    let sender = StaticSecret::from(random::<32>()?);
    let Some(key) = public_key(recipient).and_then(|public| symmetric(&sender, &public)) else {
        return Ok(None);
    };
    let nonce = random::<NONCE>()?;
    let ciphertext = algorithm
        .encrypt(&key, &nonce, plaintext)
        .ok_or_else(|| Failure::Internal("a configuration could not be encrypted".to_owned()))?;
    Ok(Some(json!({
        "algorithm": algorithm.name(),
        "recipientPublicKey": recipient,
        "senderPublicKey": BASE64_STANDARD.encode(PublicKey::from(&sender).as_bytes()),
        "data": BASE64_STANDARD.encode([&nonce[..], &ciphertext].concat()),
    })))
}

fn public_key(text: &str) -> Option<PublicKey> {
    let bytes: [u8; 32] = BASE64_STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(PublicKey::from(bytes))
}

/// The key that both sides come to. `None` if the public key is of low order: the result would be zero whatever the private
/// key is.
fn symmetric(own: &StaticSecret, theirs: &PublicKey) -> Option<[u8; 32]> {
    let raw = own.diffie_hellman(theirs);
    if !raw.was_contributory() {
        return None;
    }
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, &shared(raw.as_bytes())).expand(INFO, &mut key).ok()?;
    Some(key)
}

/// What NaCl's `box` makes of the result of X25519.
fn shared(raw: &[u8; 32]) -> [u8; 32] {
    hsalsa::<U10>(raw.into(), &[0; 16].into()).into()
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let length = u32::try_from(N).unwrap_or(u32::MAX);
    let bytes: Result<[u8; N], _> = environment::random(length).try_into();
    bytes.map_err(|_| Failure::Internal("the host gave another number of random bytes".to_owned()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const RECIPIENT: &str = "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=";
    const SENDER: &str = "NYBy1jZYgNGu6jKa35EhODhR7SGijjt16WXQ0s0WYlQ=";
    const PLAINTEXT: &[u8] = b"version: config.databack.io/v1\nkind: local\nspec: {}\n";

    fn bytes<const N: usize>(from: u8) -> [u8; N] {
        std::array::from_fn(|index| from + u8::try_from(index).unwrap())
    }

    /// The published vector: private keys 0 to 31 and 32 to 63, nonce 64 to 75.
    #[test]
    fn each_step_has_the_published_value() {
        let (recipient, sender) = (StaticSecret::from(bytes(0)), StaticSecret::from(bytes(32)));
        let of = |secret| BASE64_STANDARD.encode(PublicKey::from(secret).as_bytes());
        assert_eq!((of(&recipient), of(&sender)), (RECIPIENT.to_owned(), SENDER.to_owned()));
        let raw = sender.diffie_hellman(&public_key(RECIPIENT).unwrap());
        assert_eq!(
            hex::encode(raw.as_bytes()),
            "9663aa1da97e848a914a436d04163dfbb89178f107f1b5b77ed3854203382854"
        );
        assert_eq!(
            hex::encode(shared(raw.as_bytes())),
            "429b61f5d96e37268dfc5114849d599c9ceabffdb68c1f52cd0499af30f5b377"
        );
        let key = symmetric(&sender, &public_key(RECIPIENT).unwrap()).unwrap();
        assert_eq!(
            hex::encode(key),
            "335fc63485c70ffb4f55cfc115289c9d6602eea4d0eea6894e01e723ce92014b"
        );
        assert_eq!(symmetric(&recipient, &public_key(SENDER).unwrap()), Some(key));
        assert_eq!(PLAINTEXT.len(), 52);
        for (name, data) in [
            (
                "aes256-gcm",
                "QEFCQ0RFRkdISUpLc2fHVG28c+4JZWXO49t5bibXC0OuyvJljfTAWHgFb4AJtTZ3GK2IMU3DRqK1XkmpdLjj0dVuqzL6Hj+dE9lTz4yIUo0=",
            ),
            (
                "chacha20-poly1305",
                "QEFCQ0RFRkdISUpLaS0yxJTM3MmmoFLpLuClKjVtgIUaBHxbSj+PDHdGmPHbiLd3qB2eeaTpthKWtVHXqkppMi/mpOTMMoUyIZwtBqvMXqQ=",
            ),
        ] {
            let nonce = bytes::<NONCE>(64);
            let algorithm = Algorithm::named(name).unwrap();
            let ciphertext = algorithm.encrypt(&key, &nonce, PLAINTEXT).unwrap();
            assert_eq!(BASE64_STANDARD.encode([&nonce[..], &ciphertext].concat()), data, "{name}");
        }
    }

    /// What a client does with a spec.
    pub(crate) fn decrypt(spec: &Value, private: [u8; 32]) -> Vec<u8> {
        let sender = public_key(spec["senderPublicKey"].as_str().unwrap()).unwrap();
        let key = symmetric(&StaticSecret::from(private), &sender).unwrap();
        let data = BASE64_STANDARD.decode(spec["data"].as_str().unwrap()).unwrap();
        let (nonce, rest) = data.split_at(NONCE);
        let (key, nonce) = ((&key).into(), nonce.into());
        match spec["algorithm"].as_str().unwrap() {
            "aes256-gcm" => Aes256Gcm::new(key).decrypt(nonce, rest).unwrap(),
            _ => ChaCha20Poly1305::new(key).decrypt(nonce, rest).unwrap(),
        }
    }

    #[test]
    fn the_recipient_reads_what_was_encrypted_and_each_time_is_different() {
        let _host = keepgate_sdk::testing::Host::new();
        for name in Algorithm::NAMES {
            let algorithm = Algorithm::named(name).unwrap();
            let one = spec(algorithm, RECIPIENT, PLAINTEXT).unwrap().unwrap();
            let other = spec(algorithm, RECIPIENT, PLAINTEXT).unwrap().unwrap();
            assert_eq!(decrypt(&one, bytes(0)), PLAINTEXT);
            assert_ne!(one["data"], other["data"]);
            assert_ne!(one["senderPublicKey"], other["senderPublicKey"]);
        }
    }

    #[test]
    fn nothing_is_encrypted_for_keys_of_low_order() {
        let _host = keepgate_sdk::testing::Host::new();
        // The points of order 1, 2, 4 and 8, and what is equal to one of them.
        for hex in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        ] {
            let key = BASE64_STANDARD.encode(hex::decode(hex).unwrap());
            assert_eq!(spec(Algorithm::Aes256Gcm, &key, b"x").unwrap(), None, "{hex}");
        }
        assert_eq!(spec(Algorithm::Aes256Gcm, "AAAA", b"x").unwrap(), None);
    }
}

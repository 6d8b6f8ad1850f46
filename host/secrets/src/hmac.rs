//! HMAC-SHA256 (RFC 2104) under the bytes of a key as they are, because the other side computes the same with its own
//! tools. For what the gateway alone reads, see [`seal`](crate::seal), which derives its keys.

use std::fmt;

use ring::hmac;

use crate::material::Material;

/// The length of a MAC in bytes.
pub const MAC_LENGTH: usize = 32;

/// The fewest bytes of a key file: 128 bits, if they are random.
pub const MIN_KEY: usize = 16;

/// A key to sign with.
#[derive(Clone)]
pub struct HmacKey(hmac::Key);

impl HmacKey {
    /// The key that is these bytes.
    pub fn new(material: &Material) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &material.bytes))
    }

    /// The MAC of a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, message).as_ref().to_vec()
    }

    /// Whether this is the MAC of the message. Takes the same time however much of it is right.
    pub fn verify(&self, message: &[u8], mac: &[u8]) -> bool {
        hmac::verify(&self.0, message, mac).is_ok()
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey(..)")
    }
}

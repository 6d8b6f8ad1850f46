//! Keys of the operator: reading them from files, signing with them, and sealing with them.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`material`] | the bytes of a key file, and what is wrong with one |
//! | [`hmac`] | HMAC-SHA256 under a key that others may have too |
//! | [`seal`] | encryption for the gateway alone, with keys that can be replaced |
//!
//! Invariant: nothing here prints, logs or hands out a key. `Debug` of every type that holds one shows its name at the
//! most, and the bytes of a file are wiped when they are dropped. (What ring makes of a key is not: it has no way to.)

pub mod hmac;
pub mod material;
pub mod seal;

pub use hmac::{HmacKey, MAC_LENGTH};
pub use material::{Material, MaterialError};
pub use seal::{NotSealed, RANDOM_LENGTH, SealError, SealKeys};

/// The longest message to sign, and the longest plaintext to seal, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;
/// The longest context to seal for, in bytes.
pub const MAX_CONTEXT: usize = 1 << 10;

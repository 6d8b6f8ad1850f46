//! Tokens of an issuer: which are accepted, and from where the keys come. The issuer is a real server on loopback whose
//! requests are counted; the time is the tests' own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy allows them in test functions only, not in what these functions share"
)]

mod issuer;
mod keys;
mod signer;
mod tokens;

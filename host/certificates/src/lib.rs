//! Certificates and private keys: what is read from files, what is wrong with them, whom a client trusts, and
//! when they expire. The only crate that chooses a TLS library's cryptography.
//!
//! Operators get these files from many tools, in many forms. What can be understood is accepted; of the rest
//! each error names the file, the problem and the command that mends it.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`mod@client`] | certificates of clients: what stands in them, who issued them, whose key it is |
//! | [`mod@file`] | certificates and keys from PEM and DER files |
//! | [`mod@fingerprint`] | SHA-256 of a certificate, as people write it |
//! | [`mod@identity`] | a key with its chain, in the right order |
//! | [`mod@trust`] | whom a client trusts |
//! | [`mod@pin`] | trust in one certificate by its fingerprint |
//! | [`mod@validity`] | until when a certificate is valid |
//!
//! [`provider`] is *ring*, with the curve P-521 from RustCrypto (`p521`), because `etcd --auto-tls` and some
//! authorities use it. aws-lc-rs has everything in one, but is C code that takes as long to compile as the rest of
//! the HTTP server, for every target.

pub mod client;
pub mod file;
pub mod fingerprint;
pub mod identity;
mod p521;
pub mod pin;
pub mod trust;
pub mod validity;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

pub use client::{ClientCertificate, Distrust};
pub use file::{FileError, Item};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use identity::{Identity, IdentityError};
pub use validity::{State, Validity};

/// The cryptography for servers and clients.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        key_provider: &p521::KeyProvider,
        signature_verification_algorithms: p521::with_ring(),
        ..ring::default_provider()
    })
}

/// Makes [`provider`] the one that libraries use which cannot be given one.
pub fn install_provider() {
    // Fails if it has been done.
    let _ = CryptoProvider::clone(&provider()).install_default();
}

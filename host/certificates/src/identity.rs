//! A private key with its certificate chain, for servers and clients. The chain is brought into the order that
//! TLS wants: the key's certificate first, then its issuers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::file::{self, FileError};
use crate::validity::{self, Validity};

/// A private key with its chain.
#[derive(Clone, Debug)]
pub struct Identity {
    /// For rustls.
    pub certified: Arc<CertifiedKey>,
    /// Whether the file had the certificates in another order.
    pub sorted: bool,
    key_pem: String,
}

/// Why a certificate and a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// One of the files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key is of no certificate in the file.
    #[error(
        "the private key in {} does not match the certificate in {}; `openssl x509 -noout -pubkey -in \
         CERTIFICATE` and `openssl pkey -pubout -in KEY` have to print the same", key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },
    /// The key is of a kind that TLS here does not have.
    #[error(
        "cannot use the private key in {}: {what}; use RSA with at least 2048 bits, ECDSA with P-256, P-384 \
         or P-521, or Ed25519: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out KEY` \
         makes one, which needs a certificate of its own", key.display()
    )]
    Unsupported {
        /// The file of the key.
        key: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl Identity {
    /// Reads certificate and key, which must match. Blocks.
    ///
    /// # Errors
    ///
    /// Names the file and what to do.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let mut chain = file::certificates(certificate)?;
        let key_der = file::private_key(key)?;
        let key_pem = pem_of(&key_der);
        let signing = crate::provider().key_provider.load_private_key(key_der);
        let signing = signing.map_err(|error| IdentityError::Unsupported {
            key: key.to_owned(),
            what: unsupported(&chain, &error),
        })?;
        let Some(own) = chain.iter().position(|certificate| belongs(certificate, &*signing)) else {
            let (key, certificate) = (key.to_owned(), certificate.to_owned());
            return Err(IdentityError::Mismatch { key, certificate });
        };
        let before = chain.clone();
        let first = chain.remove(own);
        let chain = in_order(first, chain);
        let sorted = !before.starts_with(&chain);
        Ok(Self { certified: Arc::new(CertifiedKey::new(chain, signing)), sorted, key_pem })
    }

    /// The certificates: the key's own, then its issuers.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Until when the whole chain is valid.
    pub fn validity(&self) -> Option<Validity> {
        Validity::shortest(self.chain())
    }

    /// Chain and key in PEM, for libraries that take nothing else.
    pub fn to_pem(&self) -> (String, &str) {
        let chain = self.chain().iter();
        (chain.map(|one| file::to_pem("CERTIFICATE", one)).collect(), &self.key_pem)
    }
}

fn pem_of(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    file::to_pem(label, key.secret_der())
}

/// Whether this is the certificate of the key. rustls compares them too, but refuses X.509 version 1.
fn belongs(certificate: &CertificateDer<'_>, key: &dyn SigningKey) -> bool {
    let Some(public) = key.public_key() else {
        return true;
    };
    let parsed = validity::parse(certificate);
    parsed.is_some_and(|parsed| parsed.public_key().raw == public.as_ref())
}

/// The certificate, its issuer, and so on; then what is not part of this chain.
fn in_order(
    first: CertificateDer<'static>,
    mut others: Vec<CertificateDer<'static>>,
) -> Vec<CertificateDer<'static>> {
    others.retain(|other| *other != first);
    let mut chain = vec![first];
    loop {
        let issuer = chain.last().and_then(|last| {
            let last = validity::parse(last)?;
            let issues = |other: &CertificateDer<'_>| {
                let other = validity::parse(other);
                other.is_some_and(|other| other.subject().as_raw() == last.issuer().as_raw())
            };
            others.iter().position(issues)
        });
        match issuer {
            Some(index) => chain.push(others.remove(index)),
            None => break,
        }
    }
    chain.extend(others);
    chain
}

/// What is wrong with a key that rustls does not take.
fn unsupported(chain: &[CertificateDer<'_>], error: &rustls::Error) -> String {
    use x509_parser::public_key::PublicKey;
    let first = chain.first().and_then(validity::parse);
    let key = first.as_ref().and_then(|first| first.public_key().parsed().ok());
    match key {
        Some(PublicKey::RSA(rsa)) if rsa.key_size() < 2048 => {
            format!("RSA with {} bits is too weak", rsa.key_size())
        }
        _ => format!("it is of a kind that is not supported ({error})"),
    }
}

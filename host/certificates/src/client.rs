//! Certificates of clients: what stands in one, and whether it is valid by itself. Whom it identifies is not decided
//! here.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `authorities` | whether a trusted authority has issued it |
//! | `proof` | the handshake: the client is asked for a certificate and proves that it has the key |
//!
//! **Invariant:** every certificate that [`ClientCertificate::read`] accepts has been proven: the client has signed the
//! handshake with its key. `proof` lets a certificate pass without a proof only if this function refuses it, because a
//! failed handshake would leave the client with an alert instead of a response that says why. Both ask
//! `usable_key`, which looks at nothing but the certificate.

mod authorities;
mod proof;

use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use x509_parser::prelude::X509Certificate;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

use crate::Fingerprint;
use crate::validity;

pub use authorities::{Authorities, AuthoritiesError};
pub use proof::ProofOfKey;

/// Bytes of a subject or issuer that are kept. Certificates may be made by anybody.
const MAX_NAME: usize = 1024;

/// Bytes of a client's certificates that are kept for a connection. Chains are a few kilobytes long; TLS takes 64.
const MAX_CHAIN: usize = 16 * 1024;

/// What a client's certificate says. The client has its key.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    fingerprint: Fingerprint,
    spki: Fingerprint,
    subject: String,
    issuer: String,
    common_name: CommonName,
    not_before: i64,
    not_after: i64,
    for_clients: bool,
}

/// The common name in a certificate's subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommonName {
    /// There is none.
    Missing,
    /// There are several, or one that is not text.
    Ambiguous,
    /// This one.
    Text(String),
}

/// Why a client's certificate is not accepted. For logs: a client is told less.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// It cannot be read.
    #[error("it is not a valid X.509 certificate")]
    Malformed,
    /// Nobody can prove to have such a key.
    #[error(
        "its key is {0}; use RSA with 2048 to 8192 bits, ECDSA with P-256, P-384 or P-521, or Ed25519"
    )]
    Key(String),
    /// It will be valid later.
    #[error("it is not valid yet; compare its dates with this machine's clock")]
    NotYetValid,
    /// It was valid once.
    #[error("it has expired")]
    Expired,
    /// It is for other purposes.
    #[error("its extended key usage does not contain clientAuth")]
    NotForClients,
    /// None of the authorities has issued it.
    #[error("no trusted authority has issued it{}", if *.alone { ", and it came without intermediates" } else { "" })]
    UnknownIssuer {
        /// Whether the client sent no other certificate.
        alone: bool,
    },
    /// One of its issuers is not valid at this time.
    #[error("the authority, or a certificate between it and this one, is not valid at this time")]
    IssuerDates,
    /// X.509 version 1 has no extensions, so anybody's certificate could be used as an authority's.
    #[error(
        "it is X.509 version 1; issue it as version 3, with extensions, or list its fingerprint"
    )]
    Version1,
    /// An authority's own certificate.
    #[error("it is an authority's certificate (CA:TRUE), not a client's")]
    IsAuthority,
    /// Anything else between it and an authority.
    #[error("its chain cannot be verified: {0}")]
    Chain(String),
}

impl ClientCertificate {
    /// Reads the certificates of a handshake, the client's own first. Of an overlong chain, the end is left out.
    ///
    /// # Errors
    ///
    /// If the first one cannot be read, or has a key that nobody can prove to have.
    pub fn read(chain: &[CertificateDer<'static>]) -> Result<Self, Distrust> {
        let own = chain.first().ok_or(Distrust::Malformed)?;
        let parsed = validity::parse(own).ok_or(Distrust::Malformed)?;
        let spki = usable_key(&parsed)?;
        let usage = parsed.extended_key_usage().map_err(|_| Distrust::Malformed)?;
        let mut bytes = 0;
        let intermediates = chain.iter().skip(1).take_while(|certificate| {
            bytes += certificate.len();
            bytes <= MAX_CHAIN
        });
        Ok(Self {
            chain: std::iter::once(own).chain(intermediates).cloned().collect(),
            fingerprint: Fingerprint::of(own),
            spki: Fingerprint::of(&spki),
            subject: shown(parsed.subject()),
            issuer: shown(parsed.issuer()),
            common_name: common_name(parsed.subject()),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            for_clients: usage.is_none_or(|usage| usage.value.client_auth),
        })
    }

    /// Checks what it says about itself: its dates, and that it is for clients if it says for what it is. `now` is in
    /// seconds since 1970.
    ///
    /// # Errors
    ///
    /// Says what is wrong.
    pub fn check(&self, now: i64) -> Result<(), Distrust> {
        match () {
            () if now < self.not_before => Err(Distrust::NotYetValid),
            () if now > self.not_after => Err(Distrust::Expired),
            () if !self.for_clients => Err(Distrust::NotForClients),
            () => Ok(()),
        }
    }

    /// The SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The SHA-256 of its public key (`SubjectPublicKeyInfo`), which a renewed certificate may keep.
    pub fn spki_sha256(&self) -> Fingerprint {
        self.spki
    }

    /// Whose certificate it says to be: `CN=ann, O=Example`. Without control characters, and cut if it is very long.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// By whom it says to be issued, in the same form.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The common name in its subject.
    pub fn common_name(&self) -> &CommonName {
        &self.common_name
    }
}

/// The public key of a certificate, if signatures of such keys can be verified here.
fn usable_key(
    certificate: &X509Certificate<'_>,
) -> Result<SubjectPublicKeyInfoDer<'static>, Distrust> {
    let key = certificate.public_key();
    if let Ok(PublicKey::RSA(rsa)) = key.parsed()
        && !(2048..=8192).contains(&rsa.key_size())
    {
        return Err(Distrust::Key(format!("RSA with {} bits", rsa.key_size())));
    }
    let spki = SubjectPublicKeyInfoDer::from(key.raw.to_vec());
    if !proof::has_algorithm(&spki) {
        return Err(Distrust::Key(format!("of another kind ({})", key.algorithm.algorithm)));
    }
    Ok(spki)
}

fn common_name(subject: &X509Name<'_>) -> CommonName {
    let mut names = subject.iter_common_name();
    match (names.next(), names.next()) {
        (None, _) => CommonName::Missing,
        (Some(name), None) => match name.as_str() {
            Ok(name) => CommonName::Text(name.to_owned()),
            Err(_) => CommonName::Ambiguous,
        },
        (Some(_), Some(_)) => CommonName::Ambiguous,
    }
}

fn shown(name: &X509Name<'_>) -> String {
    let mut shown = String::new();
    for character in name.to_string().chars() {
        if shown.len() + character.len_utf8() > MAX_NAME {
            break;
        }
        shown.push(if character.is_control() { '\u{fffd}' } else { character });
    }
    shown
}

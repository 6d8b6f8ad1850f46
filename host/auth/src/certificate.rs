//! Clients that authenticate with a certificate. The handshake proves that a client has the key of its certificate;
//! whom it identifies is decided here, for each request, so that a certificate that is taken off a list is refused on
//! connections that are open already.
//!
//! What the operator trusts is tried in this order:
//!
//! | what the operator trusts | name of the user | claim `verified` |
//! | --- | --- | --- |
//! | a list of fingerprints ([`FingerprintList`]) | the name in the list | `fingerprint` |
//! | authorities | the common name of the subject | `ca` |
//! | whoever has the key of any certificate | the SHA-256 of the key | `no` |
//!
//! The first two accept a certificate only while it is valid, and if it says for what it is, only if that is for
//! clients. The third looks at nothing but the key, which is all that has been proven, so that is the name: programs
//! make certificates for keys that a plugin knows, with whatever dates.
//!
//! An authority's common name must be acceptable as a user's name in an htpasswd file. There is no second place to take
//! a name from: an authority that checks one name of a certificate need not have checked the others.

mod list;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use keepgate_certificates::client::{Authorities, CommonName};
use keepgate_certificates::{ClientCertificate, Distrust, Fingerprint, validity};
use keepgate_core::Principal;
use rustls_pki_types::CertificateDer;

use crate::htpasswd::is_user_name;

pub use list::{CHECK_EVERY, FingerprintList, ListError};

/// For how many seconds the verification of a chain is remembered on a connection: it costs as much as a handshake. The
/// dates of the client's own certificate are checked each time, and so is the list.
const REMEMBER: i64 = 60;

/// Which certificates of clients are accepted.
#[derive(Debug, Default)]
pub struct Certificates {
    /// Single certificates, with the names of their users.
    pub list: Option<Arc<FingerprintList>>,
    /// Whose certificates are accepted.
    pub authorities: Option<Arc<Authorities>>,
    /// Whether every other certificate is accepted too, whatever is in it, because the plugin judges its key.
    pub any_key: bool,
}

/// The certificate that a client presented when it connected. Read once per connection.
pub struct PresentedCertificate {
    fingerprint: Fingerprint,
    read: Result<ClientCertificate, Distrust>,
    /// What authorities said about it, and when.
    verified: Mutex<Vec<Verification>>,
}

struct Verification {
    by: Arc<Authorities>,
    at: i64,
    outcome: Result<(), Distrust>,
}

impl PresentedCertificate {
    /// Reads what a client presented, its own certificate first; `None` if that is nothing. The handshake must have
    /// proven, by [`ProofOfKey`](keepgate_certificates::client::ProofOfKey), that the client has its key.
    pub fn new(chain: &[CertificateDer<'static>]) -> Option<Self> {
        let fingerprint = Fingerprint::of(chain.first()?);
        let read = ClientCertificate::read(chain);
        Some(Self { fingerprint, read, verified: Mutex::default() })
    }

    /// The SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whose certificate it says to be; empty if it cannot be read.
    pub fn subject(&self) -> &str {
        self.read.as_ref().map_or("", ClientCertificate::subject)
    }

    fn verify(
        &self,
        certificate: &ClientCertificate,
        by: &Arc<Authorities>,
        now: i64,
    ) -> Result<(), Distrust> {
        let fresh = |known: &Verification| (known.at..=known.at + REMEMBER).contains(&now);
        let verified = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut verified = verified();
            verified.retain(fresh);
            if let Some(known) = verified.iter().find(|known| Arc::ptr_eq(&known.by, by)) {
                return known.outcome.clone();
            }
        }
        // Requests of one connection may do this twice; none waits for another.
        let outcome = by.verify(certificate, now);
        verified().push(Verification { by: by.clone(), at: now, outcome: outcome.clone() });
        outcome
    }
}

impl Certificates {
    /// The user whose certificate this is, or why it is not accepted, for the log.
    pub(crate) async fn identify(
        &self,
        presented: &PresentedCertificate,
    ) -> Result<Principal, Cow<'static, str>> {
        let certificate = presented.read.as_ref().map_err(reason)?;
        match self.vouch(presented, certificate).await {
            Ok(principal) => Ok(principal),
            Err(_) if self.any_key => {
                Ok(principal(certificate, certificate.spki_sha256().to_string(), "no"))
            }
            Err(reason) => Err(reason),
        }
    }

    /// The user according to the list or an authority.
    async fn vouch(
        &self,
        presented: &PresentedCertificate,
        certificate: &ClientCertificate,
    ) -> Result<Principal, Cow<'static, str>> {
        let now = validity::now();
        certificate.check(now).map_err(|distrust| reason(&distrust))?;
        let mut reasons = Vec::new();
        if let Some(list) = &self.list {
            if let Some(name) = list.name(&presented.fingerprint).await {
                return Ok(principal(certificate, name, "fingerprint"));
            }
            reasons.push(Cow::from("its fingerprint is not in the list"));
        }
        if let Some(authorities) = &self.authorities {
            let verified = presented.verify(certificate, authorities, now);
            match verified.map_err(|distrust| reason(&distrust)).and_then(|()| name(certificate)) {
                Ok(name) => return Ok(principal(certificate, name, "ca")),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; ").into())
    }
}

fn reason(distrust: &Distrust) -> Cow<'static, str> {
    distrust.to_string().into()
}

/// The name of the user in a certificate that a trusted authority has issued.
fn name(certificate: &ClientCertificate) -> Result<String, Cow<'static, str>> {
    match certificate.common_name() {
        CommonName::Text(name) if is_user_name(name) => Ok(name.clone()),
        CommonName::Text(name) => Err(format!(
            "its common name {name:?} is not the name of a user, which has only letters, digits and the characters \
             @ . _ -"
        )
        .into()),
        CommonName::Missing => Err("its subject has no common name, which would be the user's".into()),
        CommonName::Ambiguous => {
            Err("its subject has more than one common name, or one that is not text".into())
        }
    }
}

fn principal(certificate: &ClientCertificate, name: String, verified: &str) -> Principal {
    let claims = [
        ("fingerprint", certificate.fingerprint().to_string()),
        ("spki-sha256", certificate.spki_sha256().to_string()),
        ("subject", certificate.subject().to_owned()),
        ("issuer", certificate.issuer().to_owned()),
        ("verified", verified.to_owned()),
    ];
    let claims = claims.map(|(name, value)| (name.to_owned(), value)).into();
    Principal { name, method: "certificate".into(), claims }
}

impl fmt::Debug for PresentedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresentedCertificate")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

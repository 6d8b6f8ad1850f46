//! Until when a certificate is valid, and what stands in it about that.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::X509Version;

/// A certificate that expires within this time expires *soon*. Certificates of 90 days are usually renewed 30
/// days before their end, so that one that gets here was not.
pub const SOON_DAYS: i64 = 21;

const DAY: i64 = 24 * 60 * 60;

/// The time for which a certificate is valid, in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Whose certificate it is, for people: `CN=backup.example`.
    pub subject: String,
    /// Not before this time.
    pub not_before: i64,
    /// Not after this time.
    pub not_after: i64,
}

/// A certificate at a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It will be valid later.
    NotYetValid,
    /// It is valid.
    Valid,
    /// It is valid for at most [`SOON_DAYS`]. Holds the whole days that are left.
    ExpiresSoon(i64),
    /// It was valid once.
    Expired,
}

impl Validity {
    /// Of one certificate; `None` if it cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = parse(certificate)?;
        let validity = parsed.validity();
        Some(Self {
            subject: parsed.subject().to_string(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// Of the certificate that expires first: that of a chain, of which each link is needed.
    pub fn shortest(certificates: &[CertificateDer<'_>]) -> Option<Self> {
        certificates.iter().filter_map(Self::of).min_by_key(|validity| validity.not_after)
    }

    /// Of the certificate that expires last: that of authorities, of which each is an alternative.
    pub fn longest(certificates: &[CertificateDer<'_>]) -> Option<Self> {
        certificates.iter().filter_map(Self::of).max_by_key(|validity| validity.not_after)
    }

    /// How it is at this time, in seconds since 1970.
    pub fn state(&self, now: i64) -> State {
        let left = self.not_after.saturating_sub(now);
        match left {
            _ if now < self.not_before => State::NotYetValid,
            ..0 => State::Expired,
            _ if left <= SOON_DAYS * DAY => State::ExpiresSoon(left / DAY),
            _ => State::Valid,
        }
    }
}

/// The time now, in seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Reads a certificate of any version.
pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Some(parsed),
        _ => None,
    }
}

/// Fails if a certificate is not valid at this time.
pub(crate) fn check_dates(parsed: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// The key of a certificate of X.509 version 1, which webpki does not read; its key is all that a signature needs. `None`
/// for other versions.
pub(crate) fn key_of_version_1(
    certificate: &CertificateDer<'_>,
) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let parsed = parse(certificate)?;
    let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw).into_owned();
    (parsed.version() == X509Version::V1).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_expires_soon_before_it_has_expired() {
        let validity = Validity { subject: String::new(), not_before: 0, not_after: 100 * DAY };
        for (now, state) in [
            (-1, State::NotYetValid),
            (0, State::Valid),
            (79 * DAY - 1, State::Valid),
            (79 * DAY, State::ExpiresSoon(21)),
            (98 * DAY + 1, State::ExpiresSoon(1)),
            (100 * DAY, State::ExpiresSoon(0)),
            (100 * DAY + 1, State::Expired),
        ] {
            assert_eq!(validity.state(now), state, "{now}");
        }
    }
}

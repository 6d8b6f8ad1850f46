//! Authorities whose certificates for clients are accepted.

use std::path::{Path, PathBuf};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath, anchor_from_trusted_cert};
use x509_parser::prelude::X509Certificate;
use x509_parser::x509::X509Version;

use crate::client::{ClientCertificate, Distrust};
use crate::file::{self, FileError};
use crate::{p521, validity};

/// Authorities that an operator trusts.
#[derive(Debug)]
pub struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
    /// Of each anchor, in the same order: from when until when it is valid, in seconds since 1970.
    dates: Vec<(i64, i64)>,
}

/// Why a file of authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A certificate in it is not of an authority.
    #[error(
        "certificate number {number} in {} is not an authority's: {why}; to trust one client, list the fingerprint \
         of its certificate", path.display()
    )]
    NotAnAuthority {
        /// The file.
        path: PathBuf,
        /// Which of its certificates, from 1.
        number: usize,
        /// What it lacks.
        why: &'static str,
    },
}

impl Authorities {
    /// Reads all certificates of these files. Each must be an authority's: whoever has its key can make certificates
    /// for anybody. Blocks.
    ///
    /// # Errors
    ///
    /// Names the file, the certificate and what to do.
    pub fn load(files: &[PathBuf]) -> Result<Self, AuthoritiesError> {
        let mut all = Self { anchors: Vec::new(), dates: Vec::new() };
        for path in files {
            for (index, certificate) in file::certificates(path)?.iter().enumerate() {
                all.add(certificate).map_err(|why| not_an_authority(path, index + 1, why))?;
            }
        }
        Ok(all)
    }

    fn add(&mut self, certificate: &CertificateDer<'_>) -> Result<(), &'static str> {
        const UNREADABLE: &str = "it cannot be read as one";
        let parsed = validity::parse(certificate).ok_or(UNREADABLE)?;
        check_authority(&parsed)?;
        let anchor = anchor_from_trusted_cert(certificate).map_err(|_| UNREADABLE)?;
        let dates = parsed.validity();
        self.anchors.push(anchor.to_owned());
        self.dates.push((dates.not_before.timestamp(), dates.not_after.timestamp()));
        Ok(())
    }

    /// Verifies that one of the authorities has issued a certificate, directly or through the intermediates that the
    /// client sent. `now` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// Says why it is not trusted.
    pub fn verify(&self, certificate: &ClientCertificate, now: i64) -> Result<(), Distrust> {
        let (own, intermediates) = certificate.chain.split_first().ok_or(Distrust::Malformed)?;
        let explain = |error: webpki::Error| explain(&error, intermediates.is_empty());
        let own = EndEntityCert::try_from(own).map_err(explain)?;
        let seconds = u64::try_from(now).unwrap_or(0);
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        // webpki does not look at the dates of an authority.
        let is_valid = |path: &VerifiedPath<'_>| match self.is_valid(path.anchor(), now) {
            true => Ok(()),
            false => Err(webpki::Error::CertExpired { time, not_after: time }),
        };
        own.verify_for_usage(
            p521::with_ring().all,
            &self.anchors,
            intermediates,
            time,
            KeyUsage::client_auth(),
            None,
            Some(&is_valid),
        )
        .map(|_| ())
        .map_err(explain)
    }

    fn is_valid(&self, anchor: &TrustAnchor<'_>, now: i64) -> bool {
        let mut all = self.anchors.iter().zip(&self.dates);
        all.any(|(known, (begin, end))| known == anchor && (*begin..=*end).contains(&now))
    }
}

/// webpki believes that every certificate that it is given as an anchor is an authority's.
fn check_authority(certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
    if certificate.version() != X509Version::V3 {
        return Err("X.509 before version 3 cannot say so");
    }
    let constraints = certificate.basic_constraints().ok().flatten();
    if !constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err("its basic constraints do not say CA:TRUE");
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => {
            Err("its key usage does not let it sign certificates")
        }
        Ok(_) => Ok(()),
        Err(_) => Err("its key usage cannot be read"),
    }
}

fn not_an_authority(path: &Path, number: usize, why: &'static str) -> AuthoritiesError {
    AuthoritiesError::NotAnAuthority { path: path.to_owned(), number, why }
}

/// `alone` says that the client sent no intermediates.
fn explain(error: &webpki::Error, alone: bool) -> Distrust {
    match error {
        webpki::Error::UnknownIssuer => Distrust::UnknownIssuer { alone },
        // Those of the client's own certificate have been checked before.
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
            Distrust::IssuerDates
        }
        webpki::Error::RequiredEkuNotFoundContext(_) => Distrust::NotForClients,
        webpki::Error::UnsupportedCertVersion => Distrust::Version1,
        webpki::Error::CaUsedAsEndEntity => Distrust::IsAuthority,
        other => Distrust::Chain(other.to_string()),
    }
}

//! SHA-256 fingerprints of certificates, as people write them: with or without colons, in either case.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// The SHA-256 of a certificate's DER, or of a part of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

/// A text that is not a SHA-256 fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// It has other characters, or colons elsewhere than between bytes.
    #[error("expected 64 hexadecimal digits, with or without a colon between bytes, found {0:?}")]
    Text(String),
    /// It is hexadecimal and has another length.
    #[error(
        "expected the 64 hexadecimal digits of SHA-256, found {digits}{}; `keepgate certificate fingerprint FILE` \
         prints them", if *.digits == 40 { " (as many as SHA-1 has)" } else { "" }
    )]
    Length {
        /// The number of digits.
        digits: usize,
    },
}

impl Fingerprint {
    /// Of these bytes.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let wrong = || FingerprintError::Text(text.chars().take(100).collect());
        let digits = match text.contains(':') {
            false => text.to_owned(),
            true if text.split(':').all(|byte| byte.len() == 2) => text.replace(':', ""),
            true => return Err(wrong()),
        };
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        match hex::decode_to_slice(&digits, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(FingerprintError::Length { digits: digits.len() }),
        }
    }
}

/// In lower case, without colons.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_tools_print_them() {
        let expected = Fingerprint::of(b"a certificate");
        let plain = expected.to_string();
        let pairs: Vec<&str> = (0..64).step_by(2).map(|at| &plain[at..at + 2]).collect();
        let colons = pairs.join(":");
        for text in [&plain, &plain.to_uppercase(), &colons, &colons.to_uppercase()] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        let error = |text: &str| text.parse::<Fingerprint>().unwrap_err();
        assert_eq!(error(&plain[..12]), FingerprintError::Length { digits: 12 });
        assert_eq!(error(&format!("{plain}00")), FingerprintError::Length { digits: 66 });
        assert_eq!(error(&plain[1..]), FingerprintError::Length { digits: 63 });
        assert!(error(&plain[..40]).to_string().contains("SHA-1"));
        for text in ["00ff", &"0".repeat(63), &"0".repeat(65), &"+f".repeat(32), &"é".repeat(32)] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
        for text in ["", ":", "ann", "x".repeat(64).as_str(), &plain.replacen("", ":", 2)] {
            assert!(matches!(error(text), FingerprintError::Text(_)), "{text}");
        }
    }
}

//! The password hashes supported in an htpasswd file: bcrypt and `{SHA}`. To add a scheme, add a variant
//! of `Hash` and parse it in `Hash::parse`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

/// The length of every bcrypt hash.
const BCRYPT_LENGTH: usize = 60;

/// A salt and digest of zeros in bcrypt's base64.
const BCRYPT_ZEROS: &str = ".....................................................";

/// A user's password hash.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Hash {
    /// `$2a$`, `$2b$` or `$2y$`.
    Bcrypt { text: String, cost: u32 },
    /// `{SHA}`: unsalted SHA-1. Weak, but needed for compatibility.
    Sha1([u8; 20]),
}

impl Hash {
    /// Parses a hash from a file. The error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(digest) = text.strip_prefix("{SHA}") {
            let digest = STANDARD.decode(digest).ok().and_then(|digest| digest.try_into().ok());
            return digest
                .map(Self::Sha1)
                .ok_or_else(|| "{SHA} must be followed by 20 bytes in base64".to_owned());
        }
        if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            return bcrypt_cost(text).map(|cost| Self::Bcrypt { text: text.to_owned(), cost });
        }
        let scheme = match text {
            "" => return Err("the hash is missing".to_owned()),
            text if text.starts_with("$apr1$") => "MD5 hashes ($apr1$)",
            text if text.starts_with("$1$") => "MD5 hashes ($1$)",
            text if text.starts_with("$5$") => "SHA-256 hashes ($5$)",
            text if text.starts_with("$6$") => "SHA-512 hashes ($6$)",
            text if text.starts_with("$2x$") => "hashes of a broken bcrypt ($2x$)",
            text if text.starts_with("$argon2") => "Argon2 hashes",
            text if text.starts_with("{SSHA}") => "salted SHA-1 hashes ({SSHA})",
            _ => "plain passwords and crypt(3) hashes",
        };
        Err(format!(
            "{scheme} are not supported; create a bcrypt hash, for example with htpasswd -B"
        ))
    }

    /// A bcrypt hash that matches no password, to spend the same work on unknown users.
    pub(crate) fn nobody(cost: u32) -> Self {
        Self::Bcrypt { text: format!("$2b${cost:02}${BCRYPT_ZEROS}"), cost }
    }

    /// True if this is the hash of the password. bcrypt computes for tens of milliseconds: do not call it
    /// on asynchronous threads.
    pub(crate) fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt { text, .. } => bcrypt::verify(password, text).unwrap_or(false),
            Self::Sha1(digest) => Sha1::digest(password).as_slice().ct_eq(digest).into(),
        }
    }
}

fn bcrypt_cost(text: &str) -> Result<u32, String> {
    let cost = text.get(4..6).and_then(|cost| cost.parse().ok());
    let cost = cost.filter(|cost| (4..=31).contains(cost));
    let cost = cost.ok_or("the cost of a bcrypt hash must be from 04 to 31")?;
    let digest = text.get(7..).unwrap_or_default();
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
    let whole = text.len() == BCRYPT_LENGTH && text.get(6..7) == Some("$");
    if !whole || !digest.bytes().all(alphabet) {
        return Err("the bcrypt hash is cut off or has invalid characters".to_owned());
    }
    Ok(cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifies_every_version_of_bcrypt_and_sha() {
        let bcrypt = bcrypt::hash_with_result("pässword", 4).unwrap();
        for version in [bcrypt::Version::TwoA, bcrypt::Version::TwoB, bcrypt::Version::TwoY] {
            let hash = Hash::parse(&bcrypt.format_for_version(version)).ok().unwrap();
            assert!(hash.verify("pässword".as_bytes()));
            assert!(!hash.verify(b"password"));
            assert!(!hash.verify(b""));
        }
        // From the documentation of Apache's htpasswd: SHA-1 of "myPassword".
        let sha = Hash::parse("{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=").ok().unwrap();
        assert!(sha.verify(b"myPassword"));
        assert!(!sha.verify(b"mypassword"));
    }

    #[test]
    fn errors_name_what_is_not_supported() {
        let reason = |text: &str| Hash::parse(text).err().unwrap();
        assert!(reason("$apr1$x$y").contains("$apr1$"));
        assert!(reason("$6$x$y").contains("SHA-512"));
        assert!(reason("secret").contains("plain"));
        assert!(reason("").contains("missing"));
        assert!(reason("{SHA}abc").contains("{SHA}"));
        let good = bcrypt::hash("x", 4).unwrap();
        assert!(reason(&good[..59]).contains("cut off"));
        assert!(reason(&format!("{good}A")).contains("cut off"));
        assert!(reason(&good.replace("$04$", "$03$")).contains("cost"));
        assert!(reason(&good.replace("$04$", "$4$a")).contains("cost"));
        assert!(reason("$2y$10$é").contains("cut off"));
    }

    #[test]
    fn the_hash_for_unknown_users_costs_a_full_check() {
        let nobody = Hash::nobody(4);
        let Hash::Bcrypt { text, .. } = &nobody else { panic!("not bcrypt") };
        // A comparison that fails, not an error, which would return at once.
        assert!(!bcrypt::verify("x", text).unwrap());
        assert!(Hash::parse(text).ok() == Some(nobody));
    }
}

//! The password hashes that an htpasswd file may hold: bcrypt and `{SHA}`. A new scheme is added
//! here, in `parse` and in `Hash`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

/// A bcrypt hash is as long as this, whatever its cost.
const BCRYPT_LENGTH: usize = 60;

/// The alphabet of bcrypt's own base64; in a salt or digest of zeros it is its first character.
const BCRYPT_ZEROS: &str = ".....................................................";

/// How a user's password is kept.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Hash {
    /// `$2a$`, `$2b$` or `$2y$`.
    Bcrypt { text: String, cost: u32 },
    /// `{SHA}`: SHA-1 without salt, which is cheap to guess, but asked for by compatibility.
    Sha1([u8; 20]),
}

impl Hash {
    /// Reads a hash as it stands in a file. The error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(digest) = text.strip_prefix("{SHA}") {
            let digest = STANDARD.decode(digest).ok().and_then(|digest| digest.try_into().ok());
            return digest
                .map(Self::Sha1)
                .ok_or_else(|| "after {SHA} there must be the base64 of 20 bytes".to_owned());
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
            text if text.starts_with("$2x$") => "hashes by a broken bcrypt ($2x$)",
            text if text.starts_with("$argon2") => "Argon2 hashes",
            text if text.starts_with("{SSHA}") => "salted SHA-1 hashes ({SSHA})",
            _ => "plain passwords and crypt(3) hashes",
        };
        Err(format!("{scheme} cannot be used: make a bcrypt one, for instance with htpasswd -B"))
    }

    /// A bcrypt hash that no password has, to spend as much work on as on a real one.
    pub(crate) fn nobody(cost: u32) -> Self {
        Self::Bcrypt { text: format!("$2b${cost:02}${BCRYPT_ZEROS}"), cost }
    }

    /// True where this is the hash of the password. A bcrypt hash takes tens of milliseconds of
    /// computing: not for asynchronous threads.
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
        return Err("the bcrypt hash is cut off or has characters that it cannot have".to_owned());
    }
    Ok(cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifies_each_kind_of_bcrypt_and_sha() {
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
    fn names_what_cannot_be_used() {
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
    fn nobodys_hash_takes_the_work_of_a_real_one() {
        let nobody = Hash::nobody(4);
        let Hash::Bcrypt { text, .. } = &nobody else { panic!("not bcrypt") };
        // Not an error, which would return at once, but a comparison that fails.
        assert!(!bcrypt::verify("x", text).unwrap());
        assert!(Hash::parse(text).ok() == Some(nobody));
    }
}

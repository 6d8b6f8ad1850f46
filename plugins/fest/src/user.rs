//! Whose manifests and uploads they are. A user is the namespace of names of manifests, and what has come of a file is
//! its uploader's alone.

use keepgate_sdk::{Failure, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use crate::problem;

/// What stays as it is in a segment of a key.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'@');
/// Longer ones are hashed, so that they fit into the key of a record.
const LONGEST: usize = 100;

/// A user, as a segment of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User(String);

impl User {
    /// The user of a request. Fails with 401 if nobody was authenticated.
    pub(crate) fn of(request: &Request) -> Result<Self, Failure> {
        match &request.principal {
            Some(principal) if !principal.name.is_empty() => Ok(Self::named(&principal.name)),
            _ => Err(problem::failure(401, "unauthorized", "log in first")),
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        Self(segment(name))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text as a segment of a key, of at most 100 bytes: no two texts have the same.
pub(crate) fn segment(text: &str) -> String {
    let encoded = utf8_percent_encode(text, PLAIN).to_string();
    if encoded.len() <= LONGEST {
        return encoded;
    }
    // No encoded text begins with it.
    format!("~{}", hex::encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_a_segment() {
        for (text, expected) in [
            ("ann", "ann"),
            ("ann@example-1_x", "ann@example-1_x"),
            ("a/b", "a%2Fb"),
            ("..", "%2E%2E"),
            ("~x", "%7Ex"),
            (".keepgate", "%2Ekeepgate"),
            ("é", "%C3%A9"),
        ] {
            assert_eq!(segment(text), expected);
        }
        let long = segment(&"x".repeat(101));
        assert!(long.starts_with('~') && long.len() == 65);
        assert_ne!(long, segment(&"x".repeat(102)));
    }
}

//! For whom a job works. In JSON it may be a name alone, as earlier gateways wrote it; what is known
//! besides may grow by fields.

use serde::{Deserialize, Serialize};

/// How a user was known of whom an earlier gateway kept the name alone.
const UNKNOWN_METHOD: &str = "job";

/// A user, as they were authenticated when their request started a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct User {
    /// Their name.
    pub name: String,
    /// How they were known, as in `htpasswd`.
    pub method: String,
    /// What else was known of them, as pairs of name and value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<(String, String)>,
}

impl User {
    /// Bytes of what else is known.
    pub(super) fn size(&self) -> usize {
        self.claims.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Name(String),
    User {
        name: String,
        method: String,
        #[serde(default)]
        claims: Vec<(String, String)>,
    },
}

impl From<Written> for User {
    fn from(written: Written) -> Self {
        match written {
            Written::Name(name) => {
                Self { name, method: UNKNOWN_METHOD.to_owned(), claims: Vec::new() }
            }
            Written::User { name, method, claims } => Self { name, method, claims },
        }
    }
}

//! The user a job works for. In JSON it may be a name alone, as earlier gateways wrote it; fields may
//! be added.

use serde::{Deserialize, Serialize};

/// The method of a user of whom an earlier gateway stored only the name.
const UNKNOWN_METHOD: &str = "job";

/// A user, as authenticated by the request that started a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct User {
    /// Their name.
    pub name: String,
    /// How they were authenticated, such as `htpasswd`.
    pub method: String,
    /// Further claims, as pairs of name and value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<(String, String)>,
}

impl User {
    /// The bytes of all claims.
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

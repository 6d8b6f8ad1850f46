//! Where the keys of an issuer are, as the operator says.

use std::fmt;
use std::path::PathBuf;

use super::fetch;

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// A URL, and the authorities for it if they are not the system's.
    Url {
        /// The URL of the set.
        url: String,
        /// A file of authorities.
        ca: Option<PathBuf>,
    },
    /// Wherever the issuer says that they are.
    Discovery {
        /// The issuer, which is a URL.
        issuer: String,
        /// A file of authorities.
        ca: Option<PathBuf>,
    },
}

impl KeySource {
    /// Checks the source as far as it goes without reading a file.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the URL.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::File(_) => Ok(()),
            Self::Url { url, ca } => fetch::check(url, ca.clone()),
            Self::Discovery { issuer, ca } => {
                fetch::check(&fetch::description_of(issuer), ca.clone())
            }
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url { url, .. } => f.write_str(url),
            Self::Discovery { issuer, .. } => f.write_str(&fetch::description_of(issuer)),
        }
    }
}

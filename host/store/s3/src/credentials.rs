//! Who the gateway is to the server: keys, and where they come from.
//!
//! Keys in files are read again every few seconds, so that rotated ones are used without a restart.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::config::BehaviorVersion;

/// How long keys of a file are used before they are read again; the SDK does it a few seconds earlier.
const FRESH: Duration = Duration::from_secs(30);

/// Who the gateway is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// What AWS' own tools use: environment, profile, web identity, container, instance role.
    Chain {
        /// A profile of `~/.aws`, instead of the default one.
        profile: Option<String>,
    },
    /// A profile of this file, which has the format of `~/.aws/credentials`.
    Shared {
        /// The file.
        file: PathBuf,
        /// The profile, if it is not `default`.
        profile: Option<String>,
    },
    /// These keys.
    Keys {
        /// The access key's id.
        id: String,
        /// The secret key.
        secret: String,
        /// The session's token, for temporary keys.
        token: Option<String>,
    },
    /// The keys in these files, each in one line.
    Files {
        /// The access key's id.
        id: PathBuf,
        /// The secret key.
        secret: PathBuf,
        /// The session's token, for temporary keys.
        token: Option<PathBuf>,
    },
}

/// Shows no secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain { profile } => f.debug_struct("Chain").field("profile", profile).finish(),
            Self::Shared { file, profile } => {
                f.debug_struct("Shared").field("file", file).field("profile", profile).finish()
            }
            Self::Keys { id, .. } => f.debug_struct("Keys").field("id", id).finish_non_exhaustive(),
            Self::Files { id, secret, token } => f
                .debug_struct("Files")
                .field("id", id)
                .field("secret", secret)
                .field("token", token)
                .finish(),
        }
    }
}

impl Credentials {
    /// Why they cannot be used, as far as files on this machine tell.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Self::Chain { .. } => None,
            Self::Shared { file, .. } => {
                let read = std::fs::read(file);
                read.err().map(|error| format!("cannot read {}: {error}", file.display()))
            }
            Self::Keys { id, secret, .. } => (id.is_empty() || secret.is_empty())
                .then(|| "the access key's id and its secret must not be empty".to_owned()),
            Self::Files { id, secret, token } => {
                let files = [Some(id), Some(secret), token.as_ref()];
                files.into_iter().flatten().find_map(|file| line(file).err())
            }
        }
    }

    /// The SDK's provider of these; the requests that it makes itself go through this client.
    pub(crate) async fn provider(
        &self,
        http: impl aws_sdk_s3::config::HttpClient + Clone + 'static,
        region: aws_sdk_s3::config::Region,
    ) -> Option<SharedCredentialsProvider> {
        match self {
            Self::Keys { id, secret, token } => {
                let token = token.clone();
                let keys =
                    aws_sdk_s3::config::Credentials::new(id, secret, token, None, "configuration");
                Some(SharedCredentialsProvider::new(keys))
            }
            Self::Files { .. } => Some(SharedCredentialsProvider::new(Reread {
                source: self.clone(),
                config: ProviderConfig::empty(),
            })),
            Self::Shared { .. } => {
                let config = ProviderConfig::default().with_region(Some(region));
                let config = config.with_http_client(http);
                Some(SharedCredentialsProvider::new(Reread { source: self.clone(), config }))
            }
            Self::Chain { profile } => {
                let mut chain = aws_config::defaults(BehaviorVersion::latest())
                    .http_client(http)
                    .region(region);
                if let Some(profile) = profile {
                    chain = chain.profile_name(profile);
                }
                Box::pin(chain.load()).await.credentials_provider()
            }
        }
    }
}

/// Keys of files, read again and again.
#[derive(Debug)]
struct Reread {
    source: Credentials,
    config: ProviderConfig,
}

impl ProvideCredentials for Reread {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.read())
    }
}

impl Reread {
    async fn read(&self) -> Result<aws_sdk_s3::config::Credentials, CredentialsError> {
        let until = SystemTime::now() + FRESH;
        match &self.source {
            Credentials::Files { id, secret, token } => {
                let read = (id.clone(), secret.clone(), token.clone());
                let read = tokio::task::spawn_blocking(move || {
                    let (id, secret, token) = read;
                    let token = token.as_deref().map(line).transpose()?;
                    Ok::<_, String>((line(&id)?, line(&secret)?, token))
                });
                let read = read.await.map_err(CredentialsError::unhandled)?;
                let (id, secret, token) = read.map_err(CredentialsError::invalid_configuration)?;
                let until = Some(until);
                Ok(aws_sdk_s3::config::Credentials::new(id, secret, token, until, "files"))
            }
            Credentials::Shared { file, profile } => {
                let files =
                    EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, file);
                let mut provider = ProfileFileCredentialsProvider::builder()
                    .configure(&self.config)
                    .profile_files(files.build());
                if let Some(profile) = profile {
                    provider = provider.profile_name(profile);
                }
                let mut keys = provider.build().provide_credentials().await.map_err(|error| {
                    CredentialsError::invalid_configuration(format!(
                        "{}: {}",
                        file.display(),
                        crate::error::explain(&error)
                    ))
                })?;
                if keys.expiry().is_none() {
                    *keys.expiry_mut() = Some(until);
                }
                Ok(keys)
            }
            Credentials::Chain { .. } | Credentials::Keys { .. } => {
                Err(CredentialsError::not_loaded_no_source())
            }
        }
    }
}

/// The only line of a file.
fn line(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let line = text.trim();
    if line.is_empty() || line.contains(char::is_whitespace) {
        return Err(format!("{}: expected one line with a key and nothing else", file.display()));
    }
    Ok(line.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_of_files_are_read_again() {
        let folder = tempfile::TempDir::new().unwrap();
        let (id, secret) = (folder.path().join("id"), folder.path().join("secret"));
        let files = Credentials::Files { id: id.clone(), secret: secret.clone(), token: None };
        assert!(files.problem().unwrap().contains("id: No such file"));
        std::fs::write(&id, "one\n").unwrap();
        std::fs::write(&secret, "\n").unwrap();
        assert!(files.problem().unwrap().contains("secret: expected one line"));
        std::fs::write(&secret, "s1\n").unwrap();
        assert_eq!(files.problem(), None);
        let reread = Reread { source: files, config: ProviderConfig::empty() };
        assert_eq!(reread.read().await.unwrap().secret_access_key(), "s1");
        std::fs::write(&secret, "s2").unwrap();
        let keys = reread.read().await.unwrap();
        assert_eq!((keys.access_key_id(), keys.secret_access_key()), ("one", "s2"));
        assert!(keys.expiry().is_some());
        std::fs::remove_file(&id).unwrap();
        let error = reread.read().await.unwrap_err();
        let error = crate::error::explain(&error);
        assert!(error.contains(&id.display().to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_profile_of_a_file_is_read_again() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("credentials");
        let profile =
            |secret: &str| format!("[b]\naws_access_key_id=i\naws_secret_access_key={secret}\n");
        std::fs::write(&file, profile("one")).unwrap();
        let source = Credentials::Shared { file: file.clone(), profile: Some("b".to_owned()) };
        let reread = Reread { source, config: ProviderConfig::empty() };
        assert_eq!(reread.read().await.unwrap().secret_access_key(), "one");
        std::fs::write(&file, profile("two")).unwrap();
        assert_eq!(reread.read().await.unwrap().secret_access_key(), "two");
    }
}

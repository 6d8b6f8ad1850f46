//! Versions of objects, and what keeps them: which there are, removing one for good, and the bucket's own settings.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{BucketVersioningStatus, EncodingType, ObjectLockEnabled};

use keepgate_store::StoreError;

use super::{Failure, Remote, listing};

/// A version of an object, or the mark that it was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) object: String,
    pub(crate) id: String,
    pub(crate) is_removal: bool,
    pub(crate) is_latest: bool,
}

/// Whether a bucket keeps what is replaced or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versioning {
    Off,
    Suspended,
    On,
}

/// What a bucket says about object lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockState {
    Off,
    On {
        /// Each object is locked when it is stored, whether or not that is asked for.
        by_default: bool,
    },
}

impl Remote {
    /// All versions of one object: first those with bytes, the newest first, then the marks of removals.
    pub(crate) async fn versions(&self, object: &str) -> Result<Vec<Version>, Failure> {
        let mut all = self.versions_below(object, true).await?;
        all.retain(|version| version.object == object);
        all.sort_by_key(|version| version.is_removal);
        Ok(all)
    }

    /// All versions of objects whose names begin with this; `exactly` says that only those that have no longer name
    /// are needed, which come first.
    pub(crate) async fn versions_below(
        &self,
        prefix: &str,
        exactly: bool,
    ) -> Result<Vec<Version>, Failure> {
        let mut all = Vec::new();
        let mut next: (Option<String>, Option<String>) = (None, None);
        loop {
            let list = self.client.list_object_versions().bucket(&self.options.bucket);
            let list = list
                .prefix(prefix)
                .encoding_type(EncodingType::Url)
                .set_key_marker(next.0)
                .set_version_id_marker(next.1);
            let name = ("ListObjectVersions", "cannot list the versions of a blob");
            let listed = self.ask(name, Box::pin(list.send())).await?;
            let encoded = listed.encoding_type() == Some(&EncodingType::Url);
            let mut keep = |key: Option<&str>, id: Option<&str>, is_removal, latest| {
                all.push(Version {
                    object: listing::decoded(key.unwrap_or_default(), encoded),
                    id: id.unwrap_or_default().to_owned(),
                    is_removal,
                    is_latest: latest == Some(true),
                });
            };
            for version in listed.versions() {
                keep(version.key(), version.version_id(), false, version.is_latest());
            }
            for marker in listed.delete_markers() {
                keep(marker.key(), marker.version_id(), true, marker.is_latest());
            }
            next.0 = listed.next_key_marker().map(|key| listing::decoded(key, encoded));
            next.1 = listed.next_version_id_marker().map(str::to_owned);
            let is_past = exactly && all.iter().any(|version| version.object != prefix);
            if listed.is_truncated() != Some(true) || next.0.is_none() || is_past {
                return Ok(all);
            }
        }
    }

    /// Removes one version for good. It is no error if there is none.
    pub(crate) async fn remove_version(&self, object: &str, id: &str) -> Result<(), Failure> {
        let delete = self.client.delete_object().bucket(&self.options.bucket).key(object);
        let name = ("DeleteObject", "cannot remove a version of a blob");
        match self.ask(name, Box::pin(delete.version_id(id).send())).await {
            Ok(_) | Err(Failure::Missing) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Removes one of the gateway's own objects for good: in a bucket with versions, the one of this version.
    pub(crate) async fn remove_own(
        &self,
        object: &str,
        version: Option<&str>,
    ) -> Result<(), Failure> {
        match version {
            Some(version) => match self.remove_version(object, version).await {
                // The bucket locks everything; hidden it can be nevertheless.
                Err(Failure::Store(StoreError::Denied(_))) => {
                    self.delete(object, &super::Guard::None).await
                }
                removed => removed,
            },
            None => self.delete(object, &super::Guard::None).await,
        }
    }

    /// Whether the bucket keeps versions, if it says so.
    pub(crate) async fn versioning(&self) -> Result<Versioning, Failure> {
        let get = self.client.get_bucket_versioning().bucket(&self.options.bucket);
        let name = ("GetBucketVersioning", "cannot ask for the bucket's versioning");
        let got = self.ask(name, Box::pin(get.send())).await?;
        Ok(match got.status() {
            Some(BucketVersioningStatus::Enabled) => Versioning::On,
            Some(_) => Versioning::Suspended,
            None => Versioning::Off,
        })
    }

    /// What the bucket says about object lock.
    pub(crate) async fn lock_state(&self) -> Result<LockState, Failure> {
        let get = self.client.get_object_lock_configuration().bucket(&self.options.bucket);
        let name = ("GetObjectLockConfiguration", "cannot ask for the bucket's object lock");
        // That there is none is an error with a code of its own, which not every server gives a 404.
        let send = async {
            match get.send().await {
                Ok(got) => Ok(Some(got)),
                Err(error) if has_none(&error) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let got = match self.ask(name, Box::pin(send)).await {
            Ok(got) => got,
            Err(Failure::Missing) => None,
            Err(failure) => return Err(failure),
        };
        let Some(found) = got.as_ref().and_then(|got| got.object_lock_configuration()) else {
            return Ok(LockState::Off);
        };
        if found.object_lock_enabled() != Some(&ObjectLockEnabled::Enabled) {
            return Ok(LockState::Off);
        }
        let by_default = found.rule().is_some_and(|rule| rule.default_retention().is_some());
        Ok(LockState::On { by_default })
    }
}

fn has_none<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    matches!(
        error.code(),
        Some("ObjectLockConfigurationNotFoundError" | "ObjectLockConfigurationNotFound")
    )
}

//! Where the blobs of a store are. Whatever differs between a folder and a bucket is decided here and in the two
//! files beside; the rest of the gateway sees a [`BlobStore`].

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use keepgate_store::BlobStore;
use keepgate_store_s3::Diagnosis;

use super::Environment;
use super::bucket::OpenBucket;
use super::folder::OpenFolder;
use super::look;
use super::overview::Report;
use crate::config::{self, Config};

#[derive(Clone, Debug)]
pub(crate) enum Backend {
    Folder(OpenFolder),
    Bucket(OpenBucket),
}

/// A look at a store that has begun.
pub(super) enum Look<'a> {
    Folder(&'a OpenFolder, look::Look),
    Bucket(&'a OpenBucket),
}

impl Backend {
    /// Opens it. If nothing has changed, it is the same as `before`.
    pub(super) async fn open(
        config: &Config,
        (name, store): (&str, &config::Store),
        before: Option<&Self>,
        environment: Environment<'_>,
    ) -> Result<Self> {
        match (&store.path, &store.s3) {
            (Some(path), None) => {
                let before = before.and_then(Self::folder);
                OpenFolder::open((name, path, store), before, environment.clock).map(Self::Folder)
            }
            (_, Some(bucket)) => {
                let before = before.and_then(Self::bucket);
                let bucket = (name, bucket.get_ref());
                OpenBucket::open(config, bucket, before, environment).await.map(Self::Bucket)
            }
            (None, None) => Err(no_place(name)),
        }
    }

    /// One that is not used before somebody asks for blobs, and makes nothing.
    pub(super) fn to_look_at(
        config: &Config,
        (name, store): (&str, &config::Store),
    ) -> Result<Self> {
        match (&store.path, &store.s3) {
            (Some(path), None) => Ok(Self::Folder(OpenFolder::to_look_at(path, store))),
            (_, Some(bucket)) => {
                OpenBucket::to_look_at(config, (name, bucket.get_ref())).map(Self::Bucket)
            }
            (None, None) => Err(no_place(name)),
        }
    }

    /// The blobs. As long as the store stays open, this is the same one.
    pub(super) fn blobs(&self) -> &Arc<dyn BlobStore> {
        match self {
            Self::Folder(folder) => &folder.blobs,
            Self::Bucket(bucket) => &bucket.blobs,
        }
    }

    fn folder(&self) -> Option<&OpenFolder> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Bucket(_) => None,
        }
    }

    fn bucket(&self) -> Option<&OpenBucket> {
        match self {
            Self::Bucket(bucket) => Some(bucket),
            Self::Folder(_) => None,
        }
    }

    /// The folder, if it is one of this machine.
    pub(super) fn path(&self) -> Option<&Path> {
        self.folder().map(|folder| folder.path.as_path())
    }

    /// Whether it is on this machine, as far as the gateway knows.
    pub(super) fn is_local(&self) -> bool {
        self.folder().is_some()
    }

    /// Names the place, for messages and for what is kept about it.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Folder(folder) => folder.path.display().to_string(),
            Self::Bucket(bucket) => bucket.place(),
        }
    }

    pub(super) fn look(&self) -> Look<'_> {
        match self {
            Self::Folder(folder) => Look::Folder(folder, folder.look()),
            Self::Bucket(bucket) => Look::Bucket(bucket),
        }
    }

    /// Tries a store on a server. None if it is on this machine.
    pub(super) async fn diagnose(&self) -> Option<Diagnosis> {
        match self {
            Self::Folder(_) => None,
            Self::Bucket(bucket) => Some(bucket.diagnose().await),
        }
    }
}

/// The check of the configuration refuses this.
fn no_place(name: &str) -> anyhow::Error {
    anyhow!("[store.{name}] has no place for blobs")
}

impl Look<'_> {
    /// What was found by then.
    pub(super) fn report(self, until: Instant) -> Report {
        match self {
            Self::Folder(folder, look) => folder.report(&look, until),
            Self::Bucket(bucket) => bucket.report(),
        }
    }
}

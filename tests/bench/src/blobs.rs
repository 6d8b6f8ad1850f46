//! Blobs to upload and repositories to read, in restic's layout on disk, created before any measurement.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

/// How many bytes of each blob are unique.
const UNIQUE: usize = 4096;

/// A blob and its name. Clones share the bytes.
///
/// Large blobs differ only in their first 4 KiB, so the client needs little memory, while the server
/// receives, hashes and writes as much as with any other bytes.
#[derive(Clone)]
pub(crate) struct Blob {
    /// SHA-256 in lower-case hex.
    pub(crate) id: String,
    unique: Arc<[u8]>,
    rest: Arc<[u8]>,
}

impl Blob {
    /// Creates blobs of the same size, at least [`UNIQUE`] bytes.
    pub(crate) fn make(count: usize, size: usize) -> Result<Vec<Self>> {
        let mut rest = vec![0; size.saturating_sub(UNIQUE)];
        random(&mut rest)?;
        let rest: Arc<[u8]> = rest.into();
        let blob = |_| {
            let mut unique = vec![0; UNIQUE];
            random(&mut unique)?;
            let hash = Sha256::new().chain_update(&unique).chain_update(&rest).finalize();
            Ok(Self { id: hex::encode(hash), unique: unique.into(), rest: rest.clone() })
        };
        (0..count).map(blob).collect()
    }

    /// The bytes, in two parts.
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        [&self.unique, &self.rest]
    }

    /// In bytes.
    pub(crate) fn length(&self) -> u64 {
        (self.unique.len() + self.rest.len()) as u64
    }

    /// Writes the blob to its place in a repository.
    pub(crate) fn write(&self, repository: &Repository) -> Result<()> {
        let path = repository.path(&self.id);
        let failed = || format!("writing {}", path.display());
        fs::write(&path, self.parts().concat()).with_context(failed)
    }
}

fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| anyhow::anyhow!("cannot get random bytes: {error}"))
}

/// A repository on disk.
#[derive(Debug)]
pub(crate) struct Repository {
    /// The path in URLs, without slashes at both ends.
    pub(crate) name: String,
    folder: PathBuf,
}

impl Repository {
    /// Creates an empty repository below the root that all servers serve.
    pub(crate) fn make(root: &Path, name: &str) -> Result<Self> {
        let folder = root.join(name);
        for kind in ["index", "keys", "locks", "snapshots"] {
            fs::create_dir_all(folder.join(kind))?;
        }
        for byte in 0..=255_u8 {
            fs::create_dir_all(folder.join(format!("data/{byte:02x}")))?;
        }
        fs::write(folder.join("config"), [0; 155])?;
        Ok(Self { name: name.to_owned(), folder })
    }

    /// The path of a data blob.
    pub(crate) fn path(&self, id: &str) -> PathBuf {
        let digits = id.get(..2).unwrap_or_default();
        self.folder.join("data").join(digits).join(id)
    }

    /// Fills the repository with tiny blobs, as hard links to those in `like` if it has enough.
    pub(crate) fn fill(&self, count: usize, like: Option<&Self>) -> Result<()> {
        for number in 0..count {
            let id = hex::encode(Sha256::digest(number.to_le_bytes()));
            let path = self.path(&id);
            match like {
                Some(like) => fs::hard_link(like.path(&id), &path),
                None => fs::write(&path, b"x"),
            }
            .with_context(|| format!("making {}", path.display()))?;
        }
        Ok(())
    }

    /// Removes those of the blobs that were uploaded, checks their sizes, and returns their number.
    pub(crate) fn remove(&self, blobs: &[Blob]) -> Result<u64> {
        let mut removed = 0;
        for blob in blobs {
            let path = self.path(&blob.id);
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let (there, sent) = (metadata.len(), blob.length());
            ensure!(there == sent, "{} has {there} bytes, not {sent}", path.display());
            fs::remove_file(&path)?;
            removed += 1;
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_have_the_names_of_their_bytes_and_lie_where_restic_looks() {
        let root = tempfile::tempdir().unwrap();
        let repository = Repository::make(root.path(), "a").unwrap();
        let blobs = Blob::make(2, UNIQUE + 10).unwrap();
        assert_ne!(blobs[0].id, blobs[1].id);
        for blob in &blobs {
            blob.write(&repository).unwrap();
            let bytes = fs::read(root.path().join(format!("a/data/{}/{}", &blob.id[..2], blob.id)));
            assert_eq!(hex::encode(Sha256::digest(bytes.unwrap())), blob.id);
        }
        assert_eq!(repository.remove(&blobs).unwrap(), 2);
        assert_eq!(repository.remove(&blobs).unwrap(), 0);
        fs::write(repository.path(&blobs[0].id), b"short").unwrap();
        assert!(repository.remove(&blobs).is_err());
    }
}

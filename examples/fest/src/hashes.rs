//! SHA-256 of files. That of a file is remembered with its size, inode and times, so that the next backup reads only what
//! was changed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::tree::{Found, Identity};

/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;
/// A file that was changed so shortly before it was looked at could be changed again without another time.
const SETTLES: i64 = 2;

/// What is remembered of the files of one folder.
#[derive(Debug)]
pub(crate) struct Hashes {
    file: Option<PathBuf>,
    known: Mutex<HashMap<PathBuf, Remembered>>,
    rehash: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    identity: Identity,
    hash: String,
}

impl Hashes {
    /// What was remembered of this folder the last time.
    pub(crate) fn of(folder: &Path, rehash: bool) -> Self {
        let file = cache_folder().map(|cache| {
            let name = hex::encode(Sha256::digest(folder.as_os_str().as_bytes()));
            cache.join("fest").join(format!("{name}.json"))
        });
        let read = file.as_ref().and_then(|file| fs::read(file).ok());
        let known = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { file, known: Mutex::new(known), rehash }
    }

    /// The hash of a file, read if it was changed.
    pub(crate) fn get(&self, folder: &Path, found: &Found) -> io::Result<String> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = known().get(&found.path).cloned();
        if let Some(remembered) =
            remembered.filter(|it| it.identity == found.identity && !self.rehash)
        {
            return Ok(remembered.hash);
        }
        let hash = of_file(&folder.join(&found.path))?;
        let remembered = Remembered { identity: found.identity, hash: hash.clone() };
        known().insert(found.path.clone(), remembered);
        Ok(hash)
    }

    /// Forgets a file that was changed while it was read.
    pub(crate) fn forget(&self, path: &Path) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    /// Remembers for the next time. It is no error if that does not work: the next time takes longer.
    pub(crate) fn save(&self, files: &[Found]) {
        let Some(file) = &self.file else { return };
        let now = jiff::Timestamp::now().as_second();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: HashMap<&PathBuf, Remembered> = files
            .iter()
            .filter(|found| now - found.identity.modified.0 > SETTLES)
            .filter_map(|found| Some((&found.path, known.remove(&found.path)?)))
            .collect();
        let Some(folder) = file.parent() else { return };
        let write = || -> io::Result<()> {
            fs::create_dir_all(folder)?;
            let new = file.with_extension(format!("{}.new", std::process::id()));
            let mut output = File::create(&new)?;
            output.write_all(&serde_json::to_vec(&kept)?)?;
            fs::rename(new, file)
        };
        drop(write());
    }
}

fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || set("HOME").map(|home| PathBuf::from(home).join(".cache"));
    set("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)
}

/// The hash of a file.
pub(crate) fn of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
    }
    Ok(hex::encode(hasher.finalize()))
}

//! The plugin folder: which files are in it, and when to look again.
//!
//! Events from the file system wake the watch early; a look every few seconds finds what no event
//! told of: network file systems have none, and a folder may be replaced whole.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::load::{LoadError, MAX_FILE};

/// A burst of events is over after so long a silence, ...
const SILENCE: Duration = Duration::from_millis(40);
/// ... or after this, silence or not.
const BURST: Duration = Duration::from_millis(400);

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The `.wasm` files of a folder. Hidden ones are left out: that is where careful tools write
/// before they rename. Links are followed.
pub(crate) fn scan(folder: &Path) -> io::Result<BTreeMap<PathBuf, Stamp>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if hidden || path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        // A file that vanished between the two calls is none.
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.is_file() {
            files.insert(path, Stamp::of(&metadata));
        }
    }
    Ok(files)
}

/// A file's bytes with the stamp that they belong to; none where it changed while it was read.
pub(crate) fn read(path: &Path) -> Result<Option<(Stamp, Vec<u8>)>, LoadError> {
    let before = Stamp::of(&fs::metadata(path)?);
    if before.size > MAX_FILE {
        return Err(LoadError::TooLarge { size: before.size });
    }
    let bytes = fs::read(path)?;
    let after = Stamp::of(&fs::metadata(path)?);
    Ok((before == after && before.size == bytes.len() as u64).then_some((before, bytes)))
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Says when to look at a folder again.
pub struct Watch {
    folder: PathBuf,
    rescan: Duration,
    woken: Arc<Notify>,
    watcher: Option<(RecommendedWatcher, (u64, u64))>,
}

impl Watch {
    /// Watches a folder, which need not be there yet; `rescan` is how often to look without an
    /// event.
    pub fn new(folder: &Path, rescan: Duration) -> Self {
        let woken = Arc::new(Notify::new());
        let mut watch = Self { folder: folder.to_owned(), rescan, woken, watcher: None };
        watch.arm();
        watch
    }

    /// Returns when it is time to look again: soon after something happened, or after the time
    /// between two looks.
    pub async fn changed(&mut self) {
        if tokio::time::timeout(self.rescan, self.woken.notified()).await.is_err() {
            self.arm();
            return;
        }
        let _ = tokio::time::timeout(BURST, async {
            while tokio::time::timeout(SILENCE, self.woken.notified()).await.is_ok() {}
        })
        .await;
    }

    /// Asks for events, also when the folder is another one than before.
    fn arm(&mut self) {
        let identity = fs::metadata(&self.folder).ok().map(|m| (m.dev(), m.ino()));
        let watched = self.watcher.as_ref().map(|(_, identity)| *identity);
        if identity == watched {
            return;
        }
        self.watcher = None;
        let Some(identity) = identity else { return };
        let woken = self.woken.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading makes events too; only what changes the folder counts.
            let matters = event.is_ok_and(|event| match event.kind {
                EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
                _ => true,
            });
            if matters {
                woken.notify_one();
            }
        })
        .and_then(|mut watcher| {
            watcher.watch(&self.folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => self.watcher = Some((watcher, identity)),
            Err(error) => {
                let (folder, every) = (self.folder.display(), self.rescan);
                tracing::warn!(%folder, %error, "no events from the plugin folder; looking every {every:?}");
            }
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_appears_wakes_the_watch_and_reading_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path(), Duration::from_secs(30));
        fs::write(folder.path().join("a.wasm"), b"a").unwrap();
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.unwrap();
        fs::read(folder.path().join("a.wasm")).unwrap();
        let again = tokio::time::timeout(Duration::from_millis(300), watch.changed()).await;
        assert!(again.is_err(), "reading woke the watch");
    }

    #[tokio::test]
    async fn a_folder_made_later_is_found() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("plugins");
        let mut watch = Watch::new(&folder, Duration::from_millis(50));
        watch.changed().await;
        fs::create_dir(&folder).unwrap();
        watch.changed().await;
        assert!(watch.watcher.is_some());
    }

    #[test]
    fn only_visible_wasm_files_count() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.wasm", ".b.wasm", "c.txt", "wasm"] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        fs::create_dir(folder.path().join("d.wasm")).unwrap();
        std::os::unix::fs::symlink("a.wasm", folder.path().join("e.wasm")).unwrap();
        let found: Vec<_> = scan(folder.path()).unwrap().into_keys().collect();
        assert_eq!(found, [folder.path().join("a.wasm"), folder.path().join("e.wasm")]);
    }
}

//! The plugin folder: which files are in it, and when to scan it again.
//!
//! File system events trigger a scan. A scan every few seconds finds what no event reported: network file
//! systems send none, and a folder may be replaced as a whole.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::error::{LoadError, MAX_FILE};
use crate::trust::signature_of;

/// A burst of events is over after no event for this long, ...
const SILENCE: Duration = Duration::from_millis(40);
/// ... or after this time in any case.
const BURST: Duration = Duration::from_millis(400);
/// The largest signature file, in bytes. A longer one is not a signature.
const MAX_SIGNATURE: u64 = 64 << 10;

/// What changes when a file changes, known without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Of a component's file, and of its signature file if there is one and signatures matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamps {
    pub(crate) component: Stamp,
    signature: Option<Stamp>,
}

/// The contents of a component's file and of its signature file.
pub(crate) struct Contents {
    pub(crate) component: Vec<u8>,
    pub(crate) signature: Option<Vec<u8>>,
}

/// What a scan found under a name.
#[derive(Debug)]
pub(crate) enum Found {
    /// A file.
    File(Stamps),
    /// Something that cannot be looked at: a link into a folder that this user may not enter, a broken disk.
    Unreachable(io::Error),
}

/// The `.wasm` files of a folder, following symbolic links. Hidden files are left out, because tools write
/// to them before they rename; so are folders, sockets, pipes, and links to nothing. `signed` says whether
/// signatures matter.
pub(crate) fn scan(folder: &Path, signed: bool) -> io::Result<BTreeMap<PathBuf, Found>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if hidden || path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                let component = Stamp::of(&metadata);
                let signature = if signed { stamp(&signature_of(&path)) } else { None };
                files.insert(path, Found::File(Stamps { component, signature }));
            }
            Ok(_) => {}
            // It may have vanished between the two calls.
            Err(error) if is_absent(&error) => {}
            Err(error) => drop(files.insert(path, Found::Unreachable(error))),
        }
    }
    Ok(files)
}

/// The name of the plugin in a file: the file's name without `.wasm`. Fails if no configuration can contain it, or if it
/// would break lines of logs and tables.
pub(crate) fn name_of(file: &Path) -> Result<&str, LoadError> {
    let wrong = |why: &str| {
        let name = file.file_name().unwrap_or_default();
        LoadError::Name(format!("{name:?} {why}"))
    };
    let name = file.file_stem().unwrap_or_default();
    let name = name.to_str().ok_or_else(|| wrong("is not UTF-8"))?;
    if name.contains(char::is_control) {
        return Err(wrong("has control characters"));
    }
    Ok(name)
}

/// A path in messages and logs. Bytes that are not UTF-8, and control characters, are escaped, so that it stays on one
/// line and can be told from others.
pub fn shown(path: &Path) -> Cow<'_, str> {
    match path.to_str() {
        Some(text) if !text.contains(char::is_control) => Cow::Borrowed(text),
        _ => Cow::Owned(format!("{path:?}").trim_matches('"').to_owned()),
    }
}

/// Whether an error says that there is no such file.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Why a scan found no file with this name, for whoever expects one.
pub(crate) fn absence(path: &Path) -> String {
    let name = path.display();
    match (fs::symlink_metadata(path), fs::read_link(path)) {
        (Ok(_), Ok(target)) => {
            format!("{name} is a link to {}, which is not a file", target.display())
        }
        (Ok(metadata), Err(_)) if metadata.is_dir() => format!("{name} is a folder, not a file"),
        (Ok(metadata), Err(_)) if !metadata.is_file() => format!("{name} is not a regular file"),
        _ => format!("{name} does not exist"),
    }
}

/// The bytes of a component and of its signature, with their stamps; `None` if one of the files changed
/// while it was read.
pub(crate) fn read(path: &Path, signed: bool) -> Result<Option<(Stamps, Contents)>, LoadError> {
    check_size(fs::metadata(path)?.len())?;
    let Some((component, bytes)) = read_one(path, None)? else { return Ok(None) };
    let signature = signature_of(path);
    if !signed || stamp(&signature).is_none() {
        let stamps = Stamps { component, signature: None };
        return Ok(Some((stamps, Contents { component: bytes, signature: None })));
    }
    let read = read_one(&signature, Some(MAX_SIGNATURE)).map_err(|error| {
        io::Error::new(error.kind(), format!("its signature {}: {error}", signature.display()))
    })?;
    Ok(read.map(|(stamp, signature)| {
        let stamps = Stamps { component, signature: Some(stamp) };
        (stamps, Contents { component: bytes, signature: Some(signature) })
    }))
}

/// The bytes of a component's file, wherever it is. Fails at once for what is not a regular file or too large to be a
/// plugin.
pub fn read_component(path: &Path) -> Result<Vec<u8>, LoadError> {
    let metadata = fs::metadata(path)?;
    // Opening a pipe would wait for a writer, and a device may never end.
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a folder" } else { "not a regular file" };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {kind}")).into());
    }
    check_size(metadata.len())?;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    let size = fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)? as u64;
    check_size(size)?;
    Ok(bytes)
}

fn check_size(size: u64) -> Result<(), LoadError> {
    if size > MAX_FILE { Err(LoadError::TooLarge { size }) } else { Ok(()) }
}

/// At most `limit` bytes of a file; `None` if it changed while it was read.
fn read_one(path: &Path, limit: Option<u64>) -> io::Result<Option<(Stamp, Vec<u8>)>> {
    let before = Stamp::of(&fs::metadata(path)?);
    let size = limit.map_or(before.size, |limit| before.size.min(limit));
    let mut bytes = Vec::new();
    // One byte more, to see that the file has not grown.
    fs::File::open(path)?.take(size.saturating_add(1)).read_to_end(&mut bytes)?;
    let after = Stamp::of(&fs::metadata(path)?);
    let whole = bytes.len() as u64 == before.size || size < before.size;
    Ok((before == after && whole).then_some((before, bytes)))
}

/// `None` if there is no such file.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    metadata.is_file().then(|| Stamp::of(&metadata))
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

    /// Whether both are of one file, which has not been written to between them. It may have been renamed or
    /// been given other permissions.
    pub(crate) fn same_file(self, other: Self) -> bool {
        self == Self { changed: self.changed, ..other }
    }
}

/// Says when to scan a folder again.
pub struct Watch {
    folder: PathBuf,
    rescan: Duration,
    woken: Arc<Notify>,
    watcher: Option<(RecommendedWatcher, (u64, u64))>,
}

impl Watch {
    /// Watches a folder, which need not exist yet; `rescan` is how often to scan without an event.
    pub fn new(folder: &Path, rescan: Duration) -> Self {
        let woken = Arc::new(Notify::new());
        let mut watch = Self { folder: folder.to_owned(), rescan, woken, watcher: None };
        watch.arm();
        watch
    }

    /// Returns when it is time to scan again: soon after an event, or after `rescan`.
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

    /// Subscribes to events, and does so again if the folder was replaced.
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
            // Our own reads cause events too; only changes count.
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
                let (folder, seconds) = (self.folder.display(), self.rescan.as_secs());
                tracing::warn!(
                    %folder,
                    rescan_seconds = seconds,
                    %error,
                    "cannot watch the plugin folder; scanning it at intervals"
                );
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
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[tokio::test]
    async fn a_new_file_wakes_the_watch_and_reading_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path(), Duration::from_secs(30));
        fs::write(folder.path().join("a.wasm"), b"a").unwrap();
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.unwrap();
        fs::read(folder.path().join("a.wasm")).unwrap();
        let again = tokio::time::timeout(Duration::from_millis(300), watch.changed()).await;
        assert!(again.is_err(), "reading woke the watch");
    }

    #[tokio::test]
    async fn a_folder_created_later_is_found() {
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
        let link = |target, name| std::os::unix::fs::symlink(target, folder.path().join(name));
        link("a.wasm", "e.wasm").unwrap();
        link("nothing", "f.wasm").unwrap();
        link("h.wasm", "g.wasm").unwrap();
        link("g.wasm", "h.wasm").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("i.wasm")).unwrap();
        let found = scan(folder.path(), true).unwrap();
        let (files, others): (Vec<_>, Vec<_>) =
            found.iter().partition(|(_, found)| matches!(found, Found::File(_)));
        let names = |found: Vec<(&PathBuf, _)>| -> Vec<_> {
            found
                .iter()
                .map(|(path, _)| path.strip_prefix(folder.path()).unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(files), [Path::new("a.wasm"), Path::new("e.wasm")]);
        // Links in a circle.
        assert_eq!(names(others), [Path::new("g.wasm"), Path::new("h.wasm")]);
        for (name, why) in [
            ("d.wasm", "is a folder"),
            ("f.wasm", "is a link to nothing, which is not a file"),
            ("i.wasm", "is not a regular file"),
            ("j.wasm", "j.wasm does not exist"),
        ] {
            let said = absence(&folder.path().join(name));
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn the_name_of_a_plugin_fits_a_configuration_and_a_line() {
        let of = |name: &[u8]| {
            let path = Path::new("/p").join(OsStr::from_bytes(name));
            let named = name_of(&path).map(str::to_owned).map_err(|error| error.to_string());
            (named, shown(&path).into_owned())
        };
        for name in ["restic", "ü €", "with \"quotes\" and \\back", "a.b"] {
            let path = format!("/p/{name}.wasm");
            assert_eq!(of(format!("{name}.wasm").as_bytes()), (Ok(name.to_owned()), path));
        }
        for (name, escaped, why) in [
            (b"sich\xe4rung.wasm".as_slice(), r"sich\xE4rung.wasm", "is not UTF-8"),
            (b"line\nbreak.wasm", r"line\nbreak.wasm", "has control characters"),
        ] {
            let (named, path) = of(name);
            assert_eq!(path, format!("/p/{escaped}"));
            let error = named.unwrap_err();
            assert!(error.contains(&format!("\"{escaped}\" {why}; rename the file")), "{error}");
        }
    }

    #[test]
    fn a_signature_changes_the_stamp_of_its_component_if_signatures_matter() {
        let folder = tempfile::tempdir().unwrap();
        let (file, signature) =
            (folder.path().join("a.wasm"), folder.path().join("a.wasm.minisig"));
        fs::write(&file, b"component").unwrap();
        let stamps = |signed| match &scan(folder.path(), signed).unwrap()[&file] {
            Found::File(stamps) => *stamps,
            Found::Unreachable(error) => panic!("{error}"),
        };
        let (unsigned, before) = (stamps(false), stamps(true));
        fs::write(&signature, b"signature").unwrap();
        assert_eq!(stamps(false), unsigned);
        assert_ne!(stamps(true), before);
        let (read_stamps, contents) = read(&file, true).unwrap().unwrap();
        assert_eq!(read_stamps, stamps(true));
        assert_eq!(contents.component, b"component");
        assert_eq!(contents.signature.as_deref(), Some(b"signature".as_slice()));
        assert_eq!(read(&file, false).unwrap().unwrap().1.signature, None);
        // A folder with that name is not a signature.
        fs::remove_file(&signature).unwrap();
        fs::create_dir(&signature).unwrap();
        assert_eq!(read(&file, true).unwrap().unwrap().1.signature, None);
        fs::remove_dir(&signature).unwrap();
        fs::write(&signature, vec![b'x'; 1 << 20]).unwrap();
        let cut = read(&file, true).unwrap().unwrap().1.signature.unwrap();
        assert_eq!(cut.len() as u64, MAX_SIGNATURE + 1);
    }
}

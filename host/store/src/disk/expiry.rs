//! Markers of blobs that expire: files that hold a key, in `.keepgate/expiry/SLOT/`. See
//! [`expiry`](crate::expiry).

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::steps::{self, Sync};
use super::sweep::read_folder;
use super::tree::{Dir, Tree};
use super::{Inner, errors};
use crate::error::Result;
use crate::expiry::{Due, MARKERS, Slot};
use crate::key::{Key, MAX_KEY, RESERVED};
use crate::{DeleteOptions, ObserverHandle};

/// Where the slots are.
fn markers() -> String {
    format!("{RESERVED}/{MARKERS}")
}

impl Inner {
    /// Writes the marker of a blob that is about to be committed; durable when it returns.
    pub(super) fn mark(
        &self,
        tree: &Tree,
        key: &Key,
        expires: SystemTime,
        observer: Option<&ObserverHandle>,
    ) -> Result<()> {
        let slot = Slot::of(expires, self.options.clock.now());
        let folder = format!("{}/{}", markers(), slot.name());
        let dir = match tree.folder(&folder)? {
            Some(dir) => {
                tree.settle_folder(&folder)?;
                dir
            }
            None => self.make_folder(tree, &folder, None)?,
        };
        let failed = |error: std::io::Error| {
            errors::io("cannot write a marker of what expires in", tree.path_of(&folder), error)
        };
        let mut name = [0; 16];
        getrandom::fill(&mut name).map_err(|_| failed(Errno::IO.into()))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(self.options.file_mode);
        let file = rustix::fs::openat(&dir, hex::encode(name), flags, mode);
        let mut file = File::from(file.map_err(|errno| failed(errno.into()))?);
        if let Some(observer) = observer {
            observer.markers(1, 0);
        }
        file.write_all(key.as_str().as_bytes()).map_err(failed)?;
        if let Err(errno) = rustix::io::retry_on_intr(|| rustix::fs::fsync(&file))
            && steps::file_sync(errno) == Sync::Failed
        {
            return Err(failed(errno.into()));
        }
        tree.sync_folder(&dir, &folder)
    }

    /// Markers that are due, in the order of their names. Slots that are empty by now are removed.
    pub(super) fn due(&self, after: Option<&str>, max: usize) -> Result<Vec<Due>> {
        let tree = self.tree()?;
        let Some(top) = tree.folder(&markers())? else { return Ok(Vec::new()) };
        let now = self.options.clock.now();
        let slots = names(&tree, &markers(), &top)?.into_iter();
        let slots = slots.filter(|name| Slot::named(name).is_some_and(|slot| slot.is_due(now)));
        let mut due = Vec::new();
        for slot in slots {
            let folder = format!("{}/{slot}", markers());
            let Some(dir) = tree.folder(&folder)? else { continue };
            let names = names(&tree, &folder, &dir)?;
            if names.is_empty() {
                // Nothing is written here any more. If it fails, it is tried again.
                let _ = rustix::fs::unlinkat(&top, &slot, AtFlags::REMOVEDIR);
            }
            for name in names {
                let marker = format!("{slot}/{name}");
                if after.is_some_and(|after| *marker <= *after) {
                    continue;
                }
                if due.len() == max {
                    return Ok(due);
                }
                match key_in(&dir, &name) {
                    Some(key) => due.push(Due { marker, key }),
                    // A process was killed while it wrote it, so its blob never came.
                    None => drop(rustix::fs::unlinkat(&dir, &*name, AtFlags::empty())),
                }
            }
        }
        Ok(due)
    }

    /// How many markers there are, due or not.
    pub(super) fn count_markers(&self) -> Result<u64> {
        let tree = self.tree()?;
        let Some(top) = tree.folder(&markers())? else { return Ok(0) };
        let mut markers_found = 0;
        for slot in names(&tree, &markers(), &top)? {
            let folder = format!("{}/{slot}", markers());
            if let Some(dir) = tree.folder(&folder)? {
                markers_found += names(&tree, &folder, &dir)?.len() as u64;
            }
        }
        Ok(markers_found)
    }

    pub(super) fn expire(&self, due: &Due, options: &DeleteOptions) -> Result<Option<u64>> {
        let tree = self.tree()?;
        let removed = tree.settle(self.remove_below(&tree, &due.key, options, true))?;
        let gone = tree.path_of(&format!("{}/{}", markers(), due.marker));
        let Some((slot, name)) = due.marker.split_once('/') else { return Ok(removed) };
        if let Some(dir) = tree.folder(&format!("{}/{slot}", markers()))? {
            // One that comes back after a power cut does no harm.
            match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                Ok(()) => {
                    if let Some(observer) = &options.observer {
                        observer.markers(0, 1);
                    }
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errors::io("cannot remove", gone, errno)),
            }
        }
        Ok(removed)
    }
}

/// The names in a folder of the gateway's own, sorted.
fn names(tree: &Tree, folder: &str, dir: &Dir) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let read = read_folder(dir, |name, _, _| {
        names.extend(std::str::from_utf8(name).map(str::to_owned));
        Ok(())
    });
    read.map_err(|errno| errors::io("cannot list", tree.path_of(folder), errno))?;
    names.sort_unstable();
    Ok(names)
}

fn key_in(dir: &Dir, name: &str) -> Option<Key> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty()).ok()?);
    let mut key = String::new();
    file.take(MAX_KEY as u64 + 1).read_to_string(&mut key).ok()?;
    Key::new(key).ok()
}

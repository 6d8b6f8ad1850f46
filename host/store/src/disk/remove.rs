//! Removes a blob, on threads that may block.

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::tree::{self, Tree};
use super::{Inner, errors, xattr};
use crate::commit_observer::admit_removal;
use crate::error::Result;
use crate::key::Key;
use crate::{CommittedChange, DeleteOptions};

impl Inner {
    pub(super) fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<Option<u64>> {
        let tree = self.tree()?;
        tree.settle(self.remove_below(&tree, key, options, false))
    }

    /// Removes a blob, or only one that has expired. To whoever deletes it, one that has is not there;
    /// it goes nevertheless.
    pub(super) fn remove_below(
        &self,
        tree: &Tree,
        key: &Key,
        options: &DeleteOptions,
        only_expired: bool,
    ) -> Result<Option<u64>> {
        let path = || tree.path_of(key.as_str());
        let nothing = || options.check(None).map(|()| None);
        let folder = key.folder();
        let Some(dir) = tree.folder(folder.as_str())? else {
            return nothing();
        };
        let size = {
            let _lock = self.lock_key(key);
            let name = key.name();
            let stat = match tree.stat_at(&dir, name) {
                Ok(stat) if tree::is_regular(&stat) => stat,
                Ok(stat) if tree::is_symlink(&stat) => return Err(tree.symlink(key.as_str())),
                Ok(_) => return nothing(),
                Err(errno) if errors::is_missing(errno) => return nothing(),
                Err(errno) => return Err(errors::io("cannot look up", path(), errno)),
            };
            let all = options.observer.is_some();
            let mut gone = xattr::gone(tree, &dir, key, (&stat, &self.options.clock), all);
            let is_live = !gone.expired;
            if only_expired && is_live {
                return Ok(None);
            }
            options.check(Some(&*xattr::etag(&stat)).filter(|_| is_live))?;
            let stored = is_live.then(|| xattr::time(&stat.stx_mtime));
            admit_removal(options.observer.as_ref(), stored)?;
            let unlink = || match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                Ok(()) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(errno) => Err(errors::io("cannot delete", path(), errno)),
            };
            let deleted = match &options.observer {
                None => unlink()?,
                Some(observer) => {
                    observer.place(tree.known.epoch)?;
                    if !observer.before_commit()? {
                        gone.blob.metadata.clear();
                    }
                    let outcome = unlink();
                    let changed = matches!(outcome, Ok(true));
                    if changed {
                        self.readers.removed(gone.file, observer);
                    }
                    observer.after_commit(
                        changed.then_some(CommittedChange { removed: Some(gone.blob), size: None }),
                    );
                    outcome?
                }
            };
            if !deleted {
                return nothing();
            }
            (is_live || only_expired).then_some(stat.stx_size)
        };
        tree.sync_folder(&dir, folder.as_str())?;
        tree.must_name(folder.as_str(), &dir)?;
        Ok(size)
    }
}

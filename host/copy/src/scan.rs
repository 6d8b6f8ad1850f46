//! [`Unit`]: a part of the stores that is copied by itself, a repository or a folder; and [`Scan`]:
//! what both stores have of one of its stages, ascending.

use keepgate_store::{Folder, Key, StoreError};

use crate::context::Context;
use crate::error::{CopyError, Result};
use crate::merge::{Merged, Pair};

/// A part of the stores that is copied by itself.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) folder: Folder,
    pub(crate) shape: Shape,
}

/// What belongs to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A folder with the names of the order in it. Each name is a stage; all other names together are
    /// the last one.
    Repository,
    /// Everything below the folder, in one stage.
    Tree,
    /// The blobs in the folder itself, in one stage.
    Folder,
}

impl Unit {
    /// How many stages there are. Each may refer to those before.
    pub(crate) fn stages(&self, context: &Context) -> usize {
        match self.shape {
            Shape::Repository => context.options.order.names().len() + 1,
            Shape::Tree | Shape::Folder => 1,
        }
    }

    /// The stage that refers to all before it: restic's snapshots.
    pub(crate) fn dependent(&self, context: &Context) -> Option<usize> {
        let is_repository = self.shape == Shape::Repository;
        is_repository.then(|| context.options.order.names().len().saturating_sub(1))
    }

    /// A name for people.
    pub(crate) fn name(&self) -> &str {
        match self.folder.as_str() {
            "" => "/",
            folder => folder,
        }
    }
}

/// What both stores have of one stage, ascending by key. Folders are left out.
pub(crate) struct Scan<'a> {
    context: &'a Context,
    /// A blob with the very name of the stage, such as restic's `config`.
    single: Option<Pair>,
    /// The unit's own folder, if the stage has blobs in it.
    outer: Option<Merged>,
    /// A folder of it that belongs to the stage as a whole.
    inner: Option<Merged>,
    /// Whether folders in the unit's folder belong to the stage.
    descends: bool,
    /// Whether the order's names are other stages.
    others: bool,
}

impl<'a> Scan<'a> {
    /// Begins to list a stage in both stores.
    pub(crate) async fn open(context: &'a Context, unit: &Unit, stage: usize) -> Result<Self> {
        let mut scan = Self {
            context,
            single: None,
            outer: None,
            inner: None,
            descends: false,
            others: false,
        };
        match (unit.shape, context.options.order.names().get(stage)) {
            (Shape::Repository, Some(name)) => {
                let key = unit.folder.join(name);
                scan.single = single(context, &key).await?;
                scan.inner = Some(tree(context, &key).await?);
            }
            (Shape::Repository, None) => {
                scan.outer = Some(list(context, &unit.folder, false).await?);
                (scan.descends, scan.others) = (true, true);
            }
            (Shape::Tree, _) => scan.inner = Some(list(context, &unit.folder, true).await?),
            (Shape::Folder, _) => scan.outer = Some(list(context, &unit.folder, false).await?),
        }
        Ok(scan)
    }

    /// The next blob; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Pair>> {
        if let Some(pair) = self.single.take() {
            return Ok(Some(pair));
        }
        loop {
            if let Some(inner) = &mut self.inner {
                match inner.next().await? {
                    Some(pair) if pair.is_folder() || self.skips(&pair.key) => continue,
                    Some(pair) => return Ok(Some(pair)),
                    None => self.inner = None,
                }
            }
            let Some(outer) = &mut self.outer else { return Ok(None) };
            let Some(pair) = outer.next().await? else { return Ok(None) };
            let name = pair.key.rsplit('/').next().unwrap_or_default();
            if self.others && self.context.options.order.knows(name) {
                continue;
            }
            if !pair.is_folder() {
                if !self.skips(&pair.key) {
                    return Ok(Some(pair));
                }
            } else if self.descends {
                self.inner = Some(tree(self.context, &pair.key).await?);
            }
        }
    }

    fn skips(&self, key: &str) -> bool {
        self.context.options.order.skips(key)
    }
}

async fn list(context: &Context, folder: &Folder, recursive: bool) -> Result<Merged> {
    Merged::open(&*context.from, &*context.to, folder, recursive, None).await
}

async fn tree(context: &Context, folder: &str) -> Result<Merged> {
    let folder = Folder::new(folder).map_err(CopyError::Source)?;
    list(context, &folder, true).await
}

/// What both stores have under one key.
async fn single(context: &Context, name: &str) -> Result<Option<Pair>> {
    let key = Key::new(name).map_err(CopyError::Source)?;
    let entry = |info: keepgate_store::Info| keepgate_store::Entry {
        key: name.to_owned(),
        size: info.size,
        modified: info.modified,
        etag: info.etag,
        folder: false,
    };
    let to = match context.to.head(&key).await {
        Ok(info) => Some(entry(info)),
        Err(StoreError::NotFound) => None,
        Err(error) => return Err(CopyError::Target(error)),
    };
    let from = match context.from.head(&key).await {
        Ok(info) => Some(entry(info)),
        Err(StoreError::NotFound) => None,
        Err(error) => return Err(CopyError::Source(error)),
    };
    let found = from.is_some() || to.is_some();
    Ok(found.then(|| Pair { key: name.to_owned(), from, to }))
}

//! Finds the units of two stores: repositories at any depth, and the folders above them.
//!
//! A folder is a repository if it has at least two of the order's names, in either store: a source
//! of which only `data` is left is still one. A level is listed in pages, so memory does not grow
//! with the number of folders.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use keepgate_store::Folder;

use crate::context::Context;
use crate::error::{CopyError, Result};
use crate::merge::Merged;
use crate::scan::{Shape, Unit};
use crate::unit;

/// Names of folders in memory at each level.
const PAGE: usize = 1000;

/// Copies everything below a folder, unit by unit.
pub(crate) fn visit<'a>(
    context: &'a Arc<Context>,
    folder: Folder,
) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> {
    Box::pin(async move {
        let order = &context.options.order;
        if order.is_plain() {
            return unit::copy(context, &Unit { folder, shape: Shape::Tree }).await;
        }
        if is_repository(context, &folder).await? {
            return unit::copy(context, &Unit { folder, shape: Shape::Repository }).await;
        }
        unit::copy(context, &Unit { folder: folder.clone(), shape: Shape::Folder }).await?;
        let mut after = None;
        loop {
            let (folders, last) = page(context, &folder, after.as_deref()).await?;
            for name in folders {
                visit(context, Folder::new(name).map_err(CopyError::Source)?).await?;
            }
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    })
}

async fn is_repository(context: &Context, folder: &Folder) -> Result<bool> {
    let order = &context.options.order;
    let mut found = BTreeSet::new();
    let mut both = Merged::open(&*context.from, &*context.to, folder, false, None).await?;
    while let Some(pair) = both.next().await? {
        let name = pair.key.rsplit('/').next().unwrap_or_default();
        if order.knows(name) && found.insert(name.to_owned()) && found.len() >= order.marks() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Some names of folders, and where the next ones begin; none at the end.
async fn page(
    context: &Context,
    folder: &Folder,
    after: Option<&str>,
) -> Result<(Vec<String>, Option<String>)> {
    let mut folders = Vec::new();
    let mut both = Merged::open(&*context.from, &*context.to, folder, false, after).await?;
    while let Some(pair) = both.next().await? {
        if !pair.is_folder() {
            continue;
        }
        folders.push(pair.key.clone());
        if folders.len() >= PAGE {
            return Ok((folders, Some(format!("{}/", pair.key))));
        }
    }
    Ok((folders, None))
}

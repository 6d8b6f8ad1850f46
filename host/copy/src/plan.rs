//! [`Plan`]: what a listing found to be copied. Small ones are in memory; the rest of a large one is
//! in a temporary file without a name.

use std::collections::VecDeque;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{CopyError, Result};
use crate::records::{BATCH, RecordReader, RecordWriter, blocking};

/// A blob to be copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) key: String,
    pub(crate) size: u64,
    /// The etag of the target's blob that it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaces: Option<String>,
}

/// Blobs to be copied, in order.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where temporary files are made; the system's place if there is none.
    folder: Option<PathBuf>,
    first: VecDeque<Item>,
    rest: Option<RecordWriter<Item>>,
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
}

impl Plan {
    pub(crate) fn new(folder: Option<&Path>) -> Self {
        let folder = folder.map(Path::to_owned);
        Self { folder, first: VecDeque::new(), rest: None, blobs: 0, bytes: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blobs == 0
    }

    pub(crate) async fn push(&mut self, item: Item) -> Result<()> {
        self.blobs += 1;
        self.bytes = self.bytes.saturating_add(item.size);
        if self.first.len() < BATCH {
            self.first.push_back(item);
            return Ok(());
        }
        let rest = match &mut self.rest {
            Some(rest) => rest,
            none => {
                let folder = self.folder.clone().unwrap_or_else(std::env::temp_dir);
                let place = folder.clone();
                let file = blocking(move || tempfile::tempfile_in(place)).await;
                let file = file.map_err(|source| CopyError::State {
                    action: "cannot make a temporary file in",
                    path: folder.clone(),
                    source,
                })?;
                none.insert(RecordWriter::new(file, &folder))
            }
        };
        rest.push(item).await
    }

    /// Reads the plan from its beginning.
    pub(crate) async fn read(self) -> Result<PlanReader> {
        let rest = match self.rest {
            None => None,
            Some(rest) => {
                let path = self.folder.unwrap_or_else(std::env::temp_dir);
                let mut file = rest.finish().await?;
                let at_start = blocking(move || {
                    file.seek(SeekFrom::Start(0))?;
                    Ok(file)
                });
                let file = at_start.await.map_err(|source| CopyError::State {
                    action: "cannot read a temporary file in",
                    path: path.clone(),
                    source,
                })?;
                Some(RecordReader::new(file, &path))
            }
        };
        Ok(PlanReader { first: self.first, rest })
    }
}

/// A plan being read.
#[derive(Debug)]
pub(crate) struct PlanReader {
    first: VecDeque<Item>,
    rest: Option<RecordReader<Item>>,
}

impl PlanReader {
    /// The next blob; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>> {
        match (self.first.pop_front(), &mut self.rest) {
            (Some(item), _) => Ok(Some(item)),
            (None, Some(rest)) => rest.next().await,
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_large_plan_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, BATCH, BATCH + 1, 3 * BATCH + 17] {
            let mut plan = Plan::new(Some(folder.path()));
            let item = |at: usize| Item {
                key: format!("a \"key\"\n/{at}"),
                size: at as u64,
                replaces: at.is_multiple_of(7).then(|| "etag".to_owned()),
            };
            for at in 0..length {
                plan.push(item(at)).await.unwrap();
            }
            assert_eq!(plan.blobs, length as u64);
            assert!(plan.first.len() <= BATCH);
            let mut reader = plan.read().await.unwrap();
            for at in 0..length {
                assert_eq!(reader.next().await.unwrap(), Some(item(at)));
            }
            assert_eq!(reader.next().await.unwrap(), None);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

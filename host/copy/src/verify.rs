//! Verifies a copy, or a store by itself: reads every blob and compares it with its name, or with
//! the source.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt as _, stream};
use keepgate_store::{BlobStore, Body, Folder, Key, Part, StoreError};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{CopyError, Result};
use crate::merge::{Merged, Pair, Side};
use crate::options::CopyOptions;
use crate::order::sha256_of_name;
use crate::report::{Amount, Tally};
use crate::transfer;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Read, and right.
    pub verified: Amount,
    /// Read to the end, but there is nothing to compare their content with.
    pub readable: Amount,
    /// Not what their name says, or not readable.
    pub damaged: Tally,
    /// The copy has another content than the source.
    pub different: Tally,
    /// In the source, but not in the copy.
    pub behind: Tally,
    /// In the copy, but no longer in the source.
    pub missing: Tally,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl VerifyReport {
    /// Whether everything that was read is right.
    pub fn is_right(&self) -> bool {
        self.damaged.is_empty() && self.different.is_empty()
    }
}

/// Compares a copy with its source by name, size and content. Reads the whole copy, and of the source
/// what is not named by its content.
///
/// # Errors
///
/// [`CopyError`] if a store cannot be listed or is not available.
pub async fn verify(
    from: Arc<dyn BlobStore>,
    to: Arc<dyn BlobStore>,
    options: CopyOptions,
) -> Result<VerifyReport> {
    let context = Context::new(from, to, options);
    let top = Folder::top();
    let both = Merged::open(&*context.from, &*context.to, &top, true, None).await?;
    let pairs = stream::try_unfold(both, |mut both| async move {
        Ok::<_, CopyError>(both.next().await?.map(|pair| (pair, both)))
    });
    let checked = pairs.map(|pair| async { check_pair(&context, pair?).await });
    collect(checked.buffer_unordered(context.parallel())).await
}

/// Reads all of a store and compares each blob with its name, where that states the content.
///
/// # Errors
///
/// [`CopyError`] if the store cannot be listed or is not available.
pub async fn verify_store(store: Arc<dyn BlobStore>, options: CopyOptions) -> Result<VerifyReport> {
    let context = Context::new(Arc::clone(&store), store, options);
    let listing = Side::open(&*context.to, "target", &Folder::top(), true, None).await?;
    let entries = stream::try_unfold(listing, |mut listing| async move {
        Ok::<_, CopyError>(listing.next().await?.map(|entry| (entry, listing)))
    });
    let checked = entries.map(|entry| async { check_one(&context, entry?.key).await });
    collect(checked.buffer_unordered(context.parallel())).await
}

/// What a check found of one blob.
enum Finding {
    Right(u64),
    Readable(u64),
    Damaged(String, String),
    Different(String, String),
    Behind(String),
    Missing(String),
    /// Not there any more, or not to be copied.
    Nothing,
}

async fn collect(findings: impl Stream<Item = Result<Finding>>) -> Result<VerifyReport> {
    let begun = Instant::now();
    let mut report = VerifyReport::default();
    let mut findings = std::pin::pin!(findings);
    while let Some(finding) = findings.next().await {
        match finding? {
            Finding::Right(bytes) => report.verified.add(bytes),
            Finding::Readable(bytes) => report.readable.add(bytes),
            Finding::Damaged(key, reason) => report.damaged.add(&key, reason),
            Finding::Different(key, reason) => report.different.add(&key, reason),
            Finding::Behind(key) => report.behind.add(&key, ""),
            Finding::Missing(key) => report.missing.add(&key, ""),
            Finding::Nothing => {}
        }
    }
    report.seconds = Duration::as_secs_f64(&begun.elapsed());
    Ok(report)
}

async fn check_pair(context: &Arc<Context>, pair: Pair) -> Result<Finding> {
    let key = pair.key;
    if context.options.order.skips(&key) {
        return Ok(Finding::Nothing);
    }
    let (from, to) = match (pair.from, pair.to) {
        (Some(from), Some(to)) => (from, to),
        (Some(_), None) => return Ok(Finding::Behind(key)),
        (None, _) => {
            // It may be damaged all the same, and it is part of the copy.
            return Ok(match check_one(context, key.clone()).await? {
                damaged @ Finding::Damaged(..) => damaged,
                _ => Finding::Missing(key),
            });
        }
    };
    let name = Key::new(key.as_str()).map_err(CopyError::Target)?;
    if sha256_of_name(&name).is_some() || from.size != to.size {
        return Ok(match check_one(context, key).await? {
            Finding::Right(_) | Finding::Readable(_) if from.size != to.size => {
                Finding::Different(name.to_string(), transfer::sizes(from.size, to.size))
            }
            finding => finding,
        });
    }
    let from = match read(context, &context.from, &name, CopyError::Source).await? {
        Read::Digest(_, digest) => digest,
        Read::Gone => return Ok(Finding::Missing(key)),
        // The copy is fine if it can be read; what is wrong with the source, a copy says.
        Read::Unreadable(_) => return check_one(context, key).await,
    };
    Ok(match read(context, &context.to, &name, CopyError::Target).await? {
        Read::Digest(length, to) if to == from => Finding::Right(length),
        Read::Digest(..) => Finding::Different(key, "other bytes of the same length".to_owned()),
        Read::Gone => Finding::Behind(key),
        Read::Unreadable(reason) => Finding::Damaged(key, reason),
    })
}

/// Reads a blob of the copy and compares it with its name.
async fn check_one(context: &Arc<Context>, key: String) -> Result<Finding> {
    let name = Key::new(key.as_str()).map_err(CopyError::Target)?;
    let expected = sha256_of_name(&name);
    Ok(match read(context, &context.to, &name, CopyError::Target).await? {
        Read::Digest(length, digest) => match expected {
            Some(expected) if expected == digest => Finding::Right(length),
            Some(_) => Finding::Damaged(key, format!("its SHA-256 is {}", hex::encode(digest))),
            None => Finding::Readable(length),
        },
        Read::Gone => Finding::Nothing,
        Read::Unreadable(reason) => Finding::Damaged(key, reason),
    })
}

enum Read {
    Digest(u64, [u8; 32]),
    Gone,
    Unreadable(String),
}

async fn read(
    context: &Arc<Context>,
    store: &Arc<dyn BlobStore>,
    key: &Key,
    failed: fn(StoreError) -> CopyError,
) -> Result<Read> {
    let download = match store.get(key, Part::Whole).await {
        Ok(download) => download,
        Err(StoreError::NotFound) => return Ok(Read::Gone),
        Err(error @ StoreError::Unavailable(_)) => return Err(failed(error)),
        Err(error) => return Ok(Read::Unreadable(error.to_string())),
    };
    let length = download.length;
    Ok(match transfer::digest(limited(context, download.body)).await {
        Ok((read, digest)) if read == length => Read::Digest(length, digest),
        Ok((read, _)) => Read::Unreadable(format!("{read} bytes of {length}")),
        Err(error) => Read::Unreadable(error.to_string()),
    })
}

/// A body that keeps to the bandwidth limit.
fn limited(context: &Arc<Context>, body: Body) -> Body {
    let length = body.length();
    let context = Arc::clone(context);
    let chunks = body.then(move |chunk| {
        let context = Arc::clone(&context);
        async move {
            if let (Some(limiter), Ok(chunk)) = (&context.limiter, &chunk) {
                limiter.take(chunk.len()).await;
            }
            if let Ok(chunk) = &chunk {
                context.read(chunk.len() as u64);
            }
            chunk
        }
    });
    Body::from_stream(length, chunks)
}

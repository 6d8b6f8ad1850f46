//! Copies of stores: a run carries what is new from one store to another, verified, and in an order in
//! which the copy is usable at each moment. This crate knows neither HTTP nor WebAssembly.
//!
//! Start at [`copy`]. `unit` argues why a copy is usable while backups and prunes run,
//! `removal` why a wiped source does not wipe it.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `options`, `report`, `error` | what a caller says and is told |
//! | `order` | what refers to what in a repository, by names; names that state a content |
//! | `walk`, `scan`, `merge` | finds repositories; lists both stores side by side |
//! | `unit` | copies a repository stage by stage |
//! | `transfer`, `limiter` | copies one blob; the bandwidth limit |
//! | `removal` | removes what was missing for long enough |
//! | `verify` | compares a copy with its source, or a store with its names |
//! | `plan`, `records` | lists of blobs that are too long for memory |
//! | `context` | what all parts of a run share |
//!
//! # What is copied
//!
//! A blob whose key the target does not have, with its metadata, tags and content type. A key that the
//! target has is not copied again. If the sizes differ, that is a conflict: it is reported, the
//! target's blob stays, and what refers to it is held back; unless the name states the content and shows
//! that the source's blob is the wrong one, which is then reported as damaged. What backup programs store is written
//! once (packs and snapshots of restic, its `config`, snapshots of etcd), so another content under
//! the same name means that one of the two is damaged, or is not the repository it was. Blobs that a
//! repository's order names by themselves, such as `config`, are compared byte by byte.
//!
//! Names in [`CopyOptions::replace`] are the exception: these blobs may change, and the target's is
//! replaced when the source's has another etag than the one that was copied.

mod context;
mod error;
mod limiter;
mod merge;
mod options;
mod order;
mod plan;
mod records;
mod removal;
mod report;
mod scan;
mod transfer;
mod unit;
mod verify;
mod walk;

use std::sync::Arc;
use std::time::Instant;

use keepgate_store::{BlobStore, Folder};

use crate::context::Context;

pub use crate::error::CopyError;
pub use crate::options::{CopyOptions, Deletes, Progress, ProgressCallback};
pub use crate::order::{Order, sha256_of_name};
pub use crate::report::{Amount, Example, MAX_EXAMPLES, Report, Tally};
pub use crate::verify::{VerifyReport, verify, verify_store};

/// Copies what is new from one store to another. For folders, wrap the stores in
/// [`Subfolder`](keepgate_store::guard::Subfolder).
///
/// The report says what was done, also if the run ended early. Dropping the future ends the run, too:
/// what is in progress leaves no trace, and what was copied stays.
pub async fn copy(
    from: Arc<dyn BlobStore>,
    to: Arc<dyn BlobStore>,
    options: CopyOptions,
) -> (Report, Result<(), CopyError>) {
    let begun = Instant::now();
    let stop = options.stop.clone();
    let context = Context::new(from, to, options);
    let outcome = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        outcome = run(&context) => Some(outcome),
    };
    let mut report = context.report().clone();
    report.stopped = outcome.is_none();
    report.duration = begun.elapsed();
    (report, outcome.unwrap_or(Ok(())))
}

async fn run(context: &Arc<Context>) -> Result<(), CopyError> {
    if let Some(deletes) = &context.options.deletes {
        removal::tidy(deletes).await?;
    }
    walk::visit(context, Folder::top()).await
}

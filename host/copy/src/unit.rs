//! Copies one [`Unit`], so that the copy is usable at each moment.
//!
//! # Why the copy is usable at each moment
//!
//! *Usable* means: whatever a snapshot in the copy refers to is in the copy, too, unless the source
//! itself has lost it. A repository has stages (restic: `config`, `keys`, `data`, `index`,
//! `snapshots`), and a blob refers only to blobs of earlier stages.
//!
//! **Rule.** The stages are *listed* from the last to the first and *copied* from the first to the
//! last. Before the last one is copied, the one before it is listed again, and if anything is new in
//! it, that is copied first, in the same way, until a listing finds nothing new. If a blob could not
//! be copied, later stages are held back.
//!
//! **A backup that runs meanwhile** writes data, then the index, then the snapshot. A snapshot that
//! was listed was complete by then, so the listings of index and data, which came later, contain
//! everything that it refers to. Snapshots that came after the listing are for the next run.
//!
//! **A prune that runs meanwhile** writes the packs that it makes of old ones, then an index of them;
//! then it deletes old index files and at last old packs. Take a snapshot S that is listed, and is
//! still in the source when it is copied. The source could restore S all the time.
//!
//! - If no index file was deleted while the index was listed, the listing has all that S needs. Those
//!   that are still there when their turn comes are copied. Their packs were there then, because packs
//!   go after the index files that name them, so the later listing of the data has them, and they are
//!   in the copy. If one has gone by then, that is seen (it has *vanished*), and the unit is listed once
//!   more.
//! - If one was deleted while the index was listed, the listing may have neither the old file nor the
//!   new one. But the new one was complete before, and so it is found new by the listing that comes
//!   before the snapshots are copied, unless a second prune has removed it, which would have to begin and
//!   end between the two listings.
//!
//! So when a listing of the index finds nothing new and nothing has vanished, the index files that S
//! needs are in the copy, and so are their packs. An index file in the copy may have gone from the
//! source; its packs are in the copy then, because it was copied after them.
//!
//! **A forget that runs meanwhile** deletes snapshots. One that was listed and is gone is left out.
//!
//! **Deletes** come last, from the last stage to the first, and only if nothing was held back,
//! damaged or in conflict; see [`removal`](crate::removal).
//!
//! **A run that is killed** leaves the copy as it was at that moment. The next one lists again and
//! copies what is not there; nothing else has to be remembered.
//!
//! A blob that is damaged in the source holds nothing back: the source has lost it, and the copy of
//! everything else is all the more worth having.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use keepgate_store::{Folder, Key, Part, StoreError};

use crate::context::Context;
use crate::error::{CopyError, Result};
use crate::merge::Pair;
use crate::order::sha256_of_name;
use crate::plan::{Item, Plan};
use crate::removal;
use crate::scan::{Scan, Shape, Unit};
use crate::transfer::{self, Outcome, transfer};

/// How often a source that keeps changing is listed before its last stage is left to the next run.
const PASSES: usize = 8;
/// Entries of a listing that are read at once.
const PAGE: usize = 1000;
/// Damaged blobs that are remembered, so that they are not taken for new ones.
const MAX_DAMAGED: usize = 10_000;
/// After this many failures, a run stops: a disk or a connection is broken, and not single blobs.
const MAX_FAILURES: u64 = 100;
/// Blobs that are named by the order itself (restic's `config`) and are compared byte by byte.
const MAX_COMPARED: u64 = 1024 * 1024;

/// What a unit's copying has come to.
#[derive(Debug, Default)]
struct Standing {
    /// Whether a blob had gone when it was to be copied.
    vanished: bool,
    /// Blobs that are not copied because they are damaged.
    damaged: HashSet<String>,
    /// Why later stages are held back.
    blocked: Option<String>,
}

impl Standing {
    fn block(&mut self, reason: impl Into<String>) {
        self.blocked.get_or_insert_with(|| reason.into());
    }

    fn add_damaged(&mut self, key: &str) {
        if self.damaged.len() >= MAX_DAMAGED {
            self.block("too much of the source is damaged");
        } else {
            self.damaged.insert(key.to_owned());
        }
    }
}

/// Copies what is new in a unit, and removes what is due.
pub(crate) async fn copy(context: &Arc<Context>, unit: &Unit) -> Result<()> {
    let mut standing = Standing::default();
    if matches!(unit.shape, Shape::Repository) {
        make_folders(context, unit).await?;
    }
    let mut plans = VecDeque::new();
    for stage in (0..unit.stages(context)).rev() {
        plans.push_front(plan(context, unit, stage, &mut standing, true).await?);
    }
    let dependent = unit.dependent(context).filter(|stage| *stage > 0);
    for (stage, plan) in plans.into_iter().enumerate() {
        if dependent == Some(stage) && !plan.is_empty() && standing.blocked.is_none() {
            settle(context, unit, stage, &mut standing).await?;
        }
        // What is gone from the last stages was forgotten, and nothing refers to it.
        carry(context, unit, plan, &mut standing).await?;
    }
    if let Some(reason) = &standing.blocked {
        tracing::warn!(folder = unit.name(), reason, "copy held back");
        context.report().held_back.add(unit.name(), reason.as_str());
    }
    match &context.options.deletes {
        Some(deletes) if standing.blocked.is_none() && standing.damaged.is_empty() => {
            removal::follow(context, unit, deletes).await
        }
        Some(_) => {
            let reason = "not everything could be copied, so nothing is removed";
            context.report().kept.add(unit.name(), reason);
            Ok(())
        }
        None => Ok(()),
    }
}

/// Makes the folders of a repository, also those whose blobs are not copied or that have none: a restic server that has
/// no folder `locks` lists no locks, and restic refuses such a repository.
async fn make_folders(context: &Context, unit: &Unit) -> Result<()> {
    let order = &context.options.order;
    let mut listing = match context.from.list(&unit.folder, false).await {
        Ok(listing) => listing,
        Err(StoreError::NotFound) => return Ok(()),
        Err(error) => return Err(CopyError::Source(error)),
    };
    let mut folders = Vec::new();
    loop {
        let entries = listing.next(PAGE).await.map_err(CopyError::Source)?;
        if entries.is_empty() {
            break;
        }
        for entry in entries.into_iter().filter(|entry| entry.folder) {
            if order.knows(entry.key.rsplit('/').next().unwrap_or_default()) {
                folders.push(Folder::new(entry.key).map_err(CopyError::Source)?);
            }
        }
    }
    context.to.prepare(&folders).await.map_err(CopyError::Target)
}

/// Copies what is new in the stages before `stage`, until nothing is.
async fn settle(
    context: &Arc<Context>,
    unit: &Unit,
    stage: usize,
    standing: &mut Standing,
) -> Result<()> {
    for _ in 0..PASSES {
        let vanished = std::mem::take(&mut standing.vanished);
        let newest = plan(context, unit, stage - 1, standing, false).await?;
        if newest.is_empty() && !vanished {
            return Ok(());
        }
        let mut plans = VecDeque::from([newest]);
        for stage in (0..stage - 1).rev() {
            plans.push_front(plan(context, unit, stage, standing, false).await?);
        }
        for plan in plans {
            carry(context, unit, plan, standing).await?;
        }
        if standing.blocked.is_some() {
            return Ok(());
        }
    }
    standing.block("the source changed faster than it could be copied; the next run goes on");
    Ok(())
}

/// Lists a stage and finds what is new in it. Only the first listing of a run counts.
async fn plan(
    context: &Context,
    unit: &Unit,
    stage: usize,
    standing: &mut Standing,
    first: bool,
) -> Result<Plan> {
    let mut plan = Plan::new(context.options.temporary.as_deref());
    let mut scan = Scan::open(context, unit, stage).await?;
    while let Some(pair) = scan.next().await? {
        match compare(context, unit, stage, &pair).await? {
            Difference::New { replaces } => {
                let size = pair.from.as_ref().map_or(0, |entry| entry.size);
                if !standing.damaged.contains(&pair.key) {
                    plan.push(Item { key: pair.key, size, replaces }).await?;
                }
            }
            Difference::None => {
                if first {
                    context.report().present.add(pair.to.map_or(0, |entry| entry.size));
                }
            }
            Difference::Missing => {
                if first {
                    context.report().missing.add(&pair.key, "");
                }
            }
            Difference::Damaged(reason) => {
                if first {
                    standing.add_damaged(&pair.key);
                    context.report().damaged.add(&pair.key, reason);
                }
            }
            Difference::Conflict(reason) => {
                standing.block(format!("{} has another content in the copy", pair.key));
                if first {
                    context.report().conflicts.add(&pair.key, reason);
                }
            }
        }
    }
    context.planned(plan.blobs, plan.bytes);
    Ok(plan)
}

/// How the copy differs from the source under one name.
enum Difference {
    None,
    New {
        replaces: Option<String>,
    },
    Missing,
    Conflict(String),
    /// The copy has another size, and is right.
    Damaged(String),
}

async fn compare(context: &Context, unit: &Unit, stage: usize, pair: &Pair) -> Result<Difference> {
    let (from, to) = match (&pair.from, &pair.to) {
        (Some(from), Some(to)) => (from, to),
        (Some(_), None) => return Ok(Difference::New { replaces: None }),
        (None, _) => return Ok(Difference::Missing),
    };
    if transfer::may_change(context, &pair.key) {
        return match is_copy_of(context, &pair.key, &from.etag).await? {
            true => Ok(Difference::None),
            false => Ok(Difference::New { replaces: Some(to.etag.clone()) }),
        };
    }
    if from.size != to.size {
        let key = Key::new(pair.key.as_str()).map_err(CopyError::Source)?;
        return Ok(match transfer::source_damage(context, &key).await {
            Some(reason) => Difference::Damaged(reason),
            None => Difference::Conflict(transfer::sizes(from.size, to.size)),
        });
    }
    let names = context.options.order.names();
    let is_own_name = unit.shape == Shape::Repository
        && names.get(stage).is_some_and(|name| unit.folder.join(name) == pair.key);
    if is_own_name && from.size <= MAX_COMPARED && differs(context, &pair.key).await? {
        return Ok(Difference::Conflict(
            "other bytes: the source or the copy was made anew, or is another repository"
                .to_owned(),
        ));
    }
    Ok(Difference::None)
}

/// Whether the target's blob was made from the source's blob with this etag.
async fn is_copy_of(context: &Context, key: &str, etag: &str) -> Result<bool> {
    let key = Key::new(key).map_err(CopyError::Source)?;
    match context.to.head(&key).await {
        Ok(info) => {
            let kept = info.metadata.iter().find(|(name, _)| name == transfer::SOURCE_ETAG);
            Ok(kept.is_some_and(|(_, kept)| kept == etag))
        }
        Err(StoreError::NotFound) => Ok(false),
        Err(error) => Err(CopyError::Target(error)),
    }
}

/// Whether two small blobs of the same size have different bytes. A blob that has vanished differs
/// from nothing.
async fn differs(context: &Context, key: &str) -> Result<bool> {
    let key = Key::new(key).map_err(CopyError::Source)?;
    if sha256_of_name(&key).is_some() {
        return Ok(false);
    }
    let from = match context.from.get(&key, Part::Whole).await {
        Ok(download) => download.body.collect(MAX_COMPARED).await,
        Err(StoreError::NotFound) => return Ok(false),
        Err(error) => return Err(CopyError::Source(error)),
    };
    let from = from.map_err(|error| CopyError::Source(error.into()))?;
    let to = match context.to.get(&key, Part::Whole).await {
        Ok(download) => download.body.collect(MAX_COMPARED).await,
        Err(StoreError::NotFound) => return Ok(false),
        Err(error) => return Err(CopyError::Target(error)),
    };
    Ok(from != to.map_err(|error| CopyError::Target(error.into()))?)
}

/// Copies a plan, several blobs at once, unless it is held back.
async fn carry(
    context: &Arc<Context>,
    unit: &Unit,
    plan: Plan,
    standing: &mut Standing,
) -> Result<()> {
    if standing.blocked.is_some() || plan.is_empty() {
        return Ok(());
    }
    let items = stream::try_unfold(plan.read().await?, |mut reader| async move {
        Ok::<_, CopyError>(reader.next().await?.map(|item| (item, reader)))
    });
    let mut outcomes = items
        .map(|item| async move {
            let item = item?;
            let outcome = transfer(context, &item).await?;
            Ok::<_, CopyError>((item, outcome))
        })
        .buffer_unordered(context.parallel())
        .boxed();
    while let Some(done) = outcomes.next().await {
        let (item, outcome) = done?;
        record(context, unit, &item, outcome, standing)?;
        context.done();
    }
    Ok(())
}

fn record(
    context: &Context,
    unit: &Unit,
    item: &Item,
    outcome: Outcome,
    standing: &mut Standing,
) -> Result<()> {
    let key = item.key.as_str();
    if matches!(outcome, Outcome::Copied(_) | Outcome::Present(_) | Outcome::Vanished) {
        context.settled(item.size);
    }
    match outcome {
        Outcome::Copied(bytes) => context.report().copied.add(bytes),
        Outcome::Present(bytes) => context.report().present.add(bytes),
        Outcome::Vanished => {
            standing.vanished = true;
            context.report().vanished.add(key, "");
        }
        Outcome::Conflict(reason) => {
            standing.block(format!("{key} has another content in the copy"));
            context.report().conflicts.add(key, reason);
        }
        Outcome::Refused(reason) => {
            standing.block(format!("the target refused {key}: {reason}"));
            context.report().refused.add(key, reason);
        }
        Outcome::Damaged(reason) => {
            tracing::error!(key, reason, "damaged blob not copied");
            standing.add_damaged(key);
            context.report().damaged.add(key, reason);
        }
        Outcome::Failed(reason) => {
            tracing::warn!(folder = unit.name(), key, reason, "blob not copied");
            standing.block(format!("{key} could not be copied: {reason}"));
            let mut report = context.report();
            report.failed.add(key, reason);
            if report.failed.count >= MAX_FAILURES {
                return Err(CopyError::TooManyFailures(report.failed.count));
            }
        }
    }
    Ok(())
}

//! `keepgate store`: what is in the stores of a configuration, for people. It opens the stores by itself
//! and needs no running gateway; one that runs may go on.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use bytesize::ByteSize;
use keepgate_copy::{Amount, CopyOptions, Report, Tally, VerifyReport};
use keepgate_store::{BlobStore, Entry, Folder, StoreError};
use serde::Serialize;
use serde_json::json;

use crate::assemble::Assembly;
use crate::cli::{Pace, Store, StoreCommand};
use crate::config::{self, Config};
use crate::copies;
use crate::output::{note, say};

/// Entries of a listing that are read at once.
const PAGE: usize = 1000;

/// Runs the command. The exit code is 1 if a store is not right, or a copy is not complete.
pub(crate) async fn run(arguments: Store) -> Result<u8> {
    let Store { config: file, json, command } = arguments;
    let stores = Stores::open(&file)?;
    match command {
        StoreCommand::List { store: None } => stores.names(json).map(|()| 0),
        StoreCommand::List { store: Some(named) } => {
            list(&*stores.store(&named)?, &named, json).await.map(|()| 0)
        }
        StoreCommand::Verify { store, copy_of, pace } => {
            let (to, options) = (stores.store(&store)?, options(&pace));
            let report = match copy_of {
                None => Box::pin(keepgate_copy::verify_store(to, options)).await,
                Some(source) => {
                    let options = stores.like_configured(&source, &store, options);
                    let from = stores.store(&source)?;
                    Box::pin(keepgate_copy::verify(from, to, options)).await
                }
            };
            let report = report.with_context(|| format!("cannot verify {store:?}"))?;
            print(json, &report, verified)?;
            Ok(u8::from(!report.is_right()))
        }
        StoreCommand::Copy { from, to, pace } => {
            stores.check_apart(&from, &to)?;
            let options = stores.like_configured(&from, &to, options(&pace));
            if stores.has_quota(&to) {
                note!("quotas of {to:?} count what is copied when they count all blobs again");
            }
            let (source, target) = (stores.store(&from)?, stores.store(&to)?);
            let (report, outcome) = Box::pin(keepgate_copy::copy(source, target, options)).await;
            print(json, &report, copied)?;
            outcome.with_context(|| format!("cannot copy {from:?} to {to:?}"))?;
            Ok(u8::from(!report.is_complete()))
        }
    }
}

/// The stores of a configuration.
struct Stores {
    config: Config,
    assembly: Assembly,
}

impl Stores {
    fn open(file: &Path) -> Result<Self> {
        let config = Config::load(file)?;
        let assembly = Assembly::to_look_at(&config)?;
        Ok(Self { config, assembly })
    }

    /// A store, or a folder of one, without quotas, which belong to the running gateway.
    fn store(&self, named: &str) -> Result<Arc<dyn BlobStore>> {
        let known = self.config.store.keys().cloned().collect::<Vec<_>>().join(", ");
        let found = self.assembly.store(named);
        let (store, folder) = found.with_context(|| format!("configured stores: {known}"))?;
        Ok(copies::below(store.bare(), folder))
    }

    /// Refuses to copy a folder into itself.
    fn check_apart(&self, from: &str, to: &str) -> Result<()> {
        let place = |named: &str| {
            let (name, folder) = config::store_and_folder(named);
            self.config.store.get(name)?.get_ref().place(folder)
        };
        if let (Some(one), Some(other)) = (place(from), place(to))
            && (one.starts_with(&other) || other.starts_with(&one))
        {
            bail!("{from:?} and {to:?} are the same folder, or one is inside the other");
        }
        Ok(())
    }

    fn has_quota(&self, named: &str) -> bool {
        let (name, _) = config::store_and_folder(named);
        let store = self.config.store.get(name);
        let quota = store.is_some_and(|store| store.get_ref().quota.is_some());
        let mounted = self.config.mount.iter().filter(|mount| {
            let mut stores = mount.stores.values();
            stores.any(|store| config::store_and_folder(store.get_ref()).0 == name)
        });
        let rules = |mount: &config::Mount| {
            let mut policies = mount.rule.iter().map(|rule| rule.policy.get_ref().quota);
            mount.policy.quota.is_some() || policies.any(|quota| quota.is_some())
        };
        quota || mounted.into_iter().any(rules)
    }

    /// The order and the names that may change, if the configuration has this copy.
    fn like_configured(&self, from: &str, to: &str, options: CopyOptions) -> CopyOptions {
        let same =
            |copy: &&config::StoreCopy| copy.from.get_ref() == from && copy.to.get_ref() == to;
        match self.config.copy.values().find(same) {
            Some(copy) => {
                CopyOptions { order: copy.order(), replace: copy.replace.clone(), ..options }
            }
            None => options,
        }
    }

    fn names(&self, json: bool) -> Result<()> {
        let stores = self.assembly.places();
        if json {
            let stores = stores.map(|(name, place)| json!({"name": name, "place": place}));
            return say!("{}", serde_json::to_string_pretty(&stores.collect::<Vec<_>>())?);
        }
        stores.into_iter().try_for_each(|(name, place)| say!("{name}  {place}"))
    }
}

fn options(pace: &Pace) -> CopyOptions {
    CopyOptions {
        parallel: pace.parallel.into(),
        bandwidth: pace.bandwidth.map(|bytes| bytes.as_u64()),
        ..CopyOptions::default()
    }
}

/// One line for each blob, as they are read.
async fn list(store: &dyn BlobStore, named: &str, json: bool) -> Result<()> {
    let failed = || format!("cannot list {named:?}");
    let mut listing = match store.list(&Folder::top(), true).await {
        Err(StoreError::NotFound) => bail!("{named:?} does not exist"),
        listing => listing.with_context(failed)?,
    };
    loop {
        let page = listing.next(PAGE).await.with_context(failed)?;
        if page.is_empty() {
            return Ok(());
        }
        page.iter().try_for_each(|entry| print_entry(entry, json))?;
    }
}

fn print_entry(entry: &Entry, json: bool) -> Result<()> {
    let modified = entry.modified.duration_since(std::time::UNIX_EPOCH);
    let seconds = modified.map_or(0, |since| since.as_secs());
    if json {
        // One document per line: a listing may be long.
        let line = json!({"key": entry.key, "bytes": entry.size, "modified": seconds});
        return say!("{line}");
    }
    // A key may hold a line break.
    say!("{:>12}  {}", entry.size, entry.key.escape_debug())
}

fn print<T: Serialize>(json: bool, value: &T, lines: fn(&T) -> Vec<String>) -> Result<()> {
    if json {
        return say!("{}", serde_json::to_string_pretty(value)?);
    }
    lines(value).into_iter().try_for_each(|line| say!("{line}"))
}

fn copied(report: &Report) -> Vec<String> {
    let mut lines = vec![
        format!("copied     {}", amount(report.copied)),
        format!("present    {}", amount(report.present)),
    ];
    if report.behind.blobs > 0 {
        lines.push(format!("behind     {}", amount(report.behind)));
    }
    if report.missing.count > 0 {
        let count = report.missing.count;
        lines.push(format!("missing    {count} blobs of the copy are no longer in the source"));
    }
    lines.extend(report.concerns().into_iter().map(|concern| format!("wrong: {concern}")));
    lines
}

fn verified(report: &VerifyReport) -> Vec<String> {
    let mut lines = vec![format!("right      {}", amount(report.verified))];
    if report.readable.blobs > 0 {
        lines.push(format!("readable   {}, not named by their content", amount(report.readable)));
    }
    let tallies = [
        ("behind", "not in the copy", &report.behind),
        ("missing", "no longer in the source", &report.missing),
    ];
    for (name, what, tally) in tallies {
        if !tally.is_empty() {
            lines.push(format!("{name:<10} {} blobs, {what}", tally.count));
        }
    }
    lines.extend(wrong("damaged", &report.damaged));
    lines.extend(wrong("different from the source", &report.different));
    lines
}

fn wrong(what: &str, tally: &Tally) -> Vec<String> {
    let line = |example: &keepgate_copy::Example| {
        format!("wrong: {what}: {}: {}", example.key.escape_debug(), example.reason)
    };
    let mut lines: Vec<_> = tally.examples.iter().map(line).collect();
    let shown = lines.len() as u64;
    if tally.count > shown {
        lines.push(format!("wrong: {what}: {} more", tally.count - shown));
    }
    lines
}

fn amount(amount: Amount) -> String {
    format!("{} blobs, {}", amount.blobs, ByteSize(amount.bytes).display().iec())
}

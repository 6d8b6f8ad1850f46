//! `[copy.NAME]`, a copy of a store, or of a folder of one, in another.

use std::path::PathBuf;

use keepgate_copy::{Deletes, Order};
use keepgate_jobs::Trigger;
use keepgate_store::Folder;
use serde::Deserialize;
use toml::Spanned;

use super::schedule::{self, Times};
use super::{Config, Interval, Missed, Problem, Problems, Size, store_and_folder};

/// What the schedule of a copy is called, with the copy's name behind it.
pub(crate) const SCHEDULE: &str = "copy";

/// `[copy.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreCopy {
    /// The store that is copied, or a folder of it.
    pub(crate) from: Spanned<String>,
    /// The store that holds the copy, or a folder of it.
    pub(crate) to: Spanned<String>,
    #[serde(default)]
    pub(crate) cron: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) time_zone: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) every: Option<Interval>,
    #[serde(default)]
    pub(crate) jitter: Option<Spanned<Interval>>,
    #[serde(default)]
    pub(crate) missed: Missed,
    /// Bytes per second.
    #[serde(default)]
    pub(crate) bandwidth: Option<Spanned<Size>>,
    /// How many blobs at once.
    #[serde(default)]
    pub(crate) parallel: Option<Spanned<usize>>,
    /// Names in a repository, what is referred to first; restic's by default.
    #[serde(default)]
    pub(crate) order: Option<Spanned<Vec<String>>>,
    /// Names of blobs whose content may change.
    #[serde(default)]
    pub(crate) replace: Vec<String>,
    /// How long a blob must be missing before it is removed from the copy; never by default.
    #[serde(default)]
    pub(crate) delete_after: Option<Interval>,
    /// The largest share that may come to be missing at once.
    #[serde(default)]
    pub(crate) max_missing: Option<Spanned<f64>>,
}

impl StoreCopy {
    /// When it runs.
    pub(crate) fn when(&self) -> Result<Trigger, Problem> {
        schedule::trigger(Times {
            cron: self.cron.as_ref(),
            time_zone: self.time_zone.as_ref(),
            every: self.every,
            jitter: self.jitter.as_ref(),
            place: self.from.span(),
        })
    }

    /// What refers to what.
    pub(crate) fn order(&self) -> Order {
        match &self.order {
            None => Order::restic(),
            Some(names) if names.get_ref().is_empty() => Order::plain(),
            Some(names) => Order::of(names.get_ref().clone()),
        }
    }

    /// The share that may come to be missing at once.
    pub(crate) fn max_missing(&self) -> f64 {
        self.max_missing.as_ref().map_or(Deletes::MAX_MISSING, |share| *share.get_ref())
    }
}

/// What the schedule of a copy is called. `keepgate jobs run` takes this name.
pub(crate) fn schedule_name(copy: &str) -> String {
    format!("{SCHEDULE} {copy}")
}

pub(super) fn check(config: &Config, problems: &mut Problems) {
    for (name, copy) in &config.copy {
        check_copy(config, name, copy, problems);
    }
}

fn check_copy(config: &Config, name: &str, copy: &StoreCopy, problems: &mut Problems) {
    let about = format!("[copy.{name}]");
    if !config.jobs.enabled {
        let message = format!("{about} needs jobs, but [jobs] has `enabled = false`");
        problems.add(copy.from.span(), message);
    }
    if config.schedule.contains_key(&schedule_name(name)) {
        let message =
            format!("{about}: there is a [schedule.\"{SCHEDULE} {name}\"]; rename one of the two");
        problems.add(copy.from.span(), message);
    }
    for named in [&copy.from, &copy.to] {
        super::check::check_store(config, &about, named, problems);
    }
    if let (Some(from), Some(to)) = (place(config, &copy.from), place(config, &copy.to))
        && (from.starts_with(&to) || to.starts_with(&from))
    {
        let message = match from == to {
            true => {
                format!("{about}: `to` is the same folder as `from`; a copy needs another place")
            }
            false => format!(
                "{about}: one of `from` and `to` is inside the other; a copy needs a place outside of \
                 what is copied"
            ),
        };
        problems.add(copy.to.span(), message);
    }
    problems.add_error(copy.when());
    if let Some(bandwidth) = &copy.bandwidth
        && bandwidth.get_ref().0 == 0
    {
        let message = format!("{about} bandwidth must be more than zero bytes per second");
        problems.add(bandwidth.span(), message);
    }
    if let Some(parallel) = &copy.parallel
        && !(1..=256).contains(parallel.get_ref())
    {
        problems.add(parallel.span(), format!("{about} parallel must be between 1 and 256"));
    }
    if let Some(share) = &copy.max_missing
        && !(0.0..=1.0).contains(share.get_ref())
    {
        let message = format!("{about} max_missing is a share between 0.0 and 1.0");
        problems.add(share.span(), message);
    }
    if let Some(share) = copy.max_missing.as_ref().filter(|_| copy.delete_after.is_none()) {
        let message = format!("{about} max_missing applies only to `delete_after`; remove it");
        problems.add(share.span(), message);
    }
    if let Some(order) = &copy.order {
        check_order(&about, order, problems);
    }
}

fn check_order(about: &str, order: &Spanned<Vec<String>>, problems: &mut Problems) {
    for name in order.get_ref() {
        if name.is_empty() || name.contains('/') || Folder::new(name.as_str()).is_err() {
            let message = format!(
                "{about} order: {name:?} is not the name of a folder or blob in a repository, such as \
                 \"data\""
            );
            problems.add(order.span(), message);
        }
    }
}

/// The place that a name stands for; see [`Store::place`](super::Store::place).
fn place(config: &Config, named: &Spanned<String>) -> Option<PathBuf> {
    let (store, folder) = store_and_folder(named.get_ref());
    config.store.get(store)?.get_ref().place(folder)
}

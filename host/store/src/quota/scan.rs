//! A count in progress while uploads and deletes go on. The documentation of [`quota`](super)
//! argues why it is exact; this is the bookkeeping, which does no I/O.

use std::collections::HashMap;
use std::sync::Arc;

use super::rules::{Charge, Compiled};
use super::totals::{Amount, Totals};

/// A count in progress.
#[derive(Debug)]
pub(super) struct Scan {
    /// The rules to count by, which may differ from those in force.
    pub(super) rules: Arc<Compiled>,
    totals: Totals,
    cursor: Cursor,
    /// Keys for which what the walk itself saw does not count.
    overrides: HashMap<String, Override>,
}

/// How far the walk has come.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cursor {
    Beginning,
    /// Past this key and all keys before it.
    Past(String),
    End,
}

/// What is under a key, regardless of what the walk saw.
#[derive(Debug)]
struct Override {
    /// The blob, according to the key's last change.
    blob: Option<(u64, Charge)>,
    /// The key is being changed at this moment.
    open: bool,
}

/// A blob as the walk saw it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) owner: Option<String>,
}

/// How a key changed, with the owners of the blobs.
#[derive(Debug)]
pub(super) struct Delta<'a> {
    pub(super) gone: Option<(u64, Option<&'a str>)>,
    pub(super) came: Option<(u64, Option<&'a str>)>,
}

impl Scan {
    /// Begins a count. The walk must start afterwards.
    pub(super) fn new(rules: Arc<Compiled>) -> Self {
        let (totals, overrides) = Default::default();
        Self { rules, totals, cursor: Cursor::Beginning, overrides }
    }

    /// Records that the walk is past these blobs, which are sorted, and past every key up to
    /// `last`; past all keys if `last` is none. `open` are keys that are being changed now.
    pub(super) fn pass<'a>(
        &mut self,
        seen: &[Seen],
        last: Option<&str>,
        open: impl Iterator<Item = &'a str>,
    ) {
        let cursor = last.map_or(Cursor::End, |last| Cursor::Past(last.to_owned()));
        let before = std::mem::replace(&mut self.cursor, cursor);
        for key in open.filter(|key| !before.is_past(key) && self.cursor.is_past(key)) {
            let known = self.overrides.entry(key.to_owned()).or_insert_with(|| {
                let found = seen.binary_search_by(|seen| seen.key.as_str().cmp(key)).ok();
                let blob = found.and_then(|at| seen.get(at)).map(|seen| of(&self.rules, seen));
                Override { blob, open: true }
            });
            known.open = true;
        }
        for seen in seen {
            if !self.overrides.contains_key(&seen.key) {
                let (size, charge) = of(&self.rules, seen);
                self.totals.add(&charge, Amount::blob(size));
            }
        }
    }

    /// Records that a change is over; `None` if nothing changed in the end.
    pub(super) fn changed(&mut self, key: &str, delta: Option<Delta<'_>>) {
        let rules = &self.rules;
        let charged = |(size, owner): (u64, Option<&str>)| (size, rules.charge(key, owner));
        if let Some(known) = self.overrides.get_mut(key) {
            known.open = false;
            if let Some(delta) = delta {
                known.blob = delta.came.map(charged);
            }
            return;
        }
        let Some(delta) = delta else {
            return;
        };
        if !self.cursor.is_past(key) {
            let known = Override { blob: delta.came.map(charged), open: false };
            self.overrides.insert(key.to_owned(), known);
            return;
        }
        if let Some((size, charge)) = delta.came.map(charged) {
            self.totals.add(&charge, Amount::blob(size));
        }
        if let Some((size, charge)) = delta.gone.map(charged) {
            // Too few bytes if another program made the blob behind the walk: the next count
            // corrects it.
            let _ = self.totals.subtract(&charge, Amount::blob(size));
        }
    }

    /// Counts a folder that was found or made. One that is made while folders are being looked for may be counted
    /// twice, until the next count.
    pub(super) fn folder(&mut self, name: &str) {
        let charge = self.rules.charge(name, None);
        self.totals.add(&charge, Amount::entries(1));
    }

    /// Counts markers that were found or made, and those that were removed.
    pub(super) fn markers(&mut self, came: u64, gone: u64) {
        self.totals.add(&Charge::default(), Amount::entries(came));
        let _ = self.totals.subtract(&Charge::default(), Amount::entries(gone));
    }

    /// Whether the count is complete.
    pub(super) fn is_over(&self) -> bool {
        self.cursor == Cursor::End && !self.overrides.values().any(|known| known.open)
    }

    /// The sums, once the count is complete.
    pub(super) fn finish(self) -> (Arc<Compiled>, Totals) {
        let mut totals = self.totals;
        for (size, charge) in self.overrides.into_values().filter_map(|known| known.blob) {
            totals.add(&charge, Amount::blob(size));
        }
        (self.rules, totals)
    }
}

impl Cursor {
    fn is_past(&self, key: &str) -> bool {
        match self {
            Self::Beginning => false,
            Self::Past(last) => key <= last.as_str(),
            Self::End => true,
        }
    }
}

fn of(rules: &Compiled, seen: &Seen) -> (u64, Charge) {
    (seen.size, rules.charge(&seen.key, seen.owner.as_deref()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::rules::{FolderRule, Rules, UserRule};
    use super::super::tests::Random;
    use super::*;

    /// A blob: bytes and owner.
    type Blob = (u64, Option<&'static str>);

    /// A change of a key, in one of its steps.
    #[derive(Clone, Copy)]
    enum Step {
        /// `before_commit` was called.
        Open { key: usize, to: Option<Blob>, fails: bool },
        /// The blob was replaced or removed.
        Done { key: usize, from: Option<Blob>, to: Option<Blob> },
    }

    const KEYS: [&str; 6] = ["a", "f/a", "f/b", "f/c", "g/a", "z"];

    struct World {
        scan: Option<Scan>,
        rules: Arc<Compiled>,
        blobs: [Option<Blob>; KEYS.len()],
        steps: Vec<Step>,
        /// What the walk has seen but not passed yet.
        seen: Vec<Seen>,
        /// The key that the walk looks at next.
        next: usize,
        finished: Option<Totals>,
    }

    impl World {
        fn open(&self) -> Vec<usize> {
            let key = |step: &Step| match step {
                Step::Open { key, .. } | Step::Done { key, .. } => *key,
            };
            self.steps.iter().map(key).collect()
        }

        /// One random step of one change; changes of different keys interleave.
        fn change(&mut self, random: &mut Random) {
            if self.steps.len() < 3 && random.below(3) == 0 {
                let key = random.below(KEYS.len());
                if !self.open().contains(&key) {
                    let owner = [None, Some("u"), Some("v")][random.below(3)];
                    let size = 1 << random.below(20);
                    let to = (random.below(3) > 0).then_some((size, owner));
                    self.steps.push(Step::Open { key, to, fails: random.below(4) == 0 });
                }
                return;
            }
            if self.steps.is_empty() {
                return;
            }
            let index = random.below(self.steps.len());
            match self.steps[index] {
                Step::Open { key, fails: true, .. } => {
                    self.steps.remove(index);
                    self.tell(key, None);
                }
                Step::Open { key, to, .. } => {
                    let from = std::mem::replace(&mut self.blobs[key], to);
                    self.steps[index] = Step::Done { key, from, to };
                }
                Step::Done { key, from, to } => {
                    self.steps.remove(index);
                    let changed = from.is_some() || to.is_some();
                    self.tell(key, changed.then_some(Delta { gone: from, came: to }));
                }
            }
        }

        fn tell(&mut self, key: usize, delta: Option<Delta<'_>>) {
            if let Some(scan) = &mut self.scan {
                scan.changed(KEYS[key], delta);
            } else if let (Some(totals), Some(delta)) = (&mut self.finished, delta) {
                // The count was taken over; changes correct it from now on.
                let charge = |owner| self.rules.charge(KEYS[key], owner);
                if let Some((size, owner)) = delta.came {
                    totals.add(&charge(owner), Amount::blob(size));
                }
                if let Some((size, owner)) = delta.gone {
                    assert!(
                        totals.subtract(&charge(owner), Amount::blob(size)),
                        "removed more than there was"
                    );
                }
            }
        }

        /// One step of the walk: looks at a key, or passes the keys it has looked at.
        fn walk(&mut self, random: &mut Random) {
            let open = self.open();
            let Some(scan) = &mut self.scan else { return };
            if self.next < KEYS.len() && random.below(3) > 0 {
                if let Some((size, owner)) = self.blobs[self.next] {
                    let owner = owner.map(str::to_owned);
                    self.seen.push(Seen { key: KEYS[self.next].to_owned(), size, owner });
                }
                self.next += 1;
                return;
            }
            let open = open.into_iter().map(|key| KEYS[key]);
            if let Some(last) = self.seen.last().map(|last| last.key.clone()) {
                scan.pass(&std::mem::take(&mut self.seen), Some(&last), open);
            } else if self.next == KEYS.len() && scan.cursor != Cursor::End {
                scan.pass(&[], None, open);
            }
            if scan.is_over() {
                self.finished = self.scan.take().map(|scan| scan.finish().1);
            }
        }
    }

    /// Interleaves changes, the walk's looks and its passing at random.
    #[test]
    fn a_count_is_exact_however_changes_interleave_with_it() {
        let folders = vec![FolderRule { pattern: "*".to_owned(), limit: Amount::default() }];
        let users = vec![UserRule { user: "*".to_owned(), limit: Amount::default() }];
        let rules = Arc::new(Compiled::new(Rules { total: None, folders, users }).unwrap());
        for seed in 0..20_000 {
            let mut random = Random(seed);
            let mut world = World {
                scan: None,
                rules: Arc::clone(&rules),
                blobs: Default::default(),
                steps: Vec::new(),
                seen: Vec::new(),
                next: 0,
                finished: None,
            };
            for _ in 0..random.below(30) {
                world.change(&mut random);
            }
            // Some changes are already open.
            world.scan = Some(Scan::new(Arc::clone(&rules)));
            while world.finished.is_none() {
                // In some runs more changes than the walk can keep up with, in others hardly any.
                for _ in 0..random.below(2 + usize::try_from(seed).unwrap() % 6) {
                    world.change(&mut random);
                }
                world.walk(&mut random);
            }
            while !world.steps.is_empty() {
                world.change(&mut random);
            }
            let mut truth = Totals::default();
            for (key, blob) in KEYS.iter().zip(world.blobs) {
                if let Some((size, owner)) = blob {
                    truth.add(&rules.charge(key, owner), Amount::blob(size));
                }
            }
            let sorted = |totals: &Totals| {
                let sums = totals.folders.iter().chain(&totals.users);
                let sums: BTreeMap<_, _> =
                    sums.map(|(name, sum)| (name.to_string(), *sum)).collect();
                (totals.store, sums)
            };
            assert_eq!(sorted(&world.finished.unwrap()), sorted(&truth), "seed {seed}");
        }
    }
}

//! A count that is being made while uploads and deletes go on. The argument why it is exact is in
//! the documentation of [`quota`](super); this is the bookkeeping, which does no I/O.

use std::collections::HashMap;
use std::sync::Arc;

use super::rules::{Charge, Compiled};
use super::tally::Tally;

/// A count under way.
#[derive(Debug)]
pub(super) struct Census {
    /// Under which it counts; they may be other ones than those in force.
    pub(super) rules: Arc<Compiled>,
    tally: Tally,
    cursor: Cursor,
    /// Keys of which the walk's own look does not count.
    aside: HashMap<String, Aside>,
}

/// How far the walk is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cursor {
    Beginning,
    /// Past this key and all before it.
    Past(String),
    End,
}

/// What is under a key that was set aside.
#[derive(Debug)]
struct Aside {
    /// The blob, by what its last change told.
    blob: Option<(u64, Charge)>,
    /// It is being changed at this moment.
    open: bool,
}

/// A blob as the walk saw it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) owner: Option<String>,
}

/// How a key changed, by the owners of the blobs.
#[derive(Debug)]
pub(super) struct Delta<'a> {
    pub(super) gone: Option<(u64, Option<&'a str>)>,
    pub(super) came: Option<(u64, Option<&'a str>)>,
}

impl Census {
    /// Begins one. The walk must begin afterwards.
    pub(super) fn new(rules: Arc<Compiled>) -> Self {
        let (tally, aside) = Default::default();
        Self { rules, tally, cursor: Cursor::Beginning, aside }
    }

    /// The walk is past these blobs, which come in order, and past every key up to the last of
    /// them; past all keys where there are none. `open` are keys that are being changed now.
    pub(super) fn pass<'a>(
        &mut self,
        seen: &[Seen],
        last: Option<&str>,
        open: impl Iterator<Item = &'a str>,
    ) {
        let cursor = last.map_or(Cursor::End, |last| Cursor::Past(last.to_owned()));
        let before = std::mem::replace(&mut self.cursor, cursor);
        for key in open.filter(|key| !before.is_past(key) && self.cursor.is_past(key)) {
            let aside = self.aside.entry(key.to_owned()).or_insert_with(|| {
                let found = seen.binary_search_by(|seen| seen.key.as_str().cmp(key)).ok();
                let blob = found.and_then(|at| seen.get(at)).map(|seen| of(&self.rules, seen));
                Aside { blob, open: true }
            });
            aside.open = true;
        }
        for seen in seen {
            if !self.aside.contains_key(&seen.key) {
                let (size, charge) = of(&self.rules, seen);
                self.tally.add(&charge, size);
            }
        }
    }

    /// A change is over; none where nothing was changed in the end.
    pub(super) fn changed(&mut self, key: &str, delta: Option<Delta<'_>>) {
        let rules = &self.rules;
        let charged = |(size, owner): (u64, Option<&str>)| (size, rules.charge(key, owner));
        if let Some(aside) = self.aside.get_mut(key) {
            aside.open = false;
            if let Some(delta) = delta {
                aside.blob = delta.came.map(charged);
            }
            return;
        }
        let Some(delta) = delta else {
            return;
        };
        if !self.cursor.is_past(key) {
            let aside = Aside { blob: delta.came.map(charged), open: false };
            self.aside.insert(key.to_owned(), aside);
            return;
        }
        if let Some((size, charge)) = delta.came.map(charged) {
            self.tally.add(&charge, size);
        }
        if let Some((size, charge)) = delta.gone.map(charged) {
            // Fewer where another program made the blob behind the walk: the next count finds it.
            let _ = self.tally.subtract(&charge, size);
        }
    }

    /// Whether the count is complete.
    pub(super) fn is_over(&self) -> bool {
        self.cursor == Cursor::End && !self.aside.values().any(|aside| aside.open)
    }

    /// The count, once it is complete.
    pub(super) fn finish(self) -> (Arc<Compiled>, Tally) {
        let mut tally = self.tally;
        for (size, charge) in self.aside.into_values().filter_map(|aside| aside.blob) {
            tally.add(&charge, size);
        }
        (self.rules, tally)
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

    /// A change of a key on its way through its steps.
    #[derive(Clone, Copy)]
    enum Step {
        /// `before` was called.
        Open { key: usize, to: Option<Blob>, fails: bool },
        /// The blob is another one.
        Done { key: usize, from: Option<Blob>, to: Option<Blob> },
    }

    const KEYS: [&str; 6] = ["a", "f/a", "f/b", "f/c", "g/a", "z"];

    struct World {
        census: Option<Census>,
        rules: Arc<Compiled>,
        blobs: [Option<Blob>; KEYS.len()],
        steps: Vec<Step>,
        /// What the walk saw and has not passed yet.
        seen: Vec<Seen>,
        /// The key that the walk looks at next.
        next: usize,
        finished: Option<Tally>,
    }

    impl World {
        fn open(&self) -> Vec<usize> {
            let key = |step: &Step| match step {
                Step::Open { key, .. } | Step::Done { key, .. } => *key,
            };
            self.steps.iter().map(key).collect()
        }

        /// One random step of one change, in any order among changes of different keys.
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
            if let Some(census) = &mut self.census {
                census.changed(KEYS[key], delta);
            } else if let (Some(tally), Some(delta)) = (&mut self.finished, delta) {
                // Taken over: from now on it is corrected by all that is told.
                let charge = |owner| self.rules.charge(KEYS[key], owner);
                if let Some((size, owner)) = delta.came {
                    tally.add(&charge(owner), size);
                }
                if let Some((size, owner)) = delta.gone {
                    assert!(tally.subtract(&charge(owner), size), "more went than there was");
                }
            }
        }

        /// One step of the walk: look at a key, or pass those that were looked at.
        fn walk(&mut self, random: &mut Random) {
            let open = self.open();
            let Some(census) = &mut self.census else { return };
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
                census.pass(&std::mem::take(&mut self.seen), Some(&last), open);
            } else if self.next == KEYS.len() && census.cursor != Cursor::End {
                census.pass(&[], None, open);
            }
            if census.is_over() {
                self.finished = self.census.take().map(|census| census.finish().1);
            }
        }
    }

    /// Plays changes, the walk's looks and its passing in every order that comes up.
    #[test]
    fn a_count_is_exact_whatever_comes_between() {
        let folders = vec![FolderRule { pattern: "*".to_owned(), limit: 0 }];
        let users = vec![UserRule { user: "*".to_owned(), limit: 0 }];
        let rules = Arc::new(Compiled::new(Rules { total: None, folders, users }).unwrap());
        for seed in 0..20_000 {
            let mut random = Random(seed);
            let mut world = World {
                census: None,
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
            // Some changes are open already.
            world.census = Some(Census::new(Arc::clone(&rules)));
            while world.finished.is_none() {
                // More changes than the walk can follow in some runs, hardly any in others.
                for _ in 0..random.below(2 + usize::try_from(seed).unwrap() % 6) {
                    world.change(&mut random);
                }
                world.walk(&mut random);
            }
            while !world.steps.is_empty() {
                world.change(&mut random);
            }
            let mut truth = Tally::default();
            for (key, blob) in KEYS.iter().zip(world.blobs) {
                if let Some((size, owner)) = blob {
                    truth.add(&rules.charge(key, owner), size);
                }
            }
            let sorted = |tally: &Tally| {
                let sums = tally.folders.iter().chain(&tally.users);
                let sums: BTreeMap<_, _> =
                    sums.map(|(name, sum)| (name.to_string(), *sum)).collect();
                (tally.store, sums)
            };
            assert_eq!(sorted(&world.finished.unwrap()), sorted(&truth), "seed {seed}");
        }
    }
}

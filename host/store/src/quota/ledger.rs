//! The counts, what is reserved of them, and the calls under way. Every method is one short step
//! under one lock; none does I/O.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytesize::ByteSize;

use super::census::{Census, Delta, Seen};
use super::file::Saved;
use super::rules::{Charge, Compiled, Scope};
use super::tally::Tally;
use super::{OWNER, Usage};
use crate::{Changed, Fields, Key};

/// Bytes by which the state file may be ahead of the truth: a sixteenth of the smallest limit,
/// within these.
const STEP: (u64, u64) = (8 << 20, 128 << 20);

/// All that a quota knows.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) rules: Arc<Compiled>,
    /// Bytes of blobs that are there.
    pub(super) used: Tally,
    /// Bytes that uploads under way may add, and of blobs that went but might come back in a power
    /// cut, since their folder is not synced yet.
    held: Tally,
    /// After an unclean end: by how much every count may be too low, until a count is complete.
    pub(super) surplus: u64,
    calls: HashMap<u64, Call>,
    last_call: u64,
    census: Option<Census>,
    /// Bytes that may still be reserved before the state file must be written.
    pub(super) room: u64,
    /// The same by the state file that is being written just now; none as well where what is being
    /// written was overtaken by a count.
    next_room: Option<u64>,
    /// How many states were taken to be written, and the last one of them that is in the file.
    taken: u64,
    written: u64,
    /// The file says that the end was orderly.
    closed: bool,
    /// How far ahead the next state file will be.
    pub(super) step: u64,
}

/// A put, a concat or a delete under way.
#[derive(Debug)]
struct Call {
    key: Key,
    /// As kept with the blob that is being stored.
    owner: Option<Arc<str>>,
    charge: Charge,
    reserved: u64,
    /// A blob that this call removed or replaced: bytes and owner.
    leaving: Option<(u64, Option<String>, Charge)>,
    /// The key is being changed at this moment.
    open: bool,
}

/// What is yet to be done for bytes that are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// It is time to write the state file, without waiting for it.
    WriteSoon,
    /// A state that is taken after this one must be in the file before a byte is stored.
    WriteAfter(u64),
}

/// A count that was wrong: another program changed the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Of what.
    pub scope: Scope,
    /// Bytes that were counted before.
    pub old: u64,
    /// Bytes that there are.
    pub new: u64,
}

impl Ledger {
    pub(super) fn new(rules: Arc<Compiled>) -> Self {
        let step = step(&rules);
        Self {
            rules,
            used: Tally::default(),
            held: Tally::default(),
            surplus: 0,
            calls: HashMap::new(),
            last_call: 0,
            census: None,
            room: 0,
            next_room: None,
            taken: 0,
            written: 0,
            closed: false,
            step,
        }
    }

    /// Whether owners are to be kept with blobs from now on.
    pub(super) fn keeps_owners(&self) -> bool {
        self.rules.counts_users()
            || self.census.as_ref().is_some_and(|census| census.rules.counts_users())
    }

    /// A call begins. `owner` is what will be kept with the blob, if it stores one. True where the
    /// state file must no longer say that it is exact.
    pub(super) fn begin(&mut self, key: &Key, owner: Option<Arc<str>>) -> (u64, bool) {
        self.last_call += 1;
        let charge = self.rules.charge(key.as_str(), owner.as_deref());
        let key = key.clone();
        let call = Call { key, owner, charge, reserved: 0, leaving: None, open: false };
        self.calls.insert(self.last_call, call);
        (self.last_call, std::mem::take(&mut self.closed))
    }

    /// Reserves bytes for an upload, besides those that it has. The error says which limit is in
    /// the way.
    pub(super) fn reserve(&mut self, id: u64, bytes: u64) -> Result<Due, String> {
        let Some(call) = self.calls.get_mut(&id) else {
            return Ok(Due::Nothing);
        };
        let charge = &call.charge;
        let scopes = [
            (self.rules.total(), self.used.store, self.held.store),
            sums(charge.folder.as_ref(), &self.used.folders, &self.held.folders),
            sums(charge.user.as_ref(), &self.used.users, &self.held.users),
        ];
        for (index, (limit, used, held)) in scopes.into_iter().enumerate() {
            let there = used.saturating_add(self.surplus).saturating_add(held);
            let Some(limit) = limit.filter(|limit| there.saturating_add(bytes) > *limit) else {
                continue;
            };
            let scope = match (index, &charge.folder, &charge.user) {
                (1, Some(folder), _) => Scope::Folder(folder.name.to_string()),
                (2, _, Some(user)) => Scope::User(user.name.to_string()),
                _ => Scope::Store,
            };
            let used = used.saturating_add(self.surplus);
            return Err(full(&scope, limit, used, held, bytes, self.surplus > 0));
        }
        self.held.add(charge, bytes);
        call.reserved = call.reserved.saturating_add(bytes);
        let next = self.next_room.unwrap_or(u64::MAX);
        if bytes > self.room || bytes > next {
            return Ok(Due::WriteAfter(self.taken));
        }
        self.room -= bytes;
        self.next_room = self.next_room.map(|room| room - bytes);
        Ok(if self.room < self.step / 2 { Due::WriteSoon } else { Due::Nothing })
    }

    /// A call's key may change from now on. True where the owner of a blob that goes is wanted.
    pub(super) fn before(&mut self, id: u64) -> bool {
        if let Some(call) = self.calls.get_mut(&id) {
            call.open = true;
        }
        self.keeps_owners()
    }

    /// A call's key changed, or did not after all. False where more went than was counted.
    pub(super) fn after(&mut self, id: u64, changed: Option<&Changed>) -> bool {
        let Some(call) = self.calls.get_mut(&id) else {
            return true;
        };
        call.open = false;
        let owner = call.owner.clone();
        let owner = owner.as_deref();
        let delta = changed.map(|changed| Delta {
            gone: changed.gone.as_ref().map(|gone| (gone.size, owner_of(&gone.metadata))),
            came: changed.came.map(|size| (size, owner)),
        });
        let mut right = true;
        if let Some(delta) = &delta {
            if let Some((size, _)) = delta.came {
                let _ = self.held.subtract(&call.charge, std::mem::take(&mut call.reserved));
                self.used.add(&call.charge, size);
            }
            if let Some((size, owner)) = delta.gone {
                let charge = self.rules.charge(call.key.as_str(), owner);
                right = self.used.subtract(&charge, size) || self.surplus > 0;
                self.held.add(&charge, size);
                call.leaving = Some((size, owner.map(str::to_owned), charge));
            }
        }
        if let Some(census) = &mut self.census {
            census.changed(call.key.as_str(), delta);
        }
        right
    }

    /// A call is over, whatever came of it.
    pub(super) fn end(&mut self, id: u64) {
        let Some(call) = self.calls.remove(&id) else {
            return;
        };
        let _ = self.held.subtract(&call.charge, call.reserved);
        if let Some((size, _, charge)) = &call.leaving {
            let _ = self.held.subtract(charge, *size);
        }
        if let Some(census) = self.census.as_mut().filter(|_| call.open) {
            census.changed(call.key.as_str(), None);
        }
    }

    /// Whether no call is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.calls.is_empty()
    }

    /// What to write to the state file, so that it has what was reserved after a state or, without
    /// one, because there is little room; none where that was done already. Whoever calls this is
    /// the only one to write the file.
    pub(super) fn take_state(&mut self, after: Option<u64>) -> Option<Saved> {
        let done = match after {
            Some(after) => self.written > after,
            None => self.closed || self.room >= self.step / 2,
        };
        if done {
            return None;
        }
        self.taken += 1;
        self.closed = false;
        self.next_room = Some(self.step);
        Some(self.save(self.surplus.saturating_add(self.step), false))
    }

    /// What [`take_state`](Self::take_state) returned is in the file, or could not be written.
    pub(super) fn state_written(&mut self, done: bool) {
        if done {
            self.written = self.taken;
        }
        if let Some(room) = self.next_room.take() {
            // A file that could not be written may be there all the same.
            self.room = if done { room } else { self.room.min(room) };
        }
    }

    /// What to write to the state file at the end.
    pub(super) fn save_at_end(&mut self) -> Saved {
        self.room = 0;
        self.next_room = None;
        let clean = self.is_quiet() && self.surplus == 0;
        self.closed = clean;
        self.save(self.surplus, clean)
    }

    fn save(&self, ahead: u64, clean: bool) -> Saved {
        let mut all = self.used.clone();
        all.join(&self.held);
        Saved::new(&self.rules, &all, ahead, clean)
    }

    /// Begins a count by these rules or, without any, by those in force.
    pub(super) fn begin_census(&mut self, rules: Option<Arc<Compiled>>) -> Arc<Compiled> {
        let rules = rules.unwrap_or_else(|| Arc::clone(&self.rules));
        self.census = Some(Census::new(Arc::clone(&rules)));
        rules
    }

    pub(super) fn pass(&mut self, seen: &[Seen], last: Option<&str>) {
        if let Some(census) = &mut self.census {
            let open = self.calls.values().filter(|call| call.open).map(|call| call.key.as_str());
            census.pass(seen, last, open);
        }
    }

    pub(super) fn give_up_census(&mut self) {
        self.census = None;
    }

    /// Takes over what was counted, once that is complete; then what was wrong before.
    pub(super) fn end_census(&mut self) -> Option<Vec<Drift>> {
        let census = self.census.take_if(|census| census.is_over())?;
        let (rules, counted) = census.finish();
        let (patterns, users) = (self.rules.patterns(), self.rules.counts_users());
        let comparable = rules.is_counted_by(&patterns, users);
        let old = std::mem::replace(&mut self.used, counted);
        let surplus = std::mem::take(&mut self.surplus);
        self.take_rules(rules);
        // The state file may be lower than what was counted.
        self.room = 0;
        self.next_room = None;
        let mut scopes: BTreeSet<_> = self.used.scopes().collect();
        scopes.extend(old.scopes());
        scopes.retain(|scope| comparable || *scope == Scope::Store);
        let drift = scopes.into_iter().map(|scope| Drift {
            old: old.get(&scope).saturating_add(surplus),
            new: self.used.get(&scope),
            scope,
        });
        Some(drift.filter(|drift| drift.old != drift.new).collect())
    }

    /// Puts other rules in force, where everything is counted that they need.
    pub(super) fn change_rules(&mut self, rules: &Arc<Compiled>) -> bool {
        let (patterns, users) = (self.rules.patterns(), self.rules.counts_users());
        let counted = rules.is_counted_by(&patterns, users);
        if counted {
            // A count under way is one by the rules in force: it would bring them back.
            if let Some(census) = &mut self.census {
                census.rules = Arc::clone(rules);
            }
            self.take_rules(Arc::clone(rules));
        }
        counted
    }

    fn take_rules(&mut self, rules: Arc<Compiled>) {
        if rules.patterns().is_empty() {
            self.used.folders.clear();
        }
        if !rules.counts_users() {
            self.used.users.clear();
        }
        self.step = step(&rules);
        self.held = Tally::default();
        for call in self.calls.values_mut() {
            call.charge = rules.charge(call.key.as_str(), call.owner.as_deref());
            self.held.add(&call.charge, call.reserved);
            if let Some((size, owner, charge)) = &mut call.leaving {
                *charge = rules.charge(call.key.as_str(), owner.as_deref());
                self.held.add(charge, *size);
            }
        }
        self.rules = rules;
    }

    pub(super) fn usage(&self) -> Vec<Usage> {
        let mut scopes: BTreeSet<_> = self.used.scopes().collect();
        scopes.extend(self.held.scopes());
        scopes.extend(self.rules.named());
        let usage = scopes.into_iter().map(|scope| Usage {
            used: self.used.get(&scope).saturating_add(self.surplus),
            reserved: self.held.get(&scope),
            limit: match &scope {
                Scope::Store => self.rules.total(),
                Scope::Folder(name) => self.rules.folder_limit(name),
                Scope::User(name) => self.rules.user_limit(name),
            },
            scope,
        });
        usage.collect()
    }
}

/// Limit, use and reservation of a folder or a user.
fn sums(
    counted: Option<&super::rules::Counted>,
    used: &HashMap<Arc<str>, u64>,
    held: &HashMap<Arc<str>, u64>,
) -> (Option<u64>, u64, u64) {
    let Some(counted) = counted else {
        return (None, 0, 0);
    };
    let of = |sums: &HashMap<Arc<str>, u64>| sums.get(&counted.name).copied().unwrap_or(0);
    (counted.limit, of(used), of(held))
}

fn full(scope: &Scope, limit: u64, used: u64, held: u64, bytes: u64, bound: bool) -> String {
    let exact = |bytes: u64| format!("{} ({bytes} bytes)", ByteSize(bytes).display().iec());
    let at_most = if bound { "at most " } else { "" };
    let counting = if bound { "; it is being counted anew after an unclean end" } else { "" };
    format!(
        "the quota of {scope} is {}: {at_most}{} are used and {held} bytes are reserved by calls \
         under way, so {bytes} bytes more do not fit{counting}",
        exact(limit),
        exact(used),
    )
}

/// Who a blob with this metadata counts for.
pub(super) fn owner_of(metadata: &Fields) -> Option<&str> {
    metadata.iter().find(|(name, _)| name == OWNER).map(|(_, owner)| owner.as_str())
}

fn step(rules: &Compiled) -> u64 {
    rules.smallest().map_or(STEP.1, |limit| (limit / 16).clamp(STEP.0, STEP.1))
}

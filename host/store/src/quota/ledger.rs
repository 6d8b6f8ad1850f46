//! The sums, the reservations and the calls in progress. Every method is one short step under one
//! lock; none does I/O.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::admission;
use super::rules::{Charge, Compiled, Scope};
use super::scan::{Delta, Scan, Seen};
use super::state_file::Saved;
use super::totals::{Amount, Totals};
use super::{OWNER, Usage};
use crate::{CommittedChange, Fields, Key};

/// How many bytes the state file may be ahead of the truth: a sixteenth of the smallest limit,
/// within these bounds.
const STEP: (u64, u64) = (8 << 20, 128 << 20);

/// Everything that a quota knows.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) rules: Arc<Compiled>,
    /// What is there: blobs, and the folders and markers that a disk has told about.
    pub(super) used: Totals,
    /// What calls in progress may add, and removed blobs that a power cut might bring back, because
    /// their folder is not synced yet, or that take up space because somebody reads them.
    reserved: Totals,
    /// After an unclean shutdown: by how much every sum may be too low, until a count is complete.
    pub(super) max_undercount: u64,
    calls: HashMap<u64, Call>,
    last_call: u64,
    scan: Option<Scan>,
    /// Bytes that may still be reserved before the state file must be written.
    pub(super) room: u64,
    /// The same for the state that is being written at this moment; none also if a count has
    /// overtaken that state.
    next_room: Option<u64>,
    /// How many states were taken to be written, and the last one that is in the file.
    taken: u64,
    written: u64,
    /// The file says that the shutdown was orderly.
    closed: bool,
    /// How far ahead the next saved state will be.
    pub(super) step: u64,
}

/// A put, concat or delete in progress, or one of the two keys of a rename.
#[derive(Debug)]
struct Call {
    key: Key,
    /// The key of the blob that moves to `key`.
    from: Option<Key>,
    /// As stored with the blob.
    owner: Option<Arc<str>>,
    charge: Charge,
    reserved: Amount,
    /// A blob that this call removed or replaced: its bytes and owner.
    leaving: Option<(u64, Option<String>, Charge)>,
    /// The key is being changed at this moment.
    open: bool,
}

/// What must happen because bytes were reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Write the state file in the background.
    WriteSoon,
    /// Wait until a state later than this one is in the file, before a byte is stored.
    WriteAfter(u64),
}

/// A sum that was wrong because another program changed the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// What was counted.
    pub scope: Scope,
    /// The bytes counted before.
    pub old: u64,
    /// The bytes that are there.
    pub new: u64,
}

impl Ledger {
    pub(super) fn new(rules: Arc<Compiled>) -> Self {
        let step = step(&rules);
        Self {
            rules,
            used: Totals::default(),
            reserved: Totals::default(),
            max_undercount: 0,
            calls: HashMap::new(),
            last_call: 0,
            scan: None,
            room: 0,
            next_room: None,
            taken: 0,
            written: 0,
            closed: false,
            step,
        }
    }

    /// Whether owners must be stored with blobs from now on.
    pub(super) fn keeps_owners(&self) -> bool {
        self.rules.counts_users()
            || self.scan.as_ref().is_some_and(|scan| scan.rules.counts_users())
    }

    /// Begins a call. `owner` is what will be stored with the blob, if it stores one. Returns true
    /// if the state file must no longer say that it is exact.
    pub(super) fn begin(&mut self, key: &Key, owner: Option<Arc<str>>) -> (u64, bool) {
        self.last_call += 1;
        let charge = self.rules.charge(key.as_str(), owner.as_deref());
        let (key, from) = (key.clone(), None);
        let reserved = Amount::default();
        let call = Call { key, from, owner, charge, reserved, leaving: None, open: false };
        self.calls.insert(self.last_call, call);
        (self.last_call, std::mem::take(&mut self.closed))
    }

    /// The call stores a blob that is there already, with this metadata. `from` is its key, if it
    /// leaves that in the same step.
    pub(super) fn renames(&mut self, id: u64, metadata: &Fields, from: Option<&Key>) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        // It may have been another blob a moment ago.
        let _ = self.reserved.subtract(&call.charge, std::mem::take(&mut call.reserved));
        call.owner = owner_of(metadata).map(Arc::from);
        call.charge = self.rules.charge(call.key.as_str(), call.owner.as_deref());
        call.from = from.cloned();
    }

    /// Reserves more bytes for a blob that is to be stored, and its entry if that was not done. The error says which
    /// limit is exceeded.
    pub(super) fn reserve(&mut self, id: u64, bytes: u64) -> Result<Due, String> {
        let Some(call) = self.calls.get_mut(&id) else {
            return Ok(Due::Nothing);
        };
        let charge = &call.charge;
        let more = Amount { bytes, entries: 1 - call.reserved.entries.min(1) };
        let mut scopes = admission::scopes(&self.rules, &self.used, &self.reserved, charge);
        if let Some(from) = &call.from {
            // Where the blob counts already, it needs no more bytes than it has.
            let there = self.rules.charge(from.as_str(), call.owner.as_deref());
            let name = |charge: &Charge| charge.folder.as_ref().map(|it| Arc::clone(&it.name));
            let [store, folder, user] = &mut scopes;
            (store.0, user.0) = (None, None);
            folder.0 = folder.0.filter(|_| name(&there) != name(charge));
        }
        admission::blob_fits(scopes, charge, more, self.max_undercount)?;
        self.reserved.add(charge, more);
        call.reserved = call.reserved.plus(more);
        let next = self.next_room.unwrap_or(u64::MAX);
        if bytes > self.room || bytes > next {
            return Ok(Due::WriteAfter(self.taken));
        }
        self.room -= bytes;
        self.next_room = self.next_room.map(|room| room - bytes);
        Ok(if self.room < self.step / 2 { Due::WriteSoon } else { Due::Nothing })
    }

    /// Reserves an entry for a folder that may be made, until [`release_folder`](Self::release_folder).
    pub(super) fn reserve_folder(&mut self, folder: &str) -> Result<Charge, String> {
        let charge = self.rules.charge(folder, None);
        let scopes = admission::scopes(&self.rules, &self.used, &self.reserved, &charge);
        admission::folder_fits(scopes, &charge)?;
        self.reserved.add(&charge, Amount::entries(1));
        Ok(charge)
    }

    pub(super) fn release_folder(&mut self, charge: &Charge) {
        let _ = self.reserved.subtract(charge, Amount::entries(1));
    }

    /// A folder was made: the one that is so many levels above this one.
    pub(super) fn made_folder(&mut self, folder: &str, above: usize) {
        // Above the top of what is counted here, it is only the store's.
        let name = folder.rsplitn(above + 1, '/').last().unwrap_or_default();
        let levels = folder.matches('/').count();
        let name = if above > levels { "" } else { name };
        self.used.add(&self.rules.charge(name, None), Amount::entries(1));
        if let Some(scan) = &mut self.scan {
            scan.folder(name);
        }
    }

    /// Markers of blobs that expire were made or removed.
    pub(super) fn markers(&mut self, came: u64, gone: u64) {
        self.used.add(&Charge::default(), Amount::entries(came));
        let _ = self.used.subtract(&Charge::default(), Amount::entries(gone));
        if let Some(scan) = &mut self.scan {
            scan.markers(came, gone);
        }
    }

    /// Counts a folder that a count has found.
    pub(super) fn found_folder(&mut self, name: &str) {
        if let Some(scan) = &mut self.scan {
            scan.folder(name);
        }
    }

    /// Counts markers that a count has found.
    pub(super) fn found_markers(&mut self, markers: u64) {
        if let Some(scan) = &mut self.scan {
            scan.markers(markers, 0);
        }
    }

    /// Marks a call's key as being changed. Returns whether the owner of a removed blob is needed.
    pub(super) fn before(&mut self, id: u64) -> bool {
        if let Some(call) = self.calls.get_mut(&id) {
            call.open = true;
        }
        self.keeps_owners()
    }

    /// Records a call's change, if there was one. False if more was removed than was counted.
    pub(super) fn after(&mut self, id: u64, changed: Option<&CommittedChange>) -> bool {
        let Some(call) = self.calls.get_mut(&id) else {
            return true;
        };
        call.open = false;
        let owner = call.owner.clone();
        let owner = owner.as_deref();
        let delta = changed.map(|changed| Delta {
            gone: changed.removed.as_ref().map(|gone| (gone.size, owner_of(&gone.metadata))),
            came: changed.size.map(|size| (size, owner)),
        });
        let mut right = true;
        if let Some(delta) = &delta {
            if let Some((size, _)) = delta.came {
                let _ = self.reserved.subtract(&call.charge, std::mem::take(&mut call.reserved));
                self.used.add(&call.charge, Amount::blob(size));
            }
            if let Some((size, owner)) = delta.gone {
                let charge = self.rules.charge(call.key.as_str(), owner);
                let blob = Amount::blob(size);
                right = self.used.subtract(&charge, blob) || self.max_undercount > 0;
                self.reserved.add(&charge, blob);
                call.leaving = Some((size, owner.map(str::to_owned), charge));
            }
        }
        if let Some(scan) = &mut self.scan {
            scan.changed(call.key.as_str(), delta);
        }
        right
    }

    /// Ends a call, whatever came of it.
    pub(super) fn end(&mut self, id: u64) {
        let Some(call) = self.calls.remove(&id) else {
            return;
        };
        let _ = self.reserved.subtract(&call.charge, call.reserved);
        if let Some((size, _, charge)) = &call.leaving {
            let _ = self.reserved.subtract(charge, Amount::blob(*size));
        }
        if let Some(scan) = self.scan.as_mut().filter(|_| call.open) {
            scan.changed(call.key.as_str(), None);
        }
    }

    /// Whether no call is in progress.
    pub(super) fn is_quiet(&self) -> bool {
        self.calls.is_empty()
    }

    /// The state to write to the file: one later than `after` or, without `after`, one that makes
    /// room if little is left. `None` if that was done already. The caller must be the only one that
    /// writes the file.
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
        Some(self.save(self.max_undercount.saturating_add(self.step), false))
    }

    /// Records whether what [`take_state`](Self::take_state) returned was written.
    pub(super) fn state_written(&mut self, done: bool) {
        if done {
            self.written = self.taken;
        }
        if let Some(room) = self.next_room.take() {
            // If writing failed, the file may contain it all the same.
            self.room = if done { room } else { self.room.min(room) };
        }
    }

    /// The state to write at shutdown.
    pub(super) fn save_at_end(&mut self) -> Saved {
        self.room = 0;
        self.next_room = None;
        let clean = self.is_quiet() && self.max_undercount == 0;
        self.closed = clean;
        self.save(self.max_undercount, clean)
    }

    fn save(&self, ahead: u64, clean: bool) -> Saved {
        let mut all = self.used.clone();
        all.join(&self.reserved);
        Saved::new(&self.rules, &all, ahead, clean)
    }

    /// Begins a count by these rules or, without any, by those in force.
    pub(super) fn begin_scan(&mut self, rules: Option<Arc<Compiled>>) -> Arc<Compiled> {
        let rules = rules.unwrap_or_else(|| Arc::clone(&self.rules));
        self.scan = Some(Scan::new(Arc::clone(&rules)));
        rules
    }

    pub(super) fn pass(&mut self, seen: &[Seen], last: Option<&str>) {
        if let Some(scan) = &mut self.scan {
            let open = self.calls.values().filter(|call| call.open).map(|call| call.key.as_str());
            scan.pass(seen, last, open);
        }
    }

    pub(super) fn abandon_scan(&mut self) {
        self.scan = None;
    }

    /// Takes over the count once it is complete, and returns which sums were wrong before.
    pub(super) fn end_scan(&mut self) -> Option<Vec<Drift>> {
        let scan = self.scan.take_if(|scan| scan.is_over())?;
        let (rules, counted) = scan.finish();
        let (patterns, users) = (self.rules.patterns(), self.rules.counts_users());
        let comparable = rules.is_counted_by(&patterns, users);
        let old = std::mem::replace(&mut self.used, counted);
        let max_undercount = std::mem::take(&mut self.max_undercount);
        self.take_rules(rules);
        // The state file's sums may be lower than those that were counted.
        self.room = 0;
        self.next_room = None;
        let mut scopes: BTreeSet<_> = self.used.scopes().collect();
        scopes.extend(old.scopes());
        scopes.retain(|scope| comparable || *scope == Scope::Store);
        let drift = scopes.into_iter().map(|scope| Drift {
            old: old.get(&scope).bytes.saturating_add(max_undercount),
            new: self.used.get(&scope).bytes,
            scope,
        });
        Some(drift.filter(|drift| drift.old != drift.new).collect())
    }

    /// Replaces the rules, if everything that they need is counted already.
    pub(super) fn change_rules(&mut self, rules: &Arc<Compiled>) -> bool {
        let (patterns, users) = (self.rules.patterns(), self.rules.counts_users());
        let counted = rules.is_counted_by(&patterns, users);
        if counted {
            // A count in progress uses the rules in force: without this, it would restore them.
            if let Some(scan) = &mut self.scan {
                scan.rules = Arc::clone(rules);
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
        self.reserved = Totals::default();
        for call in self.calls.values_mut() {
            call.charge = rules.charge(call.key.as_str(), call.owner.as_deref());
            self.reserved.add(&call.charge, call.reserved);
            if let Some((size, owner, charge)) = &mut call.leaving {
                *charge = rules.charge(call.key.as_str(), owner.as_deref());
                self.reserved.add(charge, Amount::blob(*size));
            }
        }
        self.rules = rules;
    }

    pub(super) fn usage(&self) -> Vec<Usage> {
        let mut scopes: BTreeSet<_> = self.used.scopes().collect();
        scopes.extend(self.reserved.scopes());
        scopes.extend(self.rules.named());
        let usage = scopes.into_iter().map(|scope| {
            let (used, reserved) = (self.used.get(&scope), self.reserved.get(&scope));
            let limit = match &scope {
                Scope::Store => self.rules.total(),
                Scope::Folder(name) => self.rules.folder_limit(name),
                Scope::User(name) => self.rules.user_limit(name),
            };
            Usage {
                scope,
                used: used.bytes.saturating_add(self.max_undercount),
                reserved: reserved.bytes,
                limit: limit.map(|limit| limit.bytes),
                entries: used.entries.saturating_add(reserved.entries),
                max_entries: limit.map(|limit| limit.entries),
            }
        });
        usage.collect()
    }
}

/// The user that a blob with this metadata counts for.
pub(super) fn owner_of(metadata: &Fields) -> Option<&str> {
    metadata.iter().find(|(name, _)| name == OWNER).map(|(_, owner)| owner.as_str())
}

fn step(rules: &Compiled) -> u64 {
    rules.smallest().map_or(STEP.1, |limit| (limit / 16).clamp(STEP.0, STEP.1))
}

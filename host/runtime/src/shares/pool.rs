//! One thing that the mounts of a gateway share, counted: instances, bytes of memory, open files. `shares` says which
//! pools there are and how they are divided; nothing here knows what is counted.
//!
//! Each member has a part that only it can use, its guarantee, and what no guarantee covers is for whoever asks first. So
//! one member can use up what is free, and never what is guaranteed to another.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A number of equal units, and who has taken how many of them.
pub(crate) struct Pool {
    total: u64,
    state: Mutex<State>,
    /// Members that wait, all together. Written under the lock, and read without it.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct State {
    members: BTreeMap<u64, Member>,
    next: u64,
    /// The sum of all guarantees.
    guaranteed: u64,
    /// What members have taken beyond their guarantees.
    beyond: u64,
    /// What nobody may have beyond a guarantee for now.
    withheld: u64,
    /// The member that was given something last, so that the next one is served before it.
    turn: u64,
}

#[derive(Default)]
struct Member {
    guaranteed: u64,
    used: u64,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    units: u64,
    /// Told when the units have been taken for it.
    sender: oneshot::Sender<()>,
}

/// A member of a pool: what one mount has of it.
pub(crate) struct Share {
    pool: Arc<Pool>,
    member: u64,
}

/// Units that are in use until this is dropped.
pub(crate) struct Taken {
    share: Arc<Share>,
    units: u64,
}

impl Pool {
    pub(crate) fn new(total: u64) -> Arc<Self> {
        Arc::new(Self { total, state: Mutex::default(), waiting: AtomicUsize::new(0) })
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// A new member, to which nothing is guaranteed yet.
    pub(crate) fn join(self: &Arc<Self>) -> Arc<Share> {
        let mut state = self.lock();
        let member = state.next;
        state.next += 1;
        state.members.insert(member, Member::default());
        Arc::new(Share { pool: self.clone(), member })
    }

    /// Divides the pool again: guarantees each of these members as much as it could use, but all together at most half of
    /// the pool, in equal parts; and all other members nothing. What a member has taken stays its own.
    pub(crate) fn divide(&self, wanted: &[(&Share, u64)]) {
        let mut state = self.lock();
        let part = self.part(wanted.len() as u64);
        let wanted = |id| wanted.iter().find(|(share, _)| share.member == id);
        for (id, member) in &mut state.members {
            member.guaranteed = wanted(*id).map_or(0, |(_, most)| part.min(*most));
        }
        state.guaranteed = state.members.values().map(|member| member.guaranteed).sum();
        state.beyond = state.members.values().map(|member| member.beyond(0)).sum();
        self.grant(&mut state);
    }

    /// What is guaranteed to each of so many members, if it could use as much.
    pub(crate) fn part(&self, members: u64) -> u64 {
        self.total / 2 / members.max(1)
    }

    /// What all members have taken.
    pub(crate) fn used(&self) -> u64 {
        self.lock().members.values().map(|member| member.used).sum()
    }

    /// Keeps so many units from being given to anybody, until the next call. Guarantees stay, and so does what was taken.
    pub(crate) fn withhold(&self, units: u64) {
        let mut state = self.lock();
        state.withheld = units;
        self.grant(&mut state);
    }

    /// Whether somebody waits.
    pub(crate) fn has_waiters(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives those who wait what there is for them, one member after another.
    fn grant(&self, state: &mut State) {
        if !self.has_waiters() {
            return;
        }
        while let Some((id, waiter)) = state.next_to_serve(self.total) {
            // It may have stopped waiting in this moment.
            if waiter.sender.send(()).is_ok() {
                state.take(id, waiter.units);
                state.turn = id;
            }
        }
        let waiting = state.members.values().map(|member| member.waiting.len()).sum();
        self.waiting.store(waiting, Ordering::SeqCst);
    }
}

impl State {
    fn fits(&self, total: u64, id: u64, units: u64) -> bool {
        let Some(member) = self.members.get(&id) else { return false };
        let more = member.beyond(units) - member.beyond(0);
        let free = total.saturating_sub(self.guaranteed).saturating_sub(self.withheld);
        more == 0 || self.beyond + more <= free
    }

    fn take(&mut self, id: u64, units: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        self.beyond += member.beyond(units) - member.beyond(0);
        member.used += units;
    }

    fn give_back(&mut self, id: u64, units: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let before = member.beyond(0);
        member.used = member.used.saturating_sub(units);
        self.beyond -= before - member.beyond(0);
    }

    /// The first in the queue of the next member after `turn` for whom there is enough.
    fn next_to_serve(&mut self, total: u64) -> Option<(u64, Waiter)> {
        let after = (Bound::Excluded(self.turn), Bound::Unbounded);
        let order = self.members.range(after).chain(self.members.range(..=self.turn));
        let fitting = order.map(|(id, member)| (*id, member.waiting.front()));
        let (id, _) = fitting
            .filter_map(|(id, waiter)| Some((id, waiter?.units)))
            .find(|(id, units)| self.fits(total, *id, *units))?;
        let waiter = self.members.get_mut(&id)?.waiting.pop_front()?;
        Some((id, waiter))
    }
}

impl Member {
    /// What it would have beyond its guarantee with this many units more.
    fn beyond(&self, more: u64) -> u64 {
        (self.used + more).saturating_sub(self.guaranteed)
    }
}

impl Share {
    /// Takes units if there are any for this member, and if nobody of this member waits for some.
    pub(crate) fn try_take(self: &Arc<Self>, units: u64) -> Option<Taken> {
        self.try_add(units).then(|| Taken { share: self.clone(), units })
    }

    /// Takes units, and waits for them behind others of the same member. Dropping the future stops waiting. `None` if there
    /// will never be as many.
    pub(crate) async fn take(self: &Arc<Self>, units: u64) -> Option<Taken> {
        if let Some(taken) = self.try_take(units) {
            return Some(taken);
        }
        let mut waiting = self.wait(units);
        waiting.received = (&mut waiting.receiver).await.is_ok();
        waiting.received.then(|| Taken { share: self.clone(), units })
    }

    fn wait(self: &Arc<Self>, units: u64) -> Waiting {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.pool.lock();
        // Without a place in the queue, the sender is dropped, which ends the wait.
        if units <= self.pool.total
            && let Some(member) = state.members.get_mut(&self.member)
        {
            member.waiting.push_back(Waiter { units, sender });
            self.pool.waiting.fetch_add(1, Ordering::SeqCst);
        }
        // Something may have been given back since the first attempt.
        self.pool.grant(&mut state);
        drop(state);
        Waiting { share: self.clone(), units, receiver, received: false }
    }

    /// All units of the pool.
    pub(crate) fn total(&self) -> u64 {
        self.pool.total
    }

    /// What this member has taken.
    pub(crate) fn used(&self) -> u64 {
        self.pool.lock().members.get(&self.member).map_or(0, |member| member.used)
    }

    /// What is guaranteed to this member.
    pub(crate) fn guaranteed(&self) -> u64 {
        self.pool.lock().members.get(&self.member).map_or(0, |member| member.guaranteed)
    }

    fn try_add(&self, units: u64) -> bool {
        let mut state = self.pool.lock();
        let free = state.members.get(&self.member).is_some_and(|member| member.waiting.is_empty());
        let fits = free && state.fits(self.pool.total, self.member, units);
        if fits {
            state.take(self.member, units);
        }
        fits
    }

    fn give_back(&self, units: u64) {
        let mut state = self.pool.lock();
        state.give_back(self.member, units);
        self.pool.grant(&mut state);
    }
}

/// A place in the queue of a member.
struct Waiting {
    share: Arc<Share>,
    units: u64,
    receiver: oneshot::Receiver<()>,
    /// Whether the units are with whoever waited.
    received: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.receiver.close();
        if !self.received && self.receiver.try_recv().is_ok() {
            self.share.give_back(self.units);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        if let Some(member) = state.members.remove(&self.member) {
            state.guaranteed -= member.guaranteed;
            state.beyond -= member.beyond(0);
        }
        self.pool.grant(&mut state);
    }
}

impl Taken {
    /// Takes more units, if there are any.
    pub(crate) fn add(&mut self, units: u64) -> bool {
        let added = self.share.try_add(units);
        if added {
            self.units += units;
        }
        added
    }

    /// Gives back some of them.
    pub(crate) fn remove(&mut self, units: u64) {
        let units = units.min(self.units);
        self.units -= units;
        self.share.give_back(units);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.share.give_back(self.units);
    }
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Share({} of {})", self.used(), self.pool.total)
    }
}

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Taken({})", self.units)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn pool(total: u64, members: &[u64]) -> (Arc<Pool>, Vec<Arc<Share>>) {
        let pool = Pool::new(total);
        let shares: Vec<_> = members.iter().map(|_| pool.join()).collect();
        divide(&pool, &shares, members);
        (pool, shares)
    }

    fn divide(pool: &Pool, shares: &[Arc<Share>], wanted: &[u64]) {
        let wanted = shares.iter().zip(wanted).map(|(share, most)| (&**share, *most));
        pool.divide(&wanted.collect::<Vec<_>>());
    }

    #[test]
    fn whoever_takes_all_that_is_free_leaves_others_what_is_guaranteed_to_them() {
        let (_pool, shares) = pool(100, &[1000, 10]);
        let greedy: Vec<_> = std::iter::from_fn(|| shares[0].try_take(1)).collect();
        assert_eq!(greedy.len(), 90, "25 of its own, and 65 that are guaranteed to nobody");
        let modest: Vec<_> = std::iter::from_fn(|| shares[1].try_take(1)).collect();
        assert_eq!(modest.len(), 10);
        drop(greedy);
        let mut all = shares[1].try_take(65).unwrap();
        assert!(!all.add(1));
        all.remove(1);
        assert!(all.add(1));
        assert!(shares[0].try_take(26).is_none() && shares[0].try_take(25).is_some());
    }

    #[test]
    fn what_is_withheld_is_taken_from_what_is_free_and_never_from_a_guarantee() {
        let (pool, shares) = pool(100, &[20, 20]);
        let taken = shares[0].try_take(60).unwrap();
        assert_eq!(pool.used(), 60);
        pool.withhold(1000);
        assert!(shares[0].try_take(1).is_none(), "it has more than its guarantee already");
        let guaranteed = shares[1].try_take(20).unwrap();
        assert!(shares[1].try_take(1).is_none());
        drop((taken, guaranteed));
        pool.withhold(30);
        assert!(shares[0].try_take(51).is_none() && shares[0].try_take(50).is_some());
        pool.withhold(0);
        assert!(shares[0].try_take(80).is_some());
    }

    #[tokio::test]
    async fn what_is_given_back_goes_to_those_who_wait_one_member_after_another() {
        let (pool, shares) = pool(4, &[0, 0, 0]);
        let mut held: Vec<_> = std::iter::from_fn(|| shares[0].try_take(1)).collect();
        assert_eq!(held.len(), 4);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for member in [0, 0, 0, 1, 2] {
            let (share, order) = (shares[member].clone(), order.clone());
            waiting.push(tokio::spawn(async move {
                let taken = share.take(1).await.unwrap();
                order.lock().unwrap().push(member);
                std::mem::forget(taken);
            }));
            tokio::task::yield_now().await;
        }
        assert!(pool.has_waiters() && shares[1].try_take(1).is_none());
        for _ in 0..4 {
            held.pop();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(*order.lock().unwrap(), [1, 2, 0, 0]);
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn who_stops_waiting_takes_nothing() {
        let (pool, shares) = pool(1, &[0, 0]);
        let held = shares[0].try_take(1).unwrap();
        // One stops while it waits, the other when it has been given something and does not know yet.
        drop(shares[1].wait(1));
        let told = shares[1].wait(1);
        drop(held);
        assert_eq!(shares[1].used(), 1);
        drop(told);
        assert_eq!(shares[1].used(), 0);
        assert!(shares[0].try_take(1).is_some() && !pool.has_waiters());
        assert!(shares[0].take(2).await.is_none(), "more than there is");
    }

    #[tokio::test]
    async fn a_new_division_serves_those_whom_it_gives_something() {
        let (pool, shares) = pool(10, &[10, 0]);
        let held = shares[1].try_take(8).unwrap();
        let late = tokio::spawn({
            let share = shares[1].clone();
            async move { share.take(1).await }
        });
        tokio::task::yield_now().await;
        assert!(!late.is_finished());
        divide(&pool, &shares, &[0, 0]);
        assert!(late.await.unwrap().is_some());
        drop(held);
        assert_eq!(shares[1].used(), 0);
    }

    proptest! {
        /// Whatever happens: no more is taken than there is, and a guarantee is honoured unless a division has just taken
        /// it from somebody who still uses it.
        #[test]
        fn the_sums_are_right(steps in prop::collection::vec((0_usize..4, 0_u64..6, any::<bool>()), 1..200)) {
            let (pool, shares) = pool(16, &[2, 4, 100, 0]);
            let mut taken: Vec<(usize, Taken)> = Vec::new();
            for (member, units, take) in steps {
                if take {
                    let used = shares[member].used();
                    let got = shares[member].try_take(units);
                    if used + units <= shares[member].guaranteed() {
                        prop_assert!(got.is_some());
                    }
                    taken.extend(got.map(|got| (member, got)));
                } else if !taken.is_empty() {
                    taken.swap_remove(member % taken.len());
                }
                let sum = |of: usize| taken.iter().filter(|(m, _)| *m == of).map(|(_, t)| t.units).sum::<u64>();
                let sums: Vec<u64> = (0..4).map(sum).collect();
                prop_assert_eq!(&sums, &shares.iter().map(|share| share.used()).collect::<Vec<_>>());
                prop_assert!(sums.iter().sum::<u64>() <= pool.total());
            }
            drop(taken);
            let state = pool.lock();
            prop_assert_eq!(state.beyond, 0);
        }
    }
}

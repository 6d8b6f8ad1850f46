//! The queue of password checks, shared fairly: a client that tries passwords as fast as it can fills
//! only its own share of the queue.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Options;
use crate::network::client_network;

/// The queue in front of the threads that check passwords.
pub(crate) struct Queue {
    turns: Arc<Semaphore>,
    room: Arc<Room>,
}

struct Room {
    slots: Mutex<Slots>,
    limit: usize,
    limit_per_address: usize,
}

#[derive(Default)]
struct Slots {
    taken: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A slot in the queue; freed when it is dropped.
pub(crate) struct Slot {
    turns: Arc<Semaphore>,
    room: Arc<Room>,
    from: Option<IpAddr>,
}

/// The permission to check one password now, with its slot in the queue.
pub(crate) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
    _slot: Slot,
}

impl Queue {
    pub(crate) fn new(options: &Options) -> Self {
        let room = Room {
            slots: Mutex::default(),
            limit: options.waiting,
            limit_per_address: options.waiting_per_address,
        };
        Self { turns: Arc::new(Semaphore::new(options.checks.max(1))), room: Arc::new(room) }
    }

    /// A slot, if one is left for this address. Clients without an address are limited only by the total.
    pub(crate) fn enter(&self, from: Option<IpAddr>) -> Option<Slot> {
        let from = from.map(client_network);
        let mut slots = self.room.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.taken >= self.room.limit {
            return None;
        }
        if let Some(address) = from {
            let share = slots.by_address.entry(address).or_default();
            if *share >= self.room.limit_per_address {
                return None;
            }
            *share += 1;
        }
        slots.taken += 1;
        Some(Slot { turns: self.turns.clone(), room: self.room.clone(), from })
    }
}

impl Slot {
    /// Waits for the check's turn, in order of arrival.
    pub(crate) async fn turn(self) -> Turn {
        // The semaphore is never closed.
        let permit = self.turns.clone().acquire_owned().await.ok();
        Turn { _permit: permit, _slot: self }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = self.room.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.taken = slots.taken.saturating_sub(1);
        if let Some(address) = self.from
            && let Some(share) = slots.by_address.get_mut(&address)
        {
            *share -= 1;
            if *share == 0 {
                slots.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_fills_only_its_share() {
        let options = Options { waiting: 3, waiting_per_address: 2, ..Options::default() };
        let queue = Queue::new(&options);
        let bad = Some(IpAddr::from([192, 0, 2, 1]));
        let good = Some(IpAddr::from([192, 0, 2, 2]));
        let first = queue.enter(bad).unwrap();
        let _second = queue.enter(bad).unwrap();
        assert!(queue.enter(bad).is_none());
        let third = queue.enter(good).unwrap();
        assert!(queue.enter(good).is_none() && queue.enter(None).is_none());
        drop(third);
        assert!(queue.enter(bad).is_none());
        drop(first);
        assert!(queue.enter(bad).is_some());
        let _third = queue.enter(None).unwrap();
    }
}

//! Room for checks that wait, shared fairly: a client that tries passwords as fast as it can
//! fills its own share of the queue and not everybody's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Options;

/// The queue in front of the threads that check passwords.
pub(crate) struct Queue {
    turns: Arc<Semaphore>,
    room: Arc<Room>,
}

struct Room {
    places: Mutex<Places>,
    limit: usize,
    limit_per_address: usize,
}

#[derive(Default)]
struct Places {
    taken: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// What one client may call its own: an IPv4 address, or the /64 network that each customer of
/// a provider has in IPv6.
fn share_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

/// A place in the queue; given back when it is dropped.
pub(crate) struct Place {
    turns: Arc<Semaphore>,
    room: Arc<Room>,
    from: Option<IpAddr>,
}

/// The right to check one password now, together with the place in the queue.
pub(crate) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
    _place: Place,
}

impl Queue {
    pub(crate) fn new(options: &Options) -> Self {
        let room = Room {
            places: Mutex::default(),
            limit: options.waiting,
            limit_per_address: options.waiting_per_address,
        };
        Self { turns: Arc::new(Semaphore::new(options.checks.max(1))), room: Arc::new(room) }
    }

    /// A place, where there is one left for this address. Clients without an address share what
    /// there is.
    pub(crate) fn enter(&self, from: Option<IpAddr>) -> Option<Place> {
        let from = from.map(share_of);
        let mut places = self.room.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.taken >= self.room.limit {
            return None;
        }
        if let Some(address) = from {
            let share = places.by_address.entry(address).or_default();
            if *share >= self.room.limit_per_address {
                return None;
            }
            *share += 1;
        }
        places.taken += 1;
        Some(Place { turns: self.turns.clone(), room: self.room.clone(), from })
    }
}

impl Place {
    /// Waits for its turn, in order of arrival.
    pub(crate) async fn turn(self) -> Turn {
        // The semaphore is never closed.
        let permit = self.turns.clone().acquire_owned().await.ok();
        Turn { _permit: permit, _place: self }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.room.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.taken = places.taken.saturating_sub(1);
        if let Some(address) = self.from
            && let Some(share) = places.by_address.get_mut(&address)
        {
            *share -= 1;
            if *share == 0 {
                places.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_fills_only_its_share() {
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

    #[test]
    fn an_ipv6_network_is_one_client() {
        let share = |address: &str| share_of(address.parse().unwrap()).to_string();
        assert_eq!(share("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(share("192.0.2.1"), "192.0.2.1");
    }
}

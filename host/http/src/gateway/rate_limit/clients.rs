//! The clients that a limit has counted lately, in bounded memory.
//!
//! A client is a keyed hash of its address or name, so an entry has the same size for any name, and a lookup makes no
//! copy of it. Clients that have recovered are forgotten, because an unknown client counts as one that has. If the table
//! is full of others, all further clients share one entry: whoever attacks from many addresses uses up neither memory
//! nor what known clients are allowed.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keepgate_auth::client_network;

use super::gcra::{Rate, nanos};

/// How many clients a limit counts separately. A little more than the /64 networks of an IPv6 /48, which many providers
/// give to one customer. With this many, the table takes 3.3 MB.
pub(super) const MAX_CLIENTS: usize = 100_000;

/// Below this size, the table is not searched for clients that have recovered.
const FEW_CLIENTS: usize = 1024;

/// How often a full table is searched, at most. A search takes up to a millisecond.
const SEARCH: u64 = 1_000_000_000;

/// How often a client that is refused again and again is logged.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// New in each process, so that nobody can choose names that share an entry.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Whom a request is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientKey(u64);

impl ClientKey {
    /// An address, or the /64 network of an IPv6 address. All clients of Unix sockets are one.
    pub(super) fn of_address(address: Option<IpAddr>) -> Self {
        Self(KEYS.hash_one((0_u8, address.map(client_network))))
    }

    /// An authenticated user.
    pub(super) fn of_user(name: &str) -> Self {
        Self(KEYS.hash_one((1_u8, name)))
    }
}

/// A request comes too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooEarly {
    /// How long the client must wait.
    pub(super) wait: Duration,
    /// Whether the client is counted together with others, because the table is full.
    pub(super) shared: bool,
    /// Whether this should be logged.
    pub(super) log: bool,
}

/// The clients of one limit.
#[derive(Debug)]
pub(super) struct Clients {
    rate: Rate,
    /// How many lines of a limit are logged, whoever is refused.
    lines: Rate,
    capacity: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<ClientKey, Client>,
    /// Everybody for whom there is no room in `known`.
    others: Client,
    /// The size at which to search for clients that have recovered.
    search_at: usize,
    /// No search before this time.
    next_search: u64,
    /// The state of `lines`.
    logged: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Client {
    /// See [`Rate`].
    recovered: u64,
    /// No line about it before this time.
    next_line: u64,
}

impl Clients {
    /// Counts up to `capacity` clients separately.
    pub(super) fn new(rate: Rate, capacity: usize) -> Self {
        let lines = Rate::new(10, Duration::from_secs(60), 10);
        Self { rate, lines, capacity, table: Mutex::default() }
    }

    /// Counts a request, unless it comes too early.
    pub(super) fn admit(&self, key: ClientKey, now: u64) -> Result<(), TooEarly> {
        let table = &mut *self.lock();
        if let Some(client) = table.known.get_mut(&key) {
            self.check(client, &mut table.logged, now, false)?;
            client.recovered = self.rate.count(client.recovered, now);
        } else if table.has_room(self.capacity, now) {
            table.known.insert(key, Client { recovered: self.rate.count(0, now), next_line: 0 });
        } else {
            self.check(&mut table.others, &mut table.logged, now, true)?;
            table.others.recovered = self.rate.count(table.others.recovered, now);
        }
        Ok(())
    }

    /// Checks whether a request would be admitted.
    pub(super) fn peek(&self, key: ClientKey, now: u64) -> Result<(), TooEarly> {
        let table = &mut *self.lock();
        if let Some(client) = table.known.get_mut(&key) {
            return self.check(client, &mut table.logged, now, false);
        }
        if table.has_room(self.capacity, now) {
            return Ok(());
        }
        self.check(&mut table.others, &mut table.logged, now, true)
    }

    /// Counts a request, even if that is more than the limit.
    pub(super) fn count(&self, key: ClientKey, now: u64) {
        let table = &mut *self.lock();
        let client = if table.known.contains_key(&key) || table.has_room(self.capacity, now) {
            table.known.entry(key).or_default()
        } else {
            &mut table.others
        };
        client.recovered = self.rate.count(client.recovered, now);
    }

    /// Undoes the last count for a client.
    pub(super) fn uncount(&self, key: ClientKey) {
        let table = &mut *self.lock();
        let client = table.known.get_mut(&key).unwrap_or(&mut table.others);
        client.recovered = self.rate.uncount(client.recovered);
    }

    fn check(
        &self,
        client: &mut Client,
        logged: &mut u64,
        now: u64,
        shared: bool,
    ) -> Result<(), TooEarly> {
        let Some(wait) = self.rate.wait(client.recovered, now) else { return Ok(()) };
        let log = client.next_line <= now && self.lines.wait(*logged, now).is_none();
        if log {
            client.next_line = now.saturating_add(nanos(LOG_AGAIN));
            *logged = self.lines.count(*logged, now);
        }
        Err(TooEarly { wait, shared, log })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Whether one more client can be counted separately. Forgets those that have recovered, whenever the table has
    /// grown to twice the size that it had after the last search, so that a search costs each request next to nothing.
    fn has_room(&mut self, capacity: usize, now: u64) -> bool {
        let size = self.known.len();
        if size >= self.search_at.clamp(FEW_CLIENTS.min(capacity), capacity)
            && now >= self.next_search
        {
            self.known.retain(|_, client| client.recovered > now);
            self.search_at = self.known.len().saturating_mul(2);
            self.known.shrink_to(self.search_at);
            if self.known.len() >= capacity {
                self.next_search = now.saturating_add(SEARCH);
            }
        }
        self.known.len() < capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Two requests at once, and then one each second.
    fn clients(capacity: usize) -> Clients {
        Clients::new(Rate::new(60, Duration::from_secs(60), 2), capacity)
    }

    fn user(number: usize) -> ClientKey {
        ClientKey::of_user(&number.to_string())
    }

    fn size(clients: &Clients) -> usize {
        clients.lock().known.len()
    }

    #[test]
    fn each_client_has_its_own_count() {
        let clients = clients(10);
        for number in 0..2 {
            assert_eq!(clients.admit(user(number), 0), Ok(()));
            assert_eq!(clients.admit(user(number), 0), Ok(()));
            let TooEarly { wait, shared, .. } = clients.admit(user(number), 0).unwrap_err();
            assert_eq!((wait, shared), (Duration::from_secs(1), false));
        }
        assert_eq!(clients.admit(user(0), SECOND), Ok(()));
        assert!(clients.admit(user(0), SECOND).is_err());
        clients.uncount(user(0));
        assert_eq!(clients.admit(user(0), SECOND), Ok(()));
    }

    #[test]
    fn to_peek_counts_nothing_and_to_count_asks_for_nothing() {
        let clients = clients(10);
        for _ in 0..100 {
            assert_eq!(clients.peek(user(1), 0), Ok(()));
        }
        assert_eq!(size(&clients), 0, "who is only looked at takes no memory");
        for _ in 0..5 {
            clients.count(user(1), 0);
        }
        assert_eq!(clients.peek(user(1), 0).unwrap_err().wait, Duration::from_secs(4));
        assert_eq!(clients.peek(user(1), 4 * SECOND), Ok(()));
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_names_are_no_addresses() {
        let address = |text: &str| ClientKey::of_address(Some(text.parse().unwrap()));
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
        assert_ne!(address("192.0.2.1"), ClientKey::of_user("192.0.2.1"));
        assert_eq!(ClientKey::of_address(None), ClientKey::of_address(None));
    }

    #[test]
    fn a_full_table_grows_no_more_and_others_share_one_count() {
        let clients = clients(50);
        for number in 0..50 {
            clients.count(user(number), 0);
            clients.count(user(number), 0);
        }
        // Two of these many are admitted, whoever they are.
        let admitted = (50..5000).filter(|number| clients.admit(user(*number), 0).is_ok()).count();
        assert_eq!((admitted, size(&clients)), (2, 50));
        assert!(clients.admit(user(9999), 0).unwrap_err().shared);
        assert!(clients.peek(user(9999), 0).unwrap_err().shared);
        // Known clients notice nothing of it.
        assert!(clients.admit(user(7), 0).is_err_and(|refused| !refused.shared));
        assert_eq!(clients.admit(user(7), SECOND), Ok(()));
        // All but that one have recovered by now.
        assert_eq!(clients.admit(user(9999), 2 * SECOND), Ok(()));
        assert_eq!(size(&clients), 2);
        assert_eq!(clients.admit(user(9998), 2 * SECOND), Ok(()));
        assert_eq!(size(&clients), 3);
    }

    #[test]
    fn a_full_table_is_searched_once_a_second() {
        let clients = clients(10);
        for number in 0..10 {
            clients.count(user(number), 0);
        }
        assert!(!clients.lock().has_room(10, SECOND / 2));
        // They have recovered, but the last search was less than a second ago.
        assert!(!clients.lock().has_room(10, SECOND));
        assert!(clients.lock().has_room(10, SECOND + SECOND / 2));
    }

    #[test]
    fn clients_that_have_recovered_are_forgotten() {
        let clients = clients(MAX_CLIENTS);
        for number in 0..20_000 {
            let now = u64::try_from(number).unwrap() * SECOND / 100;
            assert_eq!(clients.admit(user(number), now), Ok(()));
            assert!(size(&clients) <= FEW_CLIENTS, "only 100 are active in each second");
        }
    }

    #[test]
    fn refusals_are_logged_now_and_then() {
        let clients = clients(1000);
        let logs = |number: usize, now: u64| {
            clients.count(user(number), now);
            clients.count(user(number), now);
            (0..100).filter(|_| clients.peek(user(number), now).is_err_and(|it| it.log)).count()
        };
        assert_eq!(logs(1, 0), 1);
        assert_eq!(logs(1, 59 * SECOND), 0);
        assert_eq!(logs(1, 60 * SECOND), 1);
        // However many clients there are.
        let lines: usize = (2..1000).map(|number| logs(number, 600 * SECOND)).sum();
        assert_eq!(lines, 10);
    }
}

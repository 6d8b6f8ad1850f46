//! Recently verified logins, so that a client that sends its password with every request costs one slow
//! check instead of thousands. Entries are keyed hashes of name and password, of valid logins only.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A keyed hash of name and password.
pub(crate) type Key = [u8; 32];

/// Valid logins with the time of their last use.
#[derive(Debug)]
pub(crate) struct Cache {
    used: HashMap<Key, Instant>,
    lifetime: Duration,
    capacity: usize,
}

impl Cache {
    /// Holds at most `capacity` logins, each for `lifetime` after its last use.
    pub(crate) fn new(lifetime: Duration, capacity: usize) -> Self {
        Self { used: HashMap::new(), lifetime, capacity }
    }

    /// True for a cached login, whose lifetime starts again.
    pub(crate) fn hit(&mut self, key: &Key, now: Instant) -> bool {
        let Some(used) = self.used.get_mut(key) else {
            return false;
        };
        if now.duration_since(*used) > self.lifetime {
            self.used.remove(key);
            return false;
        }
        *used = now;
        true
    }

    /// Adds a login. If the cache is full, it replaces the least recently used one.
    pub(crate) fn insert(&mut self, key: Key, now: Instant) {
        if self.used.len() >= self.capacity {
            self.used.retain(|_, used| now.duration_since(*used) <= self.lifetime);
        }
        if self.used.len() >= self.capacity {
            // A linear search is cheap compared to the bcrypt check that precedes it.
            let oldest = self.used.iter().min_by_key(|(_, used)| **used).map(|(key, _)| *key);
            oldest.map(|key| self.used.remove(&key));
        }
        self.used.insert(key, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(300);

    #[test]
    fn use_extends_the_lifetime_of_an_entry() {
        let start = Instant::now();
        let mut cache = Cache::new(LIFETIME, 10);
        cache.insert([1; 32], start);
        for minutes in 1..=20 {
            assert!(cache.hit(&[1; 32], start + Duration::from_secs(minutes * 240)));
        }
        assert!(!cache.hit(&[2; 32], start));
        let late = start + Duration::from_secs(20 * 240 + 301);
        assert!(!cache.hit(&[1; 32], late));
        assert!(!cache.hit(&[1; 32], start), "an expired entry is gone");
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let start = Instant::now();
        let mut cache = Cache::new(LIFETIME, 3);
        for index in 0..3 {
            cache.insert([index; 32], start + Duration::from_secs(index.into()));
        }
        assert!(cache.hit(&[0; 32], start + Duration::from_secs(5)));
        cache.insert([3; 32], start + Duration::from_secs(6));
        assert_eq!(cache.used.len(), 3);
        let kept = |index: u8| cache.used.contains_key(&[index; 32]);
        assert!(kept(0) && !kept(1) && kept(2) && kept(3));
    }
}

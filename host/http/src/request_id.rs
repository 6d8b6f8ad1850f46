//! Identifiers of requests in logs.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A new identifier: random digits that differ for each start of the process, and a counter.
pub(crate) fn next_request_id() -> String {
    static START: LazyLock<u64> = LazyLock::new(|| {
        let mut random = [0; 8];
        // Without random bytes it is still unique within this process.
        let _ = getrandom::fill(&mut random);
        u64::from_le_bytes(random) >> 16
    });
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:012x}-{}", *START, NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_its_own_id() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| next_request_id()).collect();
        assert_eq!(ids.len(), 1000);
    }
}

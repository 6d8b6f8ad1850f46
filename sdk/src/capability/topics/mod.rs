//! Topics: news for whoever waits for it, within a mount and within one gateway. A message is handed to the subscriptions
//! that are open when it is published, and is kept nowhere else: for logs that are followed, server-sent events and long
//! polling.

#[cfg(not(target_family = "wasm"))]
mod native;

#[cfg(target_family = "wasm")]
use crate::bindings::keepgate::plugin::topics as host;
#[cfg(not(target_family = "wasm"))]
use native as host;

use std::time::Duration;

pub use crate::bindings::keepgate::plugin::topics::News;

use crate::Failure;

/// Hands a message of at most 64 KiB to every subscription to this topic, of 1 to 256 bytes, that is open in this gateway,
/// and returns how many there are. It waits for none of them.
pub fn publish(topic: &str, message: &[u8]) -> Result<u32, Failure> {
    host::publish(topic, message)
}

/// Receives what is published from its opening on, until the value is dropped, and at the latest until the call ends.
/// Open it first, then read what exists, then wait: so nothing is missed in between.
///
/// ```
/// use std::time::Duration;
///
/// use keepgate_sdk::topics::{self, News, Subscription};
/// # let _host = keepgate_sdk::testing::Host::new();
///
/// let changes = Subscription::open("changes")?;
/// topics::publish("changes", b"one")?;
/// assert_eq!(changes.next(Duration::from_secs(20)), News::Message(b"one".to_vec()));
/// assert_eq!(changes.next(Duration::from_secs(20)), News::Nothing);
/// # Ok::<(), keepgate_sdk::Failure>(())
/// ```
#[derive(Debug)]
#[must_use = "the subscription ends when this is dropped"]
pub struct Subscription(host::Subscription);

impl Subscription {
    /// Subscribes to a topic, of 1 to 256 bytes. Fails with [`Failure::Busy`] if half as many subscriptions of the mount are
    /// open as it allows calls at the same time.
    pub fn open(topic: &str) -> Result<Self, Failure> {
        host::Subscription::open(topic).map(Self)
    }

    /// Waits for the next news, in the order in which messages were published. Waiting is no CPU time, but counts against
    /// the limit of the call's time.
    pub fn next(&self, wait: Duration) -> News {
        self.0.next(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The Rust of the capability's page in the book.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/src/contract/topics.md")]
#[derive(Debug)]
struct Book;

//! Topics of a test, in which one call is made after another: whoever waits gets what has been published, and otherwise
//! [`News::Nothing`] at once.

use std::collections::{BTreeMap, VecDeque};

use super::News;
use crate::Failure;
use crate::testing::{Host, with};

/// The longest message.
const MAX_MESSAGE: usize = 64 << 10;
/// The most messages that wait for a subscriber, ...
const MAX_WAITING: usize = 64;
/// ... and the most bytes of them.
const MAX_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
struct Subscribed {
    /// By their numbers.
    queues: BTreeMap<u64, Queue>,
    opened: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Queue {
    topic: String,
    messages: VecDeque<Vec<u8>>,
    missed: bool,
}

impl Queue {
    fn push(&mut self, message: &[u8]) {
        self.messages.push_back(message.to_vec());
        while self.messages.len() > MAX_WAITING || self.bytes() > MAX_BYTES {
            self.missed = self.messages.pop_front().is_some();
        }
    }

    fn bytes(&self) -> usize {
        self.messages.iter().map(Vec::len).sum()
    }
}

pub(super) fn publish(topic: &str, message: &[u8]) -> Result<u32, Failure> {
    check(topic)?;
    if message.len() > MAX_MESSAGE {
        return Err(Failure::TooLarge(MAX_MESSAGE as u64));
    }
    let reached = with(|subscribed: &mut Subscribed| {
        let closed = subscribed.closed;
        let queues = subscribed.queues.values_mut();
        let open = queues.filter(|queue| queue.topic == topic && !closed);
        open.map(|queue| queue.push(message)).count()
    });
    Ok(u32::try_from(reached).unwrap_or(u32::MAX))
}

/// The number of a subscription.
#[derive(Debug)]
pub(super) struct Subscription(u64);

impl Subscription {
    pub(super) fn open(topic: &str) -> Result<Self, Failure> {
        check(topic)?;
        Ok(with(|subscribed: &mut Subscribed| {
            subscribed.opened += 1;
            let queue = Queue { topic: topic.to_owned(), ..Queue::default() };
            subscribed.queues.insert(subscribed.opened, queue);
            Self(subscribed.opened)
        }))
    }

    pub(super) fn next(&self, _milliseconds: u64) -> News {
        with(|subscribed: &mut Subscribed| {
            let end = if subscribed.closed { News::Closed } else { News::Nothing };
            // A new host does not know what was opened in the one before.
            let Some(queue) = subscribed.queues.get_mut(&self.0) else { return News::Closed };
            match std::mem::take(&mut queue.missed) {
                true => News::Missed,
                false => queue.messages.pop_front().map_or(end, News::Message),
            }
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        with(|subscribed: &mut Subscribed| subscribed.queues.remove(&self.0));
    }
}

fn check(topic: &str) -> Result<(), Failure> {
    match topic.len() {
        1..=256 => Ok(()),
        _ => Err(Failure::Invalid("a topic has 1 to 256 bytes".to_owned())),
    }
}

impl Host {
    /// Closes all subscriptions, now and from now on, as a gateway that shuts down does: whoever follows a topic gets
    /// [`News::Closed`] after what was published before, so a test of it ends.
    pub fn close_topics(&self) {
        with(|subscribed: &mut Subscribed| subscribed.closed = true);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::Failure;
    use crate::testing::Host;
    use crate::topics::{News, Subscription, publish};

    fn next(subscription: &Subscription) -> News {
        subscription.next(Duration::from_secs(1))
    }

    fn message(text: &[u8]) -> News {
        News::Message(text.to_vec())
    }

    #[test]
    fn what_is_published_comes_once_to_each_open_subscription() {
        let host = Host::new();
        assert_eq!(publish("x", b"0").unwrap(), 0);
        let (one, two) = (Subscription::open("x").unwrap(), Subscription::open("x").unwrap());
        let other = Subscription::open("y").unwrap();
        assert_eq!(publish("x", b"1").unwrap(), 2);
        drop(two);
        assert_eq!(publish("x", b"2").unwrap(), 1);
        let came = [next(&one), next(&one), next(&one), next(&other)];
        assert_eq!(came, [message(b"1"), message(b"2"), News::Nothing, News::Nothing]);
        publish("x", b"3").unwrap();
        host.close_topics();
        assert_eq!(publish("x", b"4").unwrap(), 0);
        assert_eq!([next(&one), next(&one)], [message(b"3"), News::Closed]);
    }

    #[test]
    fn limits_are_those_of_the_host() {
        let _host = Host::new();
        let slow = Subscription::open("x").unwrap();
        for number in 0..=64 {
            publish("x", &[number]).unwrap();
        }
        assert_eq!([next(&slow), next(&slow)], [News::Missed, message(&[1])]);
        for _ in 0..17 {
            publish("x", &[0; 65536]).unwrap();
        }
        assert_eq!(next(&slow), News::Missed);
        for _ in 0..16 {
            assert_eq!(next(&slow), message(&[0; 65536]));
        }
        assert_eq!(next(&slow), News::Nothing);
        for name in [String::new(), "x".repeat(257)] {
            assert!(matches!(publish(&name, b""), Err(Failure::Invalid(_))));
            assert!(matches!(Subscription::open(&name), Err(Failure::Invalid(_))));
        }
        assert!(matches!(publish("x", &[0; 65537]), Err(Failure::TooLarge(65536))));
    }
}

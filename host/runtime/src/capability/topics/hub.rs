//! The subscriptions of a gateway, and the messages that wait for each. It knows no guests, and nothing here waits for a
//! subscriber: whoever is too slow loses the oldest messages and is told so.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::select;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The most messages that wait for a subscriber, ...
const MAX_WAITING: usize = 64;
/// ... and the most bytes of them.
const MAX_BYTES: usize = 1 << 20;

/// Path of the mount, and topic.
pub(super) type Name = (String, String);

/// The topics of all mounts of a gateway, which outlive a reload.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    queues: Arc<Mutex<HashMap<Name, Vec<Arc<Queue>>>>>,
    closing: CancellationToken,
}

impl Topics {
    /// Closes every subscription, now and from now on: nothing may hold up a gateway that shuts down.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Hands a message to the subscriptions that are open, and returns how many.
    pub(super) fn publish(&self, name: &Name, message: &Bytes) -> usize {
        let queues = locked(&self.queues);
        let subscribed = queues.get(name).into_iter().flatten();
        let open = subscribed.filter(|queue| !queue.is_closed());
        open.map(|queue| queue.push(message.clone())).count()
    }

    /// A subscription, which `retired` closes.
    pub(super) fn open(&self, name: Name, retired: CancellationToken) -> Subscription {
        let closing = self.closing.clone();
        let queue = Queue { waiting: Mutex::default(), arrived: Notify::new(), retired, closing };
        let queue = Arc::new(queue);
        locked(&self.queues).entry(name.clone()).or_default().push(queue.clone());
        Subscription { topics: self.clone(), name, queue }
    }
}

/// What a subscriber is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    Message(Bytes),
    /// Older messages than the next one were dropped.
    Missed,
    Closed,
}

/// An open subscription, until it is dropped.
#[derive(Debug)]
pub(super) struct Subscription {
    topics: Topics,
    name: Name,
    queue: Arc<Queue>,
}

impl Subscription {
    /// Waits for news. What was published before the end is delivered before the end.
    pub(super) async fn next(&self) -> News {
        let Queue { waiting, arrived, retired, closing } = &*self.queue;
        let (retired, closing) = (pin!(retired.cancelled()), pin!(closing.cancelled()));
        let mut end = select(retired, closing);
        loop {
            let is_closed = self.queue.is_closed();
            if let Some(news) = locked(waiting).pop() {
                return news;
            }
            if is_closed {
                return News::Closed;
            }
            // A message that comes before this waits leaves a permit, so none is overlooked.
            select(pin!(arrived.notified()), &mut end).await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut queues = locked(&self.topics.queues);
        if let Some(subscribed) = queues.get_mut(&self.name) {
            subscribed.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
            if subscribed.is_empty() {
                queues.remove(&self.name);
            }
        }
    }
}

/// What waits for one subscriber.
#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    retired: CancellationToken,
    closing: CancellationToken,
}

impl Queue {
    fn is_closed(&self) -> bool {
        self.retired.is_cancelled() || self.closing.is_cancelled()
    }

    fn push(&self, message: Bytes) {
        locked(&self.waiting).push(message);
        self.arrived.notify_one();
    }
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Bytes>,
    bytes: usize,
    missed: bool,
}

impl Waiting {
    fn push(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.messages.push_back(message);
        while self.messages.len() > MAX_WAITING || self.bytes > MAX_BYTES {
            let Some(oldest) = self.messages.pop_front() else { return };
            self.bytes -= oldest.len();
            self.missed = true;
        }
    }

    fn pop(&mut self) -> Option<News> {
        if std::mem::take(&mut self.missed) {
            return Some(News::Missed);
        }
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(News::Message(message))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn name(mount: &str, topic: &str) -> Name {
        (mount.to_owned(), topic.to_owned())
    }

    fn subscribe(topics: &Topics, topic: &str) -> Subscription {
        topics.open(name("/a", topic), CancellationToken::new())
    }

    fn publish(topics: &Topics, topic: &str, message: impl Into<Bytes>) -> usize {
        topics.publish(&name("/a", topic), &message.into())
    }

    fn message(text: &'static str) -> Option<News> {
        Some(News::Message(Bytes::from_static(text.as_bytes())))
    }

    /// What is there already.
    fn now(subscription: &Subscription) -> Option<News> {
        subscription.next().now_or_never()
    }

    #[test]
    fn messages_reach_whoever_is_subscribed_to_the_topic_of_the_mount_in_their_order() {
        let topics = Topics::default();
        assert_eq!(publish(&topics, "x", "to nobody"), 0);
        let (one, two) = (subscribe(&topics, "x"), subscribe(&topics, "x"));
        let other_topic = subscribe(&topics, "y");
        let other_mount = topics.open(name("/b", "x"), CancellationToken::new());
        assert_eq!((publish(&topics, "x", "1"), publish(&topics, "x", "")), (2, 2));
        let late = subscribe(&topics, "x");
        assert_eq!(publish(&topics, "x", "3"), 3);
        for subscription in [&one, &two] {
            let came = [now(subscription), now(subscription), now(subscription)];
            assert_eq!(came, [message("1"), message(""), message("3")]);
        }
        assert_eq!(now(&late), message("3"));
        for subscription in [one, two, late, other_topic, other_mount] {
            assert_eq!(now(&subscription), None);
        }
        assert!(locked(&topics.queues).is_empty());
    }

    #[test]
    fn a_subscriber_that_is_too_slow_loses_the_oldest_messages_and_is_told_once() {
        let topics = Topics::default();
        let subscription = subscribe(&topics, "x");
        for number in 0..=MAX_WAITING {
            publish(&topics, "x", number.to_string());
        }
        assert_eq!((now(&subscription), now(&subscription)), (Some(News::Missed), message("1")));
        for number in 2..=MAX_WAITING {
            assert_eq!(now(&subscription), Some(News::Message(number.to_string().into())));
        }
        assert_eq!(now(&subscription), None);
        assert_eq!(locked(&subscription.queue.waiting).bytes, 0);
    }

    #[test]
    fn the_bytes_that_wait_are_bounded() {
        let topics = Topics::default();
        let subscription = subscribe(&topics, "x");
        let large = Bytes::from(vec![7; 64 << 10]);
        for _ in 0..100 {
            publish(&topics, "x", large.clone());
            assert!(locked(&subscription.queue.waiting).bytes <= MAX_BYTES);
        }
        assert_eq!(now(&subscription), Some(News::Missed));
        let came = std::iter::from_fn(|| now(&subscription)).count();
        assert_eq!(came, MAX_BYTES / large.len());
    }

    #[tokio::test]
    async fn a_message_wakes_whoever_waits() {
        let topics = Topics::default();
        let subscription = subscribe(&topics, "x");
        let mut next = pin!(subscription.next());
        assert_eq!(next.as_mut().now_or_never(), None);
        publish(&topics, "x", "1");
        assert_eq!(Some(next.await), message("1"));
        // Giving up loses nothing.
        assert_eq!(subscription.next().now_or_never(), None);
        publish(&topics, "x", "2");
        assert_eq!(Some(subscription.next().await), message("2"));
    }

    #[tokio::test]
    async fn the_end_wakes_whoever_waits_and_comes_after_what_was_published_before() {
        let topics = Topics::default();
        let retired = CancellationToken::new();
        let replaced = topics.open(name("/a", "x"), retired.clone());
        let stays = subscribe(&topics, "x");
        let mut next = pin!(replaced.next());
        assert_eq!(next.as_mut().now_or_never(), None);
        retired.cancel();
        assert_eq!(next.await, News::Closed);
        assert_eq!(publish(&topics, "x", "1"), 1, "one is closed");
        topics.close();
        assert_eq!(publish(&topics, "x", "2"), 0);
        assert_eq!(Some(stays.next().await), message("1"));
        assert_eq!((stays.next().await, stays.next().await), (News::Closed, News::Closed));
        assert_eq!(replaced.next().await, News::Closed);
        assert_eq!(subscribe(&topics, "x").next().await, News::Closed, "opened afterwards");
    }
}

//! `topics`: publishing and subscribing within a mount. `hub` has the subscriptions with the messages that wait for them;
//! here is what guests may do with it.

mod hub;

use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::definition::Capability;
use super::grants::Grant;
use crate::contract::ImportError;
use crate::guest_state::GuestState;
use crate::host_allocation::bytes_with;
use keepgate_core::Failure;

use bindings::keepgate::plugin::topics;
pub use hub::Topics;
use hub::{Name, News, Subscription};

crate::contract::bindings! {
    interface: "topics",
    imports: {
        "keepgate:plugin/topics.[method]subscription.next": async | trappable,
        default: trappable,
    },
    with: {
        "keepgate:plugin/types": crate::guest::bindings::keepgate::plugin::types,
        "keepgate:plugin/topics.subscription": crate::capability::topics::SubscriptionHandle,
    },
}

/// The longest topic, in bytes.
const MAX_TOPIC: usize = 256;
/// The longest message, in bytes.
const MAX_MESSAGE: usize = 64 << 10;

impl Grant for Topics {}

/// A subscription of a call. A handle in the guest's table is the subscription, so whatever ends the call ends it.
#[derive(Debug)]
pub struct SubscriptionHandle {
    // Dropped first: a subscription that nothing reaches any more takes up no place.
    _place: OwnedSemaphorePermit,
    subscription: Subscription,
}

/// See the module.
pub(crate) struct TopicsCapability;

impl Capability for TopicsCapability {
    fn interface(&self) -> &'static str {
        "topics"
    }

    fn purpose(&self) -> &'static str {
        "news"
    }

    fn since(&self) -> u32 {
        1
    }

    fn wit(&self) -> &'static str {
        crate::contract::wit!("topics.wit")
    }

    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        topics::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }

    fn lacks_grant(&self, _function: &str, failure: &str) -> bool {
        failure == "unsupported"
    }
}

impl GuestState {
    /// The topics of the gateway, and this mount's name for one of them.
    fn topic(&self, topic: String) -> Result<(Topics, Name), ImportError> {
        if topic.is_empty() || topic.len() > MAX_TOPIC {
            let why = format!("a topic has 1 to {MAX_TOPIC} bytes, not {}", topic.len());
            return Err(Failure::Invalid(why).into());
        }
        let mount = self.mount.path.clone();
        let Some(topics) = self.mount.grants.get::<Topics>().cloned() else {
            return Err(Failure::Unsupported(format!("the mount {mount} has no topics")).into());
        };
        Ok((topics, (mount, topic)))
    }
}

impl topics::Host for GuestState {
    fn publish(&mut self, topic: String, message: Vec<u8>) -> Result<u32, ImportError> {
        self.note("topics.publish", |_| topic.clone());
        let (topics, name) = self.topic(topic)?;
        if message.len() > MAX_MESSAGE {
            return Err(Failure::TooLarge(MAX_MESSAGE as u64).into());
        }
        // All subscriptions have the same bytes, which are the mount's memory until the last has read or missed them.
        let held = self.allocation.hold(message.len());
        let held = held.map_err(|over| ImportError::Trap(over.into()))?;
        let reached = topics.publish(&name, &bytes_with(message, held));
        Ok(u32::try_from(reached).unwrap_or(u32::MAX))
    }
}

impl topics::HostSubscription for GuestState {
    fn open(&mut self, topic: String) -> Result<Resource<SubscriptionHandle>, ImportError> {
        self.note("topics.open", |_| topic.clone());
        let (topics, name) = self.topic(topic)?;
        let Ok(place) = self.mount.followers.clone().try_acquire_owned() else {
            let mount = &self.mount.path;
            let why = format!(
                "the mount {mount} has as many open subscriptions as it allows, half of its \
                 `limits.calls`; try again later"
            );
            return Err(Failure::Busy(why).into());
        };
        let subscription = topics.open(name, self.mount.retired.clone());
        Ok(self.table.push(SubscriptionHandle { _place: place, subscription })?)
    }

    async fn next(
        &mut self,
        subscription: Resource<SubscriptionHandle>,
        milliseconds: u64,
    ) -> wasmtime::Result<topics::News> {
        self.note("topics.next", |_| milliseconds.to_string());
        let subscription = &self.table.get(&subscription)?.subscription;
        let waiting = timeout(Duration::from_millis(milliseconds), subscription.next());
        Ok(match self.cpu.free(waiting).await {
            Ok(News::Message(message)) => topics::News::Message(message.into()),
            Ok(News::Missed) => topics::News::Missed,
            Ok(News::Closed) => topics::News::Closed,
            Err(_) => topics::News::Nothing,
        })
    }

    fn drop(&mut self, subscription: Resource<SubscriptionHandle>) -> wasmtime::Result<()> {
        self.table.delete(subscription)?;
        Ok(())
    }
}

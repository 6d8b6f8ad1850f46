//! Webhooks: who is told of events, and how.
//!
//! `admin` has the handlers, `signature` the secrets and what is signed with them, `deliver` the job that sends, and
//! `delivery` what is kept of it.

pub(crate) mod admin;
pub(crate) mod deliver;
pub(crate) mod delivery;
mod signature;

use keepgate_sdk::records::{self, Record};
use keepgate_sdk::{Failure, Timestamp};
use serde::{Deserialize, Serialize};

use crate::caller::Administrator;
use crate::events::{Event, Kind};
use crate::instance::is_uuid;
use crate::layout;

/// The most webhooks of an account. An event goes to those of one account and to those of none: two changes of records for
/// each must fit into one commit.
pub(crate) const MOST: usize = 16;

/// A webhook, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Webhook {
    /// A UUID, in lower case.
    pub(crate) id: String,
    /// Whose instances it is told of; none for all instances.
    pub(crate) account: Option<String>,
    pub(crate) url: String,
    pub(crate) events: Vec<Kind>,
    pub(crate) created: Timestamp,
    /// Its secret, in base64.
    sealed: String,
    /// Why it is not told of anything any more, if that is so.
    #[serde(default)]
    pub(crate) disabled: Option<String>,
    /// How many rounds in a row have ended because the receiver took nothing.
    #[serde(default)]
    failed_rounds: u32,
    /// When the next round may begin.
    #[serde(default)]
    held_until: Option<Timestamp>,
}

impl Webhook {
    /// All webhooks, by their ids.
    pub(crate) fn all() -> Result<Vec<Self>, Failure> {
        records::scan(layout::WEBHOOKS).map(|record| record?.json()).collect()
    }

    /// The webhook with this id and its record, if there is one.
    pub(crate) fn find(id: &str) -> Result<Option<(Self, Record)>, Failure> {
        if !is_uuid(id) {
            return Ok(None);
        }
        let Some(record) = records::get(&layout::webhook(id))? else { return Ok(None) };
        Ok(Some((record.json()?, record)))
    }

    /// Whether an event goes to it.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        self.disabled.is_none()
            && self.events.contains(&event.event)
            && self.account.as_deref().is_none_or(|account| account == event.account())
    }

    /// Whether it is one that this administrator may know of.
    fn may_be_seen_by(&self, admin: &Administrator) -> bool {
        admin.account.is_none() || admin.account == self.account
    }
}

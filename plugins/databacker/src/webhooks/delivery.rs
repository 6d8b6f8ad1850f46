//! Deliveries: one event for one webhook, what has become of it, and one attempt to send it.

use std::time::Duration;

use keepgate_sdk::upstreams::Request;
use keepgate_sdk::{Body, Failure, Timestamp, json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Webhook;
use super::signature::Secret;
use crate::events::Event;
use crate::layout;
use crate::settings::Settings;

/// How long deliveries are kept.
pub(crate) const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// For the head of an answer. The body is not read.
const PATIENCE: Duration = Duration::from_secs(10);

/// The delivery of an event to a webhook.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) event: Event,
    pub(crate) status: Status,
    pub(crate) attempts: u32,
    /// Of the last attempt.
    pub(crate) answer: Option<Answer>,
}

/// What has become of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// It is to be tried, again or for the first time.
    Pending,
    Delivered,
    /// It is not tried any more.
    Failed,
}

/// What an attempt has led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) time: Timestamp,
    /// The receiver's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) status: Option<u16>,
    /// Why there was no answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) reason: Option<String>,
}

impl Answer {
    /// That there was none.
    pub(crate) fn none(reason: &str) -> Self {
        Self { time: Timestamp::now(), status: None, reason: Some(reason.to_owned()) }
    }

    pub(crate) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether the receiver wants nothing any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.status == Some(410)
    }
}

impl Delivery {
    /// One that was not tried yet.
    pub(crate) fn new(event: Event) -> Self {
        Self { event, status: Status::Pending, attempts: 0, answer: None }
    }

    /// The key of its record.
    pub(crate) fn key(&self, webhook: &Webhook) -> String {
        layout::delivery(&webhook.id, self.event.time, &self.event.id)
    }

    /// As administrators see it.
    pub(crate) fn shown(&self) -> Value {
        json!({
            "id": self.event.id,
            "time": self.event.time,
            "event": self.event.event,
            "instance": self.event.instance,
            "status": self.status,
            "attempts": self.attempts,
            "answer": self.answer,
        })
    }

    /// Sends it once. Whatever goes wrong is the answer; the delivery stays as it is.
    pub(crate) fn send(&self, webhook: &Webhook, settings: &Settings) -> Answer {
        match self.sent(webhook, settings) {
            Ok(status) => Answer { time: Timestamp::now(), status: Some(status), reason: None },
            Err(failure) => Answer::none(failure.message()),
        }
    }

    fn sent(&self, webhook: &Webhook, settings: &Settings) -> Result<u16, Failure> {
        let upstream = settings.webhooks.as_deref().ok_or_else(|| {
            Failure::Unavailable("the setting `webhooks` names no upstream any more".to_owned())
        })?;
        let (id, time) = (&self.event.id, Timestamp::now().as_secs());
        let body = json::to_vec(&self.event)?;
        let secret = Secret::of(webhook)?;
        let exchange = Request::new("POST", &webhook.url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", &time.to_string())
            .header("webhook-signature", &secret.sign(id, time, &body)?)
            .body(Body::from_bytes(&body))
            .answer_within(PATIENCE)
            .silent_for(PATIENCE)
            .send(upstream)?;
        Ok(exchange.status())
    }
}

//! Secrets of webhooks, and signatures in the form of the Standard Webhooks specification, version 1: `v1,` and the
//! HMAC-SHA-256 of `ID.TIMESTAMP.BODY` in base64. Libraries for it exist in most languages.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac as _};
use keepgate_sdk::{Failure, environment, secrets};
use sha2::Sha256;

use super::Webhook;

/// What secrets begin with, in the form that people copy.
const PREFIX: &str = "whsec_";
/// The bytes of a new one, and the fewest and the most of one that is given.
const NEW: u32 = 32;
const FEWEST: usize = 24;
const MOST: usize = 64;

/// What the signatures of a webhook are made with.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(Vec<u8>);

impl Secret {
    /// A new random one.
    pub(super) fn new() -> Self {
        Self(environment::random(NEW))
    }

    /// One that was given; the error does not repeat it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let encoded = text.strip_prefix(PREFIX).unwrap_or(text);
        match BASE64_STANDARD.decode(encoded) {
            Ok(bytes) if (FEWEST..=MOST).contains(&bytes.len()) => Ok(Self(bytes)),
            _ => Err(format!(
                "it is not {PREFIX} and {FEWEST} to {MOST} bytes in base64 with padding; leave it out to get one"
            )),
        }
    }

    /// In the form that people copy.
    pub(super) fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(&self.0))
    }

    /// Sealed for the webhook with this id.
    pub(super) fn seal(&self, id: &str) -> Result<String, Failure> {
        Ok(BASE64_STANDARD.encode(secrets::seal(&self.0, &context(id))?))
    }

    /// The secret of a webhook.
    pub(super) fn of(webhook: &Webhook) -> Result<Self, Failure> {
        let sealed = BASE64_STANDARD.decode(&webhook.sealed).map_err(|_| {
            Failure::Internal(format!("the secret of the webhook {} is damaged", webhook.id))
        })?;
        secrets::open(&sealed, &context(&webhook.id)).map(Self)
    }

    /// The signature of a message, as its header has it. The time is in seconds since 1970.
    pub(super) fn sign(&self, id: &str, time: u64, body: &[u8]) -> Result<String, Failure> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .map_err(|error| Failure::Internal(format!("the secret of a webhook: {error}")))?;
        mac.update(format!("{id}.{time}.").as_bytes());
        mac.update(body);
        Ok(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
    }
}

fn context(id: &str) -> Vec<u8> {
    format!("databacker webhook {id}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specification() {
        // From the tests of the specification's own libraries.
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signature = secret.sign(id, 1_614_265_330, br#"{"test": 2432232314}"#).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_ne!(secret.sign(id, 1_614_265_331, br#"{"test": 2432232314}"#).unwrap(), signature);
    }

    #[test]
    fn secrets_have_the_form_of_the_specification() {
        let _host = keepgate_sdk::testing::Host::new();
        let new = Secret::new();
        assert!(Secret::parse(&new.reveal()).unwrap() == new);
        assert!(Secret::parse(new.reveal().trim_start_matches(PREFIX)).unwrap() == new);
        let long = BASE64_STANDARD.encode([1; 65]);
        for wrong in ["", "hunter2", "whsec_", "whsec_AAAA", &long] {
            let why = Secret::parse(wrong).err().unwrap();
            assert!(why.contains("leave it out") && !why.contains("hunter2"), "{wrong}: {why}");
        }
    }
}

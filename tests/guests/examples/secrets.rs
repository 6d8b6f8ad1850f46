//! Signs, verifies, seals and opens as its requests say: the body of a request is a message, its query the other
//! arguments. It does nothing wrong: it shows what the host does.

use keepgate_sdk::{Description, Failure, Plugin, Reply, Request, secrets};
use serde::de::IgnoredAny;

/// The plugin.
#[derive(Debug)]
pub struct Secrets;

keepgate_sdk::export!(Secrets);

/// More than any limit.
const MOST: u64 = 4 << 20;

impl Plugin for Secrets {
    type Settings = IgnoredAny;

    fn describe() -> Description {
        Description::new("secrets", "1.0.0")
    }

    fn handle(request: Request, _: IgnoredAny) -> Result<Reply, Failure> {
        let argument = |name: &str| {
            let found = request.query.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let (key, context) = (argument("key"), argument("context"));
        let bytes = request.body.bytes(MOST)?;
        match request.path().as_slice() {
            ["keys"] => Reply::ok().json(&secrets::keys()),
            ["sign"] => Ok(Reply::ok().bytes(secrets::hmac_sha256(&key, &bytes)?)),
            // The MAC is in front of the message.
            ["verify"] => {
                let (mac, message) = bytes.split_at(bytes.len().min(32));
                Reply::ok().json(&secrets::verify_hmac_sha256(&key, message, mac)?)
            }
            ["seal"] => Ok(Reply::ok().bytes(secrets::seal(&bytes, context.as_bytes())?)),
            ["open"] => Ok(Reply::ok().bytes(secrets::open(&bytes, context.as_bytes())?)),
            _ => Err(Failure::NotFound),
        }
    }
}

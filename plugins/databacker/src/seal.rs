//! Sealing with the mount's key, and what is said if it has none: that is nothing that a client can change, nor a fault of
//! the program.

use keepgate_sdk::{Failure, environment, secrets};

/// Seals for a context. `what` is kept so, in the plural, for the message.
pub(crate) fn seal(what: &str, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>, Failure> {
    secrets::seal(plaintext, context).map_err(|failure| no_key(what, failure))
}

/// The plaintext; `None` if none of the mount's keys has sealed this for the context.
pub(crate) fn open(what: &str, sealed: &[u8], context: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    match secrets::open(sealed, context) {
        Ok(plaintext) => Ok(Some(plaintext)),
        Err(Failure::Invalid(_)) => Ok(None),
        Err(failure) => Err(no_key(what, failure)),
    }
}

fn no_key(what: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Denied(_) => unavailable(&format!(
            "{what} are kept sealed, and the mount has no key for it: the operator sets secrets.seal = {{ name = …, keys = \
             [FILE] }} in the mount"
        )),
        other => other,
    }
}

/// The failure for what cannot be done before the operator has done something, who is told, too.
pub(crate) fn unavailable(message: &str) -> Failure {
    environment::warn(message, &[]);
    Failure::refused(503, "", message)
}

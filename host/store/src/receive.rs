//! Storing what came of a body that broke off. A client that goes on later need not send it again.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use sha2::{Digest as _, Sha256};

use crate::body::{Body, BodyError};
use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::{BlobStore, PutOptions, Stored};

/// A blob that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The blob, with the bytes that came.
    pub stored: Stored,
    /// Whether the body came to its end. Only then has it the expected SHA-256.
    pub complete: bool,
}

/// Stores a body as [`BlobStore::put`] does. If it breaks off, or nothing comes for too long, what has come is stored
/// without a look at its SHA-256; if nothing has, the call fails as `put` would.
///
/// Conditions of the options are those of `put`, except that identical bytes are compared with what came.
pub async fn receive(
    store: &dyn BlobStore,
    key: &Key,
    body: Body,
    mut options: PutOptions,
) -> Result<Received> {
    let (expected, announced) = (options.sha256.take(), body.length());
    let state = Arc::new(Mutex::new(State::Coming));
    let receiving = Receiving {
        body,
        hasher: expected.map(|_| Sha256::new()),
        expected,
        came: 0,
        announced,
        state: Arc::clone(&state),
    };
    // The length is not that of what will have come.
    let body = Body::from_stream(None, stream::unfold(Some(receiving), Receiving::next));
    let stored = store.put(key, body, options).await;
    let state = std::mem::replace(
        &mut *state.lock().unwrap_or_else(PoisonError::into_inner),
        State::Coming,
    );
    match (stored, state) {
        (Ok(stored), state) => Ok(Received { stored, complete: matches!(state, State::Ended) }),
        (Err(_), State::Mismatch { expected, actual }) => {
            let (expected, actual) = (hex::encode(expected), hex::encode(actual));
            Err(StoreError::ChecksumMismatch { expected, actual })
        }
        (Err(error), _) => Err(error),
    }
}

/// How a body has ended.
#[derive(Debug)]
enum State {
    Coming,
    Ended,
    BrokenOff,
    Mismatch { expected: [u8; 32], actual: [u8; 32] },
}

struct Receiving {
    body: Body,
    hasher: Option<Sha256>,
    expected: Option<[u8; 32]>,
    came: u64,
    /// How many bytes should come, if that is known.
    announced: Option<u64>,
    state: Arc<Mutex<State>>,
}

impl Receiving {
    async fn next(receiving: Option<Self>) -> Option<(Result<Bytes, BodyError>, Option<Self>)> {
        let mut this = receiving?;
        match this.body.chunk().await {
            Some(Ok(chunk)) => {
                this.came += chunk.len() as u64;
                if let Some(limit) = this.announced.filter(|announced| this.came > *announced) {
                    return Some((Err(BodyError::TooLarge { limit }), None));
                }
                if let Some(hasher) = &mut this.hasher {
                    hasher.update(&chunk);
                }
                Some((Ok(chunk), Some(this)))
            }
            Some(Err(BodyError::Truncated | BodyError::TimedOut)) if this.came > 0 => {
                this.ends(State::BrokenOff);
                None
            }
            Some(Err(error)) => Some((Err(error), None)),
            None if this.announced.is_some_and(|announced| this.came < announced) => {
                if this.came == 0 {
                    return Some((Err(BodyError::Truncated), None));
                }
                this.ends(State::BrokenOff);
                None
            }
            None => {
                let actual = this.hasher.take().map(|hasher| hasher.finalize().into());
                match (this.expected, actual) {
                    (Some(expected), Some(actual)) if expected != actual => {
                        this.ends(State::Mismatch { expected, actual });
                        // Any error: nothing is stored.
                        Some((Err(BodyError::Truncated), None))
                    }
                    _ => {
                        this.ends(State::Ended);
                        None
                    }
                }
            }
        }
    }

    fn ends(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

//! Bodies of a certain length: at most so long, exactly so long, one after another.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_store::{Body, BodyError};

/// The same bytes. Reading fails with [`BodyError::TooLarge`] as soon as there are more than `max`.
pub fn limit(body: Body, max: u64) -> Body {
    counted(body, max, None)
}

/// The same bytes, with a known length. Reading fails with [`BodyError::TooLarge`] as soon as there are more, and with
/// [`BodyError::Truncated`] at the end if there are fewer.
pub fn exactly(body: Body, length: u64) -> Body {
    counted(body, length, Some(length))
}

/// The bytes of all bodies, in order. The length is known if those of all are.
pub fn join(bodies: Vec<Body>) -> Body {
    let length = bodies.iter().try_fold(0_u64, |sum, body| sum.checked_add(body.length()?));
    let bodies = VecDeque::from(bodies);
    // A body that has ended is dropped before the next one is read.
    let chunks = stream::try_unfold(bodies, |mut bodies| async move {
        while let Some(first) = bodies.front_mut() {
            match first.next().await {
                Some(chunk) => return Ok(Some((chunk?, bodies))),
                None => drop(bodies.pop_front()),
            }
        }
        Ok(None)
    });
    Body::from_stream(length, chunks)
}

fn counted(body: Body, max: u64, exact: Option<u64>) -> Body {
    let length = exact.or_else(|| body.length().filter(|length| *length <= max));
    let counted = Counted {
        too_long: body.length().is_some_and(|length| length > max),
        body,
        max,
        passed: 0,
        exact,
    };
    Body::from_stream(length, stream::try_unfold(counted, Counted::next))
}

struct Counted {
    body: Body,
    /// Known before the first byte.
    too_long: bool,
    max: u64,
    passed: u64,
    exact: Option<u64>,
}

impl Counted {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BodyError> {
        let limit = self.max;
        if self.too_long {
            return Err(BodyError::TooLarge { limit });
        }
        match self.body.next().await {
            Some(chunk) => {
                let chunk = chunk?;
                self.passed = self.passed.saturating_add(chunk.len() as u64);
                if self.passed > limit {
                    return Err(BodyError::TooLarge { limit });
                }
                Ok(Some((chunk, self)))
            }
            None if self.exact.is_some_and(|exact| self.passed < exact) => {
                Err(BodyError::Truncated)
            }
            None => Ok(None),
        }
    }
}

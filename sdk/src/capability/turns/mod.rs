//! Turns: what must not be done twice at the same time waits for its turn. They are named locks of the mount within one
//! gateway; what several gateways share is guarded by the conditions of stores and [`records`](crate::records).

#[cfg(not(target_family = "wasm"))]
mod native;

#[cfg(target_family = "wasm")]
use crate::bindings::keepgate::plugin::turns as host;
#[cfg(not(target_family = "wasm"))]
use native as host;

use std::time::Duration;

use crate::Failure;

/// A turn that this call has until the value is dropped, and at the latest until the call ends, however it ends.
///
/// ```
/// use std::time::Duration;
///
/// use keepgate_sdk::turns::Turn;
/// use keepgate_sdk::Failure;
///
/// fn rebuild(index: &str) -> Result<(), Failure> {
///     let _turn = Turn::take(&format!("index/{index}"), Duration::from_secs(60))?;
///     // Nobody else is here for the same index.
///     Ok(())
/// }
/// # let _host = keepgate_sdk::testing::Host::new();
/// # rebuild("a").unwrap();
/// ```
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub struct Turn(#[expect(dead_code, reason = "dropping it gives the turn back")] host::Turn);

impl Turn {
    /// Waits for the turn of this name, of 1 to 256 bytes, behind those who wait already. Fails with [`Failure::Busy`] if
    /// it is not free in time; a call that waits for what it has taken itself waits in vain.
    pub fn take(name: &str, wait: Duration) -> Result<Self, Failure> {
        let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        host::Turn::take(name, milliseconds).map(Self)
    }
}

/// The Rust of the capability's page in the book.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/src/contract/turns.md")]
#[derive(Debug)]
struct Book;

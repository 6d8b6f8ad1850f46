//! `turns`: named locks of a mount, held by a call or an attempt of a job. A handle in the guest's table is the lock, so
//! whatever ends the call gives it back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::definition::Capability;
use super::grants::Grant;
use crate::contract::ImportError;
use crate::guest_state::GuestState;
use keepgate_core::Failure;

use bindings::keepgate::plugin::turns;

crate::contract::bindings! {
    interface: "turns",
    imports: { default: async | trappable },
    with: {
        "keepgate:plugin/types": crate::guest::bindings::keepgate::plugin::types,
        "keepgate:plugin/turns.turn": crate::capability::turns::TurnHandle,
    },
}

/// The longest name, in bytes.
const MAX_NAME: usize = 256;

/// The turns of all mounts of a gateway, which outlive a reload.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<Mutex<HashMap<Name, Arc<Lock>>>>);

impl Grant for Turns {}

/// Path of the mount, and name of the turn.
type Name = (String, String);
type Lock = tokio::sync::Mutex<()>;

impl Turns {
    /// Waits for a turn, behind those who wait already.
    async fn take(&self, name: Name) -> TurnHandle {
        let lock = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(name.clone()).or_default())
        };
        // Made before waiting, so that one who gives up leaves nothing behind.
        let mut handle = TurnHandle { turns: self.clone(), name, held: None };
        handle.held = Some(lock.lock_owned().await);
        handle
    }

    /// Forgets a turn that nobody has or waits for.
    fn forget(&self, name: &Name) {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // New ones come only through the table, which is locked.
        if turns.get(name).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            turns.remove(name);
        }
    }
}

/// A turn that a call has, or waits for.
#[derive(Debug)]
pub struct TurnHandle {
    turns: Turns,
    name: Name,
    held: Option<OwnedMutexGuard<()>>,
}

impl Drop for TurnHandle {
    fn drop(&mut self) {
        self.held = None;
        self.turns.forget(&self.name);
    }
}

/// See the module.
pub(crate) struct TurnsCapability;

impl Capability for TurnsCapability {
    fn interface(&self) -> &'static str {
        "turns"
    }

    fn purpose(&self) -> &'static str {
        "turns"
    }

    fn since(&self) -> u32 {
        1
    }

    fn wit(&self) -> &'static str {
        crate::contract::wit!("turns.wit")
    }

    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        turns::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }

    fn lacks_grant(&self, _function: &str, failure: &str) -> bool {
        failure == "unsupported"
    }
}

impl turns::Host for GuestState {}

impl turns::HostTurn for GuestState {
    async fn take(
        &mut self,
        name: String,
        milliseconds: u64,
    ) -> Result<Resource<TurnHandle>, ImportError> {
        self.note("turns.take", |_| name.clone());
        if name.is_empty() || name.len() > MAX_NAME {
            let why = format!("the name of a turn has 1 to {MAX_NAME} bytes, not {}", name.len());
            return Err(Failure::Invalid(why).into());
        }
        let mount = self.mount.path.clone();
        let Some(turns) = self.mount.grants.get::<Turns>().cloned() else {
            return Err(Failure::Unsupported(format!("the mount {mount} has no turns")).into());
        };
        let taking =
            timeout(Duration::from_millis(milliseconds), turns.take((mount, name.clone())));
        let Ok(turn) = self.cpu.free(taking).await else {
            return Err(Failure::Busy(format!("{name:?} is not free")).into());
        };
        Ok(self.table.push(turn)?)
    }

    async fn drop(&mut self, turn: Resource<TurnHandle>) -> wasmtime::Result<()> {
        self.table.delete(turn)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(mount: &str) -> Name {
        (mount.to_owned(), "x".to_owned())
    }

    async fn comes(turn: impl Future<Output = TurnHandle>) -> Option<TurnHandle> {
        timeout(Duration::from_millis(20), turn).await.ok()
    }

    #[tokio::test]
    async fn turns_are_taken_in_order_and_leave_nothing_behind() {
        let turns = Turns::default();
        let first = turns.take(name("/a")).await;
        assert!(comes(turns.take(name("/b"))).await.is_some(), "another mount");
        assert!(comes(turns.take(name("/a"))).await.is_none());
        let waiting = [turns.clone(), turns.clone()]
            .map(|turns| tokio::spawn(async move { turns.take(name("/a")).await }));
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(first);
        let [second, third] = waiting;
        let second = second.await.unwrap();
        assert!(!third.is_finished());
        drop(second);
        drop(third.await.unwrap());
        assert!(turns.0.lock().unwrap().is_empty());
    }
}

//! Turns of a test, in which one call is made after another: a turn that is taken stays so.

use std::collections::BTreeSet;

use crate::Failure;
use crate::testing::{Host, with};

#[derive(Debug, Default)]
struct Taken(BTreeSet<String>);

/// A turn that is taken.
#[derive(Debug)]
pub(super) struct Turn {
    name: String,
}

impl Turn {
    pub(super) fn take(name: &str, _milliseconds: u64) -> Result<Self, Failure> {
        if name.is_empty() || name.len() > 256 {
            return Err(Failure::Invalid("the name of a turn has 1 to 256 bytes".to_owned()));
        }
        let free = with(|taken: &mut Taken| taken.0.insert(name.to_owned()));
        match free {
            true => Ok(Self { name: name.to_owned() }),
            false => Err(Failure::Busy(format!("{name:?} is not free"))),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        with(|taken: &mut Taken| taken.0.remove(&self.name));
    }
}

impl Host {
    /// Takes a turn for ever, as another call would: whoever wants it gets [`Failure::Busy`].
    pub fn occupy_turn(&self, name: &str) {
        with(|taken: &mut Taken| taken.0.insert(name.to_owned()));
    }
}

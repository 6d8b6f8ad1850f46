//! Bodies: bytes that the host holds. Reading a body copies it into the plugin, for what the plugin has to
//! understand. Passing it on costs nothing.

#[cfg(not(target_family = "wasm"))]
mod native;

#[cfg(target_family = "wasm")]
pub use crate::bindings::keepgate::plugin::types::Body;
#[cfg(not(target_family = "wasm"))]
pub use native::Body;

use crate::Failure;

/// How many bytes are requested at once.
const PIECE: u32 = 64 * 1024;

impl Body {
    /// Reads the rest of the body, at most `most` bytes. Fails with [`Failure::TooLarge`] if there is more.
    /// The bytes are copied into the plugin, so keep `most` small.
    pub fn bytes(&self, most: u64) -> Result<Vec<u8>, Failure> {
        if self.length().is_some_and(|length| length > most) {
            return Err(Failure::TooLarge(most));
        }
        // A vector that grows is copied, and the plugin's memory never shrinks again.
        let announced = self.length().and_then(|length| usize::try_from(length).ok());
        let mut bytes = Vec::with_capacity(announced.unwrap_or(0));
        self.each_piece(most, |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// Returns the same body if it did not announce more than `most` bytes. Otherwise, fails with
    /// [`Failure::TooLarge`]. Nothing is read, so a body without an announced length passes.
    pub fn announced_at_most(self, most: u64) -> Result<Self, Failure> {
        match self.length() {
            Some(length) if length > most => Err(Failure::TooLarge(most)),
            _ => Ok(self),
        }
    }

    /// Reads the rest of the body and drops it, at most `most` bytes. Fails with [`Failure::TooLarge`] if
    /// there is more.
    pub fn discard(&self, most: u64) -> Result<(), Failure> {
        self.each_piece(most, |_| ())
    }

    fn each_piece(&self, most: u64, mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
        let mut length = 0;
        while let Some(piece) = self.read(PIECE)? {
            length += piece.len() as u64;
            if length > most {
                return Err(Failure::TooLarge(most));
            }
            take(&piece);
        }
        Ok(())
    }
}

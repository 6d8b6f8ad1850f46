//! Bodies: bytes that the host holds. Reading one copies it into the plugin, for what the plugin must
//! understand; handing one on costs nothing.

#[cfg(not(target_family = "wasm"))]
mod native;

#[cfg(target_family = "wasm")]
pub use crate::bindings::keepgate::plugin::types::Body;
#[cfg(not(target_family = "wasm"))]
pub use native::Body;
#[cfg(not(target_family = "wasm"))]
pub(crate) use native::Watch;

use crate::Failure;

/// Bytes that are asked for at once.
const PIECE: u32 = 64 * 1024;

impl Body {
    /// All that is left of it, at most `most` bytes; else [`Failure::TooLarge`]. It is read into the plugin, so
    /// keep `most` small: a body that is handed on costs nothing.
    pub fn bytes(&self, most: u64) -> Result<Vec<u8>, Failure> {
        if self.length().is_some_and(|length| length > most) {
            return Err(Failure::TooLarge(most));
        }
        let mut bytes = Vec::new();
        self.each_piece(most, |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// The same body, if it did not announce more than `most` bytes; else [`Failure::TooLarge`]. Nothing of it is
    /// read: one that announced no length passes.
    pub fn announced_at_most(self, most: u64) -> Result<Self, Failure> {
        match self.length() {
            Some(length) if length > most => Err(Failure::TooLarge(most)),
            _ => Ok(self),
        }
    }

    /// Reads what is left of it and drops it, at most `most` bytes; else [`Failure::TooLarge`].
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

//! Bodies that are read into the plugin: those that it must understand, and no others.

use crate::{Body, Failure};

/// Bytes that are asked for at once.
const PIECE: u32 = 64 * 1024;

impl Body {
    /// All that is left of it, of `most` bytes at most; else [`Failure::TooLarge`]. For what is small and
    /// must be understood: a body that is handed on costs nothing.
    pub fn bytes(&self, most: u64) -> Result<Vec<u8>, Failure> {
        if self.length().is_some_and(|length| length > most) {
            return Err(Failure::TooLarge(most));
        }
        let mut bytes = Vec::new();
        while let Some(piece) = self.read(PIECE)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > most {
                return Err(Failure::TooLarge(most));
            }
        }
        Ok(bytes)
    }
}

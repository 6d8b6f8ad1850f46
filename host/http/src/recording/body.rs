//! What a recording keeps of a body.

/// A captured body.
#[derive(Debug, Default)]
pub(super) struct Captured {
    pub(super) content: Content,
    /// Whether its end was seen.
    pub(super) whole: bool,
}

/// What is kept of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    /// Of a body that is too large to keep.
    Digest {
        sha256: String,
        length: u64,
    },
}

impl Default for Content {
    fn default() -> Self {
        Self::Bytes(Vec::new())
    }
}

//! Options for storing a blob, one method for each.

use super::{Condition, Part, Piece, PutOptions};

impl PutOptions {
    /// Replaces an existing blob.
    pub fn replace() -> Self {
        Self::with(Condition::Always)
    }

    /// Fails with [`AlreadyExists`](crate::Failure::AlreadyExists) if the key is taken, before the body is
    /// read.
    pub fn absent() -> Self {
        Self::with(Condition::Absent)
    }

    /// Fails if the key is taken, unless the existing blob has exactly the same bytes.
    pub fn absent_or_identical() -> Self {
        Self::with(Condition::AbsentOrIdentical)
    }

    /// Requires this SHA-256 of the bytes, in lower-case hexadecimal digits.
    #[must_use]
    pub fn sha256(mut self, digest: &str) -> Self {
        self.sha256 = Some(digest.to_owned());
        self
    }

    /// Requires that the existing blob has this etag. Otherwise, storing fails with
    /// [`PreconditionFailed`](crate::Failure::PreconditionFailed).
    pub fn matches(etag: &str) -> Self {
        Self::with(Condition::Matches(etag.to_owned()))
    }

    /// Stores a media type with the blob.
    #[must_use]
    pub fn content_type(mut self, media_type: &str) -> Self {
        self.content_type = Some(media_type.to_owned());
        self
    }

    /// Adds metadata that is stored with the blob: visible ASCII, and the name in lower case.
    #[must_use]
    pub fn metadata(mut self, name: &str, value: &str) -> Self {
        self.metadata.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a tag that is stored with the blob, at most ten.
    #[must_use]
    pub fn tag(mut self, name: &str, value: &str) -> Self {
        self.tags.push((name.to_owned(), value.to_owned()));
        self
    }

    fn with(condition: Condition) -> Self {
        Self { condition, sha256: None, content_type: None, metadata: Vec::new(), tags: Vec::new() }
    }
}

impl Piece {
    /// A whole blob.
    pub fn whole(key: &str) -> Self {
        Self { key: key.to_owned(), part: Part::Whole }
    }

    /// A part of a blob: this many bytes from an offset.
    pub fn slice(key: &str, offset: u64, length: u64) -> Self {
        Self { key: key.to_owned(), part: Part::Slice((offset, Some(length))) }
    }
}

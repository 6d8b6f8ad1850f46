//! How a blob is stored, one method for each option.

use super::{Condition, Part, Piece, PutOptions};

impl PutOptions {
    /// A blob that is there is replaced.
    pub fn replace() -> Self {
        Self::with(Condition::Always)
    }

    /// A taken key fails with [`AlreadyExists`](crate::Failure::AlreadyExists), before the body
    /// is read.
    pub fn absent() -> Self {
        Self::with(Condition::Absent)
    }

    /// A taken key fails unless the very same bytes are there already.
    pub fn absent_or_identical() -> Self {
        Self::with(Condition::AbsentOrIdentical)
    }

    /// The bytes must have this SHA-256, in lower-case hex.
    #[must_use]
    pub fn sha256(mut self, digest: &str) -> Self {
        self.sha256 = Some(digest.to_owned());
        self
    }

    /// The blob that is there must have this etag; otherwise it fails with
    /// [`PreconditionFailed`](crate::Failure::PreconditionFailed).
    pub fn matches(etag: &str) -> Self {
        Self::with(Condition::Matches(etag.to_owned()))
    }

    /// With a media type, kept with the blob.
    #[must_use]
    pub fn content_type(mut self, media_type: &str) -> Self {
        self.content_type = Some(media_type.to_owned());
        self
    }

    /// With another pair of metadata, kept with the blob: visible ASCII, the name in lower case.
    #[must_use]
    pub fn metadata(mut self, name: &str, value: &str) -> Self {
        self.metadata.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With another tag, kept with the blob. Ten are the most.
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
    /// All of a blob.
    pub fn whole(key: &str) -> Self {
        Self { key: key.to_owned(), part: Part::Whole }
    }

    /// So many bytes of a blob from an offset on.
    pub fn slice(key: &str, offset: u64, length: u64) -> Self {
        Self { key: key.to_owned(), part: Part::Slice((offset, Some(length))) }
    }
}

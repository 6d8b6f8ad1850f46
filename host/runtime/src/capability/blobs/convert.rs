//! Conversions between the types of `blobs` and those of `keepgate_store`. What a plugin passes is
//! checked here; the stores behind trust it.

use keepgate_store::{
    Change, Condition, Entry, Fields, Info, Key, Part, Piece, PutOptions, Stored,
    is_reserved_metadata,
};

use super::{blobs, metadata};
use crate::contract::timestamp;
use keepgate_core::Failure;

impl From<blobs::Part> for Part {
    fn from(part: blobs::Part) -> Self {
        match part {
            blobs::Part::Whole => Self::Whole,
            blobs::Part::Slice((offset, length)) => Self::Slice { offset, length },
            blobs::Part::Suffix(length) => Self::Suffix(length),
        }
    }
}

impl TryFrom<blobs::Piece> for Piece {
    type Error = Failure;

    fn try_from(piece: blobs::Piece) -> Result<Self, Failure> {
        Ok(Self { key: Key::new(piece.key)?, part: piece.part.into() })
    }
}

impl From<blobs::Condition> for Condition {
    fn from(condition: blobs::Condition) -> Self {
        match condition {
            blobs::Condition::Always => Self::Always,
            blobs::Condition::Absent => Self::Absent,
            blobs::Condition::AbsentOrIdentical => Self::AbsentOrIdentical,
            blobs::Condition::Matches(etag) => Self::Matches(etag),
        }
    }
}

/// The etag that a blob must have for `delete` to remove it, if the condition names one.
pub(super) fn must_match(condition: blobs::Condition) -> Result<Option<String>, Failure> {
    match condition {
        blobs::Condition::Always => Ok(None),
        blobs::Condition::Matches(etag) => Ok(Some(etag)),
        blobs::Condition::Absent | blobs::Condition::AbsentOrIdentical => {
            let what = "`delete` takes the conditions `always` and `matches`: an absent blob cannot be deleted";
            Err(Failure::Invalid(what.to_owned()))
        }
    }
}

impl TryFrom<blobs::PutOptions> for PutOptions {
    type Error = Failure;

    fn try_from(options: blobs::PutOptions) -> Result<Self, Failure> {
        let sha256 = options.sha256.as_deref().map(parse_sha256).transpose()?;
        metadata::check(&options).map_err(Failure::Invalid)?;
        Ok(Self {
            condition: options.condition.into(),
            sha256,
            content_type: options.content_type,
            metadata: options.metadata,
            tags: options.tags,
            expires: None,
            observer: None,
        })
    }
}

impl From<Info> for blobs::Info {
    fn from(info: Info) -> Self {
        Self {
            key: info.key.to_string(),
            size: info.size,
            modified: timestamp(info.modified),
            etag: info.etag,
            content_type: info.content_type,
            metadata: visible(info.metadata),
            tags: info.tags,
        }
    }
}

impl From<Stored> for blobs::Stored {
    fn from(stored: Stored) -> Self {
        let change = match stored.change {
            Change::Created => blobs::Change::Created,
            Change::Replaced { size } => blobs::Change::Replaced(size),
            Change::Unchanged => blobs::Change::Unchanged,
        };
        Self { info: stored.info.into(), change }
    }
}

impl From<Entry> for blobs::Entry {
    fn from(entry: Entry) -> Self {
        Self {
            key: entry.key,
            size: entry.size,
            modified: timestamp(entry.modified),
            etag: entry.etag,
            folder: entry.folder,
        }
    }
}

/// Metadata without the gateway's own.
fn visible(mut metadata: Fields) -> Fields {
    metadata.retain(|(name, _)| !is_reserved_metadata(name));
    metadata
}

pub(in crate::capability) fn parse_sha256(text: &str) -> Result<[u8; 32], Failure> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest)
        .map_err(|_| Failure::Invalid("a SHA-256 is 64 hexadecimal digits".to_owned()))?;
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_blob_cannot_be_deleted() {
        use blobs::Condition as C;
        assert_eq!(must_match(C::Always), Ok(None));
        assert_eq!(must_match(C::Matches("1-2".to_owned())), Ok(Some("1-2".to_owned())));
        for condition in [C::Absent, C::AbsentOrIdentical] {
            let outcome = must_match(condition);
            assert!(matches!(outcome, Err(Failure::Invalid(_))), "{outcome:?}");
        }
    }

    #[test]
    fn plugins_do_not_see_the_gateways_own_metadata() {
        let fields: Fields = [("keepgate-owner", "ann"), ("x", "y")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(visible(fields), [("x".to_owned(), "y".to_owned())]);
    }
}

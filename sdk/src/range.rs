//! The `Range` header of RFC 9110, 14.2.

use crate::{Download, Failure, Part, Store};

/// What a `Range` header asks for.
#[derive(Clone, Copy, Debug)]
pub enum Range {
    /// The whole blob: there is no header, or it names several ranges, which a server may ignore.
    Whole,
    /// One range.
    Part(Part),
    /// A malformed range.
    Malformed,
}

impl Range {
    /// Parses the value of the header. Units other than bytes count as malformed; a server may also ignore
    /// them.
    pub fn parse(value: Option<&str>) -> Self {
        let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else {
            return Self::Whole;
        };
        let Some(ranges) = value.strip_prefix("bytes=") else {
            return Self::Malformed;
        };
        let mut parts = ranges.split(',').map(str::trim).filter(|part| !part.is_empty());
        let (Some(first), second) = (parts.next(), parts.next()) else {
            return Self::Malformed;
        };
        match parse_part(first) {
            None => Self::Malformed,
            Some(_) if second.is_some() => Self::Whole,
            Some(part) => Self::Part(part),
        }
    }
}

impl Store {
    /// Opens the part of a blob that a `Range` header asks for, and says which part it is, for
    /// [`Reply::download`](crate::Reply::download). One call of the store: for blobs that never change under
    /// their key, named by a hash for example. For all others there is [`BlobAnswer`](crate::BlobAnswer).
    ///
    /// An empty blob is the answer to every range, since it has no byte that a range could name. A malformed
    /// range is refused with a 416.
    pub fn get_range(&self, key: &str, range: Range) -> Result<(Download, Part), Failure> {
        let part = match range {
            Range::Whole => Part::Whole,
            Range::Part(part) => part,
            Range::Malformed => {
                return Err(Failure::refused(416, "", "the range makes no sense"));
            }
        };
        match self.get(key, part) {
            Err(Failure::OutOfRange(0)) => Ok((self.get(key, Part::Whole)?, Part::Whole)),
            found => Ok((found?, part)),
        }
    }
}

/// The value of `Content-Range` for a part. It is never empty, because the store refuses a part that has no
/// byte of the blob.
pub(crate) fn content_range(found: &Download) -> String {
    let last = found.offset.saturating_add(found.length).saturating_sub(1);
    format!("bytes {}-{last}/{}", found.offset, found.info.size)
}

fn parse_part(text: &str) -> Option<Part> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    match (first, last) {
        ("", "") => None,
        ("", suffix) => Some(Part::Suffix(number(suffix)?)),
        (first, "") => Some(Part::Slice((number(first)?, None))),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            let length = last.checked_sub(first)?.checked_add(1)?;
            Some(Part::Slice((first, Some(length))))
        }
    }
}

/// Digits only, because `u64::from_str` would accept a plus sign. A number that is too large becomes the
/// largest.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX).min(u64::MAX - 1))
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range() {
        let part = |text: &str| match Range::parse(Some(text)) {
            Range::Part(part) => part,
            other => panic!("{text}: {other:?}"),
        };
        assert!(matches!(part("bytes=0-"), Part::Slice((0, None))));
        assert!(matches!(part("bytes=5-9"), Part::Slice((5, Some(5)))));
        assert!(matches!(part("bytes= 5-9 "), Part::Slice((5, Some(5)))));
        assert!(matches!(part("bytes=-7"), Part::Suffix(7)));
        for last in ["18446744073709551614", "18446744073709551615", "99999999999999999999999"] {
            let text = format!("bytes=0-{last}");
            assert!(matches!(part(&text), Part::Slice((0, Some(_)))), "{text}");
        }
    }

    #[test]
    fn no_range_and_nonsense() {
        assert!(matches!(Range::parse(None), Range::Whole));
        assert!(matches!(Range::parse(Some("")), Range::Whole));
        assert!(matches!(Range::parse(Some("bytes=0-1,4-5")), Range::Whole));
        for bad in
            ["bytes=5-2", "bytes=x-y", "bytes=5", "bytes=", "bytes=-", "items=0-1", "bytes=+1-2"]
        {
            assert!(matches!(Range::parse(Some(bad)), Range::Malformed), "{bad}");
        }
    }
}

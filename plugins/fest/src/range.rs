//! Ranges of bytes: `Content-Range` of requests, and which of a file's bytes are there.

use std::collections::BTreeMap;

use crate::problem::Problem;

/// `Content-Range` of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The whole file's; `None` for `*`.
    pub(crate) total: Option<u64>,
}

impl ContentRange {
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = || {
            let why = format!("Content-Range {text:?}: expected such as \"bytes 0-499/1234\"");
            Problem::new(400, "bad_range", why)
        };
        let read = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if plain { text.parse::<u64>().ok() } else { None }
        };
        let (unit, rest) = text.trim().split_once(' ').ok_or_else(wrong)?;
        let (range, total) = rest.trim().split_once('/').ok_or_else(wrong)?;
        let (first, last) = range.split_once('-').ok_or_else(wrong)?;
        let total = match total {
            "*" => None,
            total => Some(read(total).ok_or_else(wrong)?),
        };
        let (first, last) = (read(first).ok_or_else(wrong)?, read(last).ok_or_else(wrong)?);
        let fits = first <= last && total.is_none_or(|total| last < total);
        match unit.eq_ignore_ascii_case("bytes") && fits && last < u64::MAX {
            true => Ok(Self { first, last, total }),
            false => Err(wrong()),
        }
    }

    pub(crate) fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// Bytes of a file that are in a blob, in the order in which they were uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) key: String,
    /// Where the blob begins in the file.
    pub(crate) first: u64,
    pub(crate) size: u64,
}

/// A part of a blob that is a part of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) key: String,
    /// Where it begins in the file, and where in the blob.
    pub(crate) first: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Which bytes of a file come from which blob: of bytes that were uploaded more than once, the last ones count.
pub(crate) fn spans(segments: &[Segment], total: u64) -> Vec<Span> {
    let mut spans: BTreeMap<u64, Span> = BTreeMap::new();
    for segment in segments {
        let (from, to) = (segment.first, segment.first.saturating_add(segment.size).min(total));
        if from >= to {
            continue;
        }
        let touched: Vec<u64> = spans
            .range(..to)
            .rev()
            .take_while(|(_, span)| span.first + span.length > from)
            .map(|(first, _)| *first)
            .collect();
        for first in touched {
            let Some(old) = spans.remove(&first) else { continue };
            let end = old.first + old.length;
            if old.first < from {
                let length = from - old.first;
                spans.insert(old.first, Span { length, ..old.clone() });
            }
            if end > to {
                let rest = Span {
                    first: to,
                    offset: old.offset + (to - old.first),
                    length: end - to,
                    ..old
                };
                spans.insert(to, rest);
            }
        }
        let key = segment.key.clone();
        spans.insert(from, Span { key, first: from, offset: 0, length: to - from });
    }
    spans.into_values().collect()
}

/// The ranges that are there, first and last byte of each, as few as possible.
pub(crate) fn covered(spans: &[Span]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for span in spans {
        let last = span.first + span.length - 1;
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == span.first => *end = last,
            _ => ranges.push((span.first, last)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        let parsed = |text: &str| ContentRange::parse(text).ok();
        let range = |first, last, total| Some(ContentRange { first, last, total });
        assert_eq!(parsed("bytes 21010-47021/47022"), range(21010, 47021, Some(47022)));
        assert_eq!(parsed("Bytes 0-0/*"), range(0, 0, None));
        for text in [
            "",
            "bytes",
            "bytes 1-0/2",
            "bytes 0-2/2",
            "items 0-1/2",
            "bytes 0-/2",
            "bytes -1/2",
            "bytes 0-1",
            "bytes 0-1/",
            "bytes +0-1/2",
            "bytes 0-1/2/3",
            "bytes */2",
            "bytes 0-18446744073709551615/*",
            "bytes 0-1,3-4/9",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    proptest! {
        /// The spans are what writing the segments one after another would leave.
        #[test]
        fn spans_are_what_was_written_last(
            written in prop::collection::vec((0..20_u64, 0..9_u64), 0..12),
            total in 1..25_u64,
        ) {
            let segments: Vec<_> = written.iter().enumerate().map(|(number, (first, size))| {
                Segment { key: number.to_string(), first: *first, size: *size }
            }).collect();
            let mut bytes: Vec<Option<(String, u64)>> = vec![None; usize::try_from(total).unwrap()];
            for segment in &segments {
                for offset in 0..segment.size {
                    let at = usize::try_from(segment.first + offset).unwrap();
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = Some((segment.key.clone(), offset));
                    }
                }
            }
            let spans = spans(&segments, total);
            let mut found = vec![None; bytes.len()];
            for span in &spans {
                for offset in 0..span.length {
                    let at = usize::try_from(span.first + offset).unwrap();
                    prop_assert!(found[at].is_none());
                    found[at] = Some((span.key.clone(), span.offset + offset));
                }
            }
            prop_assert_eq!(&found, &bytes);
            let covered = covered(&spans);
            for (at, byte) in (0..).zip(&bytes) {
                let is_covered = covered.iter().any(|(first, last)| (*first..=*last).contains(&at));
                prop_assert_eq!(is_covered, byte.is_some());
            }
            for pair in covered.windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0, "they could be one");
            }
        }
    }
}

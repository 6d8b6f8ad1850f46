//! What a plugin may store with a blob: only what both a disk and a bucket can store, so that a plugin
//! tested on one works on the other. The limits are those of S3 and are in the contract.

use keepgate_store::{Fields, is_reserved_metadata};

use super::blobs;
use crate::guest_log::shorten;

/// The longest content type, in bytes.
const MAX_CONTENT_TYPE: usize = 256;
/// Names and values of metadata in total, in bytes: 2 KiB in a bucket, less the gateway's own.
const MAX_METADATA: usize = 1792;
/// The most tags, ...
const MAX_TAGS: usize = 10;
/// ... and the most characters of their names ...
const MAX_TAG_NAME: usize = 128;
/// ... and values.
const MAX_TAG_VALUE: usize = 256;
/// How much of a bad name a message shows.
const SHOWN: usize = 200;

/// Checks what is to be stored with a blob.
pub(super) fn check(options: &blobs::PutOptions) -> Result<(), String> {
    if let Some(value) = &options.content_type {
        check_content_type(value)?;
    }
    check_metadata(&options.metadata)?;
    check_tags(&options.tags)
}

fn check_content_type(value: &str) -> Result<(), String> {
    if value.len() > MAX_CONTENT_TYPE || value.is_empty() || !is_header_value(value) {
        let value = shorten(value, SHOWN);
        return Err(format!(
            "the content type {value:?} is not 1 to {MAX_CONTENT_TYPE} visible ASCII characters"
        ));
    }
    Ok(())
}

fn check_metadata(metadata: &Fields) -> Result<(), String> {
    let size: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_METADATA {
        return Err(format!("the metadata has {size} bytes; at most {MAX_METADATA} are allowed"));
    }
    for (name, value) in metadata {
        let shown = shorten(name, SHOWN);
        if is_reserved_metadata(name) {
            return Err(format!(
                "the metadata name {shown:?} is reserved for the gateway; choose another"
            ));
        }
        if name.is_empty() || !name.bytes().all(is_name_byte) {
            return Err(format!(
                "the metadata name {shown:?} may have only lower-case letters, digits and -_. like the \
                 name of a header"
            ));
        }
        if !is_header_value(value) {
            return Err(format!(
                "the value of the metadata {shown:?} may have only visible ASCII, without spaces at its \
                 ends"
            ));
        }
    }
    once("the metadata", metadata)
}

fn check_tags(tags: &Fields) -> Result<(), String> {
    if tags.len() > MAX_TAGS {
        return Err(format!("{} tags; at most {MAX_TAGS} are allowed", tags.len()));
    }
    for (name, value) in tags {
        let shown = shorten(name, SHOWN);
        let length = name.chars().count();
        if length == 0 || length > MAX_TAG_NAME || value.chars().count() > MAX_TAG_VALUE {
            return Err(format!(
                "the tag {shown:?} is not 1 to {MAX_TAG_NAME} characters with a value of \
                 {MAX_TAG_VALUE} at most"
            ));
        }
        if !name.chars().chain(value.chars()).all(is_tag_char) {
            return Err(format!(
                "the tag {shown:?} and its value may have only letters, digits, spaces and \
                 + - = . _ : / @"
            ));
        }
    }
    once("the tag", tags)
}

fn once(what: &str, fields: &Fields) -> Result<(), String> {
    let mut names: Vec<_> = fields.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    let twice = names.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(one),
        _ => None,
    });
    twice.map_or(Ok(()), |name| Err(format!("{what} {:?} occurs twice", shorten(name, SHOWN))))
}

/// RFC 9110, 5.6.2, without what case folding would change and what HTTP clients of buckets reject.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)
}

fn is_header_value(value: &str) -> bool {
    value.trim() == value && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

fn is_tag_char(character: char) -> bool {
    character.is_alphanumeric() || " +-=._:/@".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(content_type: &str, metadata: &[(&str, &str)], tags: &[(&str, &str)]) -> bool {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let checked = check(&blobs::PutOptions {
            condition: blobs::Condition::Always,
            sha256: None,
            content_type: Some(content_type.to_owned()),
            metadata: pairs(metadata),
            tags: pairs(tags),
        });
        if let Err(text) = &checked {
            assert!(text.len() < 500, "{text}");
        }
        checked.is_ok()
    }

    #[test]
    fn what_every_store_can_keep_is_accepted() {
        assert!(options("text/plain; charset=utf-8", &[], &[]));
        assert!(options("a/b", &[("sha-256", "00ff"), ("a_b.c", ""), ("x", "two words")], &[]));
        assert!(options("a/b", &[("x", &"v".repeat(MAX_METADATA - 1))], &[]));
        let long = ("n".repeat(MAX_TAG_NAME), "ü".repeat(MAX_TAG_VALUE));
        assert!(options("a/b", &[], &[(&long.0, &long.1), ("a b+-=._:/@", "")]));
        let names: Vec<_> = (0..MAX_TAGS).map(|index| index.to_string()).collect();
        let ten: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
        assert!(options("a/b", &[], &ten));
    }

    #[test]
    fn what_some_store_cannot_keep_is_refused() {
        for bad in ["", " a/b", "a/b\n", "\u{fc}/b", &"x".repeat(MAX_CONTENT_TYPE + 1)] {
            assert!(!options(bad, &[], &[]), "{bad}");
        }
        for name in ["", "Upper", "a b", "a:b", "\u{fc}", "a\n", "keepgate-x"] {
            assert!(!options("a/b", &[(name, "x")], &[]), "{name}");
        }
        for value in [" x", "x ", "\u{fc}", "a\nb", "a\tb"] {
            assert!(!options("a/b", &[("x", value)], &[]), "{value:?}");
        }
        assert!(!options("a/b", &[("x", &"v".repeat(MAX_METADATA))], &[]));
        assert!(!options("a/b", &[("x", "1"), ("y", "1"), ("x", "2")], &[]));
        let long = "n".repeat(MAX_TAG_NAME + 1);
        let much = "v".repeat(MAX_TAG_VALUE + 1);
        for (name, value) in [("", "x"), (&*long, "x"), ("x", &*much), ("x", "a&b"), ("x?", "y")] {
            assert!(!options("a/b", &[], &[(name, value)]), "{name} {value}");
        }
        assert!(!options("a/b", &[], &[("x", "1"), ("x", "1")]));
        let names: Vec<_> = (0..=MAX_TAGS).map(|index| index.to_string()).collect();
        let eleven: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
        assert!(!options("a/b", &[], &eleven));
    }
}

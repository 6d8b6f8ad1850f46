//! The contract's limits for what is stored with a blob. They are the same in the gateway, so what passes a
//! plugin's tests is not refused there.

use crate::PutOptions;

type Pairs = [(String, String)];

/// The longest content type, in bytes.
const MAX_CONTENT_TYPE: usize = 256;
/// The maximum of all names and values of metadata, in bytes: 2 KiB in a bucket, minus the gateway's own.
const MAX_METADATA: usize = 1792;
/// The most tags.
const MAX_TAGS: usize = 10;
/// The most characters of a tag's name.
const MAX_TAG_NAME: usize = 128;
/// The most characters of a tag's value.
const MAX_TAG_VALUE: usize = 256;

/// Checks what is to be stored with a blob. The error says what is wrong.
pub(super) fn check(options: &PutOptions) -> Result<(), String> {
    if let Some(value) = &options.content_type {
        check_content_type(value)?;
    }
    check_metadata(&options.metadata)?;
    check_tags(&options.tags)
}

fn check_content_type(value: &str) -> Result<(), String> {
    if value.len() > MAX_CONTENT_TYPE || value.is_empty() || !is_header_value(value) {
        return Err(format!(
            "the content type {value:?} is not 1 to {MAX_CONTENT_TYPE} visible ASCII characters"
        ));
    }
    Ok(())
}

fn check_metadata(metadata: &Pairs) -> Result<(), String> {
    let size: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_METADATA {
        return Err(format!("the metadata has {size} bytes, {MAX_METADATA} are the most"));
    }
    for (name, value) in metadata {
        if name.starts_with("keepgate-") {
            return Err(format!("the metadata name {name:?} is the gateway's own; choose another"));
        }
        if name.is_empty() || !name.bytes().all(is_name_byte) {
            return Err(format!(
                "the metadata name {name:?} is not of lower-case letters, digits and -_. as the \
                 name of a header is"
            ));
        }
        if !is_header_value(value) {
            return Err(format!(
                "the value of the metadata {name:?} is not visible ASCII, without blanks at its ends"
            ));
        }
    }
    once("the metadata", metadata)
}

fn check_tags(tags: &Pairs) -> Result<(), String> {
    if tags.len() > MAX_TAGS {
        return Err(format!("{} tags, {MAX_TAGS} are the most", tags.len()));
    }
    for (name, value) in tags {
        let length = name.chars().count();
        if length == 0 || length > MAX_TAG_NAME || value.chars().count() > MAX_TAG_VALUE {
            return Err(format!(
                "the tag {name:?} is not 1 to {MAX_TAG_NAME} characters with a value of \
                 {MAX_TAG_VALUE} at most"
            ));
        }
        if !name.chars().chain(value.chars()).all(is_tag_char) {
            return Err(format!(
                "the tag {name:?} or its value has other characters than letters, digits, blanks \
                 and + - = . _ : / @"
            ));
        }
    }
    once("the tag", tags)
}

fn once(what: &str, fields: &Pairs) -> Result<(), String> {
    let mut names: Vec<_> = fields.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    let twice = names.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(one),
        _ => None,
    });
    twice.map_or(Ok(()), |name| Err(format!("{what} {name:?} is there twice")))
}

/// RFC 9110, 5.6.2, without letters whose case could change and characters that clients of buckets mishandle.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)
}

fn is_header_value(value: &str) -> bool {
    value.trim() == value && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

fn is_tag_char(character: char) -> bool {
    character.is_alphanumeric() || " +-=._:/@".contains(character)
}

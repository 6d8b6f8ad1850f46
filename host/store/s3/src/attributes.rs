//! What is kept with a blob, as S3 keeps it: content type, user metadata, tags.
//!
//! S3 forgets the order of metadata, and takes only ASCII in it, 2 KiB with the names. A field is kept under its own
//! name if it can be, so that other programs can read it, and otherwise, encoded, among the gateway's own:
//!
//! | name | holds |
//! | --- | --- |
//! | `keepgate-token` | a random number that tells this very upload from all others |
//! | `keepgate-sha256` | the SHA-256 of the bytes, if it was known before they were sent |
//! | `keepgate-fields` | fields that metadata cannot hold as they are |
//! | `keepgate-order` | the order of the fields, if it is not that of their names |
//! | `keepgate-tags` | the tags; if they are too long, only their order, and the server is asked for them |
//! | `keepgate-expires` | when the blob expires, in nanoseconds since 1970 |
//! | `keepgate-type` | that the content type was given, though it is the one that stands for none |

use std::collections::HashMap;
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use form_urlencoded::{Serializer, parse};
use keepgate_store::{Fields, PutOptions, Result, StoreError, expiry};

use crate::probe::Capabilities;
use crate::remote::Kept;

const TOKEN: &str = "keepgate-token";
const SHA256: &str = "keepgate-sha256";
const FIELDS: &str = "keepgate-fields";
const ORDER: &str = "keepgate-order";
const TAGS: &str = "keepgate-tags";
const TYPE: &str = "keepgate-type";
const EXPIRES: &str = "keepgate-expires";
const OWN: [&str; 7] = [TOKEN, SHA256, FIELDS, ORDER, TAGS, TYPE, EXPIRES];

/// The content type that stands for none: what S3 says of objects that were stored without one.
const NO_TYPE: &str = "binary/octet-stream";
/// Bytes of names and values that S3 takes.
const LIMIT: usize = 2048;

/// A random number for one upload.
pub(crate) fn token() -> Result<String> {
    let mut random = [0; 12];
    getrandom::fill(&mut random)
        .map_err(|error| StoreError::Unavailable(format!("no randomness: {error}")))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(random))
}

/// What to keep with a blob. `in_parts` says whether it is sent in parts, whose tags some servers lose.
pub(crate) fn encode(
    options: &PutOptions,
    token: &str,
    sha256: Option<[u8; 32]>,
    capabilities: &Capabilities,
    in_parts: bool,
) -> Result<Kept> {
    let mut kept = encode_fields(&options.metadata);
    kept.insert(TOKEN.to_owned(), token.to_owned());
    if let Some(sha256) = sha256 {
        kept.insert(SHA256.to_owned(), BASE64_URL_SAFE_NO_PAD.encode(sha256));
    }
    if let Some(expires) = options.expires {
        kept.insert(EXPIRES.to_owned(), expiry::nanoseconds(expires).to_string());
    }
    let content_type = match options.content_type.as_deref() {
        None => NO_TYPE.to_owned(),
        Some(given) => {
            if given.is_empty() || !is_visible(given) {
                return Err(StoreError::Invalid(format!("{given:?} is no content type")));
            }
            if given == NO_TYPE {
                kept.insert(TYPE.to_owned(), "given".to_owned());
            }
            given.to_owned()
        }
    };
    let servers = if in_parts { capabilities.part_tags } else { capabilities.tags };
    let mut tagging = None;
    if !options.tags.is_empty() {
        let whole = Serializer::new(String::new()).extend_pairs(&options.tags).finish();
        tagging = (servers && options.tags.len() <= 10).then(|| whole.clone());
        if size(&kept) + TAGS.len() + whole.len() <= LIMIT {
            kept.insert(TAGS.to_owned(), whole);
        } else if tagging.is_some() {
            let mut sorted: Vec<_> = options.tags.iter().collect();
            sorted.sort();
            let order = options.tags.iter().filter_map(|tag| position(&sorted, &tag));
            kept.insert(TAGS.to_owned(), order.collect::<Vec<_>>().join("."));
        } else {
            return Err(StoreError::Unsupported(
                "the store's server keeps no tags, and these are too long for metadata".to_owned(),
            ));
        }
    }
    if size(&kept) > LIMIT {
        return Err(StoreError::Invalid(format!(
            "metadata of {} bytes with the gateway's own; a bucket takes {LIMIT}",
            size(&kept)
        )));
    }
    Ok(Kept { content_type, metadata: kept, tagging, retention: None })
}

fn position<T: PartialEq>(all: &[T], one: &T) -> Option<String> {
    all.iter().position(|other| other == one).map(|index| index.to_string())
}

fn size(kept: &HashMap<String, String>) -> usize {
    kept.iter().map(|(name, value)| name.len() + value.len()).sum()
}

fn encode_fields(fields: &Fields) -> HashMap<String, String> {
    let mut kept = HashMap::new();
    let mut packed = Serializer::new(String::new());
    let (mut names, mut others) = (Vec::new(), Vec::new());
    for (name, value) in fields {
        let taken = kept.contains_key(name) || OWN.contains(&name.as_str());
        if taken || !is_name(name) || value.is_empty() || !is_plain(value) {
            packed.append_pair(name, value);
            others.push((name, value));
        } else {
            kept.insert(name.clone(), value.clone());
            names.push((name, value));
        }
    }
    // The order in which they are found again.
    names.sort();
    let found: Vec<_> = names.into_iter().chain(others.iter().copied()).collect();
    let given: Vec<_> = fields.iter().map(|(name, value)| (name, value)).collect();
    if found != given {
        let order = given.iter().filter_map(|field| position(&found, field));
        kept.insert(ORDER.to_owned(), order.collect::<Vec<_>>().join("."));
    }
    if !others.is_empty() {
        kept.insert(FIELDS.to_owned(), packed.finish());
    }
    kept
}

/// Whether the name of a field can be a part of a header's name, whatever its letters become on the way.
fn is_name(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    !name.is_empty() && name.bytes().all(plain)
}

fn is_visible(value: &str) -> bool {
    value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Whether a header keeps this value as it is. Some servers join repeated blanks, as signatures do.
fn is_plain(value: &str) -> bool {
    is_visible(value) && value.trim() == value && !value.contains("  ")
}

/// Which upload an object comes from.
pub(crate) fn token_of(kept: &HashMap<String, String>) -> Option<&str> {
    kept.get(TOKEN).map(String::as_str)
}

/// The SHA-256 of an object, if it was known when it was stored.
pub(crate) fn sha256_of(kept: &HashMap<String, String>) -> Option<[u8; 32]> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(kept.get(SHA256)?).ok()?;
    bytes.try_into().ok()
}

/// When an object expires, if it does.
pub(crate) fn expires_of(kept: &HashMap<String, String>) -> Option<SystemTime> {
    kept.get(EXPIRES)?.parse().ok().map(expiry::time)
}

/// The content type that was given, if one was.
pub(crate) fn content_type(found: Option<&str>, kept: &HashMap<String, String>) -> Option<String> {
    let given = |found: &&str| *found != NO_TYPE || kept.contains_key(TYPE);
    found.filter(given).map(str::to_owned)
}

/// The fields as they were given.
pub(crate) fn fields(kept: &HashMap<String, String>) -> Fields {
    let mut names: Fields = kept
        .iter()
        .filter(|(name, _)| !OWN.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    names.sort();
    names.extend(kept.get(FIELDS).into_iter().flat_map(|packed| pairs(packed)));
    ordered(names, kept.get(ORDER).map(String::as_str))
}

/// Tags, or how to put those of the server in order.
pub(crate) enum Tags {
    Known(Fields),
    Ask { order: String },
}

pub(crate) fn tags(kept: &HashMap<String, String>) -> Tags {
    match kept.get(TAGS) {
        None => Tags::Known(Vec::new()),
        Some(order) if order.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            Tags::Ask { order: order.clone() }
        }
        Some(packed) => Tags::Known(pairs(packed)),
    }
}

fn pairs(packed: &str) -> Fields {
    parse(packed.as_bytes()).into_owned().collect()
}

/// Puts what was found into the order in which it was given. One that does not fit is ignored.
pub(crate) fn ordered(found: Fields, order: Option<&str>) -> Fields {
    let Some(order) = order else {
        return found;
    };
    let places: Vec<usize> = order.split('.').filter_map(|place| place.parse().ok()).collect();
    let given: Fields = places.iter().filter_map(|place| found.get(*place).cloned()).collect();
    if given.len() == found.len() { given } else { found }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_is_kept_comes_back_in_order() {
        let many = vec![
            field("z", "1"),
            field("a", "two words"),
            field("é", "ü"),
            field("empty", ""),
            field("a", "again"),
            field("keepgate-order", "mine"),
            field("blank", " at an end "),
            field("keepgate-owner", "alice"),
        ];
        for fields_given in [vec![], vec![field("a", "1"), field("b", "2")], many] {
            let given = PutOptions {
                metadata: fields_given.clone(),
                tags: vec![field("kind", ""), field("a", "x=y&z")],
                expires: Some(expiry::time(1_234_567_890)),
                ..PutOptions::default()
            };
            let kept = encode(&given, "token", None, &Capabilities::default(), false).unwrap();
            assert!(kept.metadata.values().all(|value| is_plain(value)), "{kept:?}");
            assert_eq!(fields(&kept.metadata), fields_given);
            assert!(matches!(tags(&kept.metadata), Tags::Known(tags) if tags == given.tags));
            assert_eq!(token_of(&kept.metadata), Some("token"));
            assert_eq!(expires_of(&kept.metadata), given.expires);
            assert_eq!(content_type(Some(&kept.content_type), &kept.metadata), None);
        }
    }

    #[test]
    fn a_plain_field_is_kept_as_it_is() {
        let options =
            PutOptions { metadata: vec![field("name", "value")], ..PutOptions::default() };
        let kept = encode(&options, "t", None, &Capabilities::default(), false).unwrap();
        assert_eq!(kept.metadata.get("name").map(String::as_str), Some("value"));
        assert_eq!(kept.metadata.len(), 2);
    }

    #[test]
    fn every_content_type_comes_back() {
        for given in [None, Some("a/b"), Some(NO_TYPE), Some("application/octet-stream")] {
            let content_type_given = given.map(str::to_owned);
            let options =
                PutOptions { content_type: content_type_given.clone(), ..PutOptions::default() };
            let kept = encode(&options, "t", None, &Capabilities::default(), false).unwrap();
            assert_eq!(content_type(Some(&kept.content_type), &kept.metadata), content_type_given);
        }
    }

    #[test]
    fn tags_that_are_too_long_are_left_to_the_server() {
        let tags_given: Fields = (0..10)
            .map(|tag| field(&format!("{}{}", 9 - tag, "n".repeat(120)), &"v".repeat(250)))
            .collect();
        let options = PutOptions { tags: tags_given.clone(), ..PutOptions::default() };
        let without = Capabilities::default();
        let refused = encode(&options, "t", None, &without, false);
        assert!(matches!(refused, Err(StoreError::Unsupported(_))), "{refused:?}");
        let with = Capabilities { tags: true, ..without };
        let kept = encode(&options, "t", None, &with, false).unwrap();
        let Tags::Ask { order } = tags(&kept.metadata) else { panic!("{kept:?}") };
        let mut found = tags_given.clone();
        found.sort();
        assert_eq!(ordered(found, Some(&order)), tags_given);
        assert!(kept.tagging.is_some());
    }
}

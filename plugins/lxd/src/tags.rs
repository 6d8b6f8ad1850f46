//! Tags of backups: `k=v&k2=v2`, each part percent-encoded, as S3's own header has it.

use keepgate_sdk::{Failure, Request};

/// S3's limits.
const MOST: usize = 10;
const LONGEST_NAME: usize = 128;
const LONGEST_VALUE: usize = 256;

/// The tags of a request: the parameter `tags` or the header `x-amz-tagging`. Both may be there if they say the same.
pub(crate) fn of(request: &Request) -> Result<Vec<(String, String)>, Failure> {
    let parameter = request.query("tags").map(|text| parse("tags", text)).transpose()?;
    let header = request.header("x-amz-tagging");
    let header = header.map(|text| parse("x-amz-tagging", text)).transpose()?;
    match (parameter, header) {
        (Some(parameter), Some(header)) if sorted(&parameter) != sorted(&header) => Err(
            Failure::Invalid("tags and x-amz-tagging are different; send one of them".to_owned()),
        ),
        (Some(tags), _) | (None, Some(tags)) => Ok(tags),
        (None, None) => Ok(Vec::new()),
    }
}

fn sorted(tags: &[(String, String)]) -> Vec<&(String, String)> {
    let mut tags: Vec<_> = tags.iter().collect();
    tags.sort();
    tags
}

fn parse(what: &str, text: &str) -> Result<Vec<(String, String)>, Failure> {
    let invalid = |why: String| Failure::Invalid(format!("{what}: {why}"));
    let tags: Vec<(String, String)> =
        form_urlencoded::parse(text.as_bytes()).into_owned().collect();
    if tags.len() > MOST {
        return Err(invalid(format!("{} tags; at most {MOST} are allowed", tags.len())));
    }
    for (index, (name, value)) in tags.iter().enumerate() {
        if !(1..=LONGEST_NAME).contains(&name.chars().count()) {
            return Err(invalid(format!(
                "the name {name:?}: 1 to {LONGEST_NAME} characters are allowed"
            )));
        }
        if value.chars().count() > LONGEST_VALUE {
            return Err(invalid(format!(
                "the value of {name:?}: at most {LONGEST_VALUE} characters are allowed"
            )));
        }
        if let Some(bad) = name.chars().chain(value.chars()).find(|c| !is_allowed(*c)) {
            return Err(invalid(format!(
                "{name:?} contains {bad:?}; letters, digits, blanks and + - = . _ : / @ are allowed"
            )));
        }
        if tags.iter().take(index).any(|(earlier, _)| earlier == name) {
            return Err(invalid(format!("{name:?} is there twice")));
        }
    }
    Ok(tags)
}

fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || " +-=._:/@".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_as_s3_reads_them() {
        let tags = parse("tags", "os=Ubuntu&version=20.04&empty=&note=a%20b+c%2Bd").unwrap();
        let expected = [("os", "Ubuntu"), ("version", "20.04"), ("empty", ""), ("note", "a b c+d")];
        assert_eq!(tags, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(parse("tags", "").unwrap().is_empty());
        let eleven: Vec<_> = (0..11).map(|n| format!("k{n}=v")).collect();
        for text in ["=v", "a=1&a=2", "a=<", "a&%00=1", &eleven.join("&"), &"n".repeat(129)] {
            assert!(parse("tags", text).is_err(), "{text:?}");
        }
        assert!(parse("tags", &format!("a={}", "v".repeat(257))).is_err());
    }
}

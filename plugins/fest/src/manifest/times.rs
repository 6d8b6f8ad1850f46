//! Times in ISO 8601, as manifests have them: the offset may be missing, which is UTC, or lack its colon.

use keepgate_sdk::Timestamp;

/// A time; `None` if the text is none, or is before 1970.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (_, clock) = text.split_once(['T', 't', ' '])?;
    let Some(at) = clock.find(['Z', 'z', '+', '-']) else {
        return Timestamp::parse_rfc3339(&format!("{text}Z"));
    };
    let (_, offset) = clock.split_at_checked(at + 1)?;
    if offset.len() == 4 && offset.bytes().all(|byte| byte.is_ascii_digit()) {
        let (rest, minutes) = text.split_at_checked(text.len() - 2)?;
        return Timestamp::parse_rfc3339(&format!("{rest}:{minutes}"));
    }
    Timestamp::parse_rfc3339(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_may_be_missing_or_lack_a_colon() {
        let expected = Timestamp::parse_rfc3339("1985-10-26T21:45:00Z");
        assert!(expected.is_some());
        for text in [
            "1985-10-26T21:45:00",
            "1985-10-26T21:45:00+0000",
            "1985-10-26T21:45:00Z",
            "1985-10-26 21:45:00.000",
            "1985-10-26T22:45:00+01:00",
            "1985-10-26T20:15:00-0130",
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for text in ["", "1985-10-26", "yesterday", "1985-10-26T25:00:00", "1985-10-26T21:45:00+1"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

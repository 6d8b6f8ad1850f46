//! Times in ISO 8601, as manifests have them: with or without dashes and colons, a day alone, and an offset that may be
//! missing, which is UTC, or be short.

use keepgate_sdk::Timestamp;

/// A time; `None` if the text is none, or is before 1970.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (day, clock) = match text.split_once(['T', 't', ' ']) {
        Some((day, clock)) => (day, clock),
        None => (text, "00:00:00"),
    };
    let (clock, offset) = match clock.find(['Z', 'z', '+', '-']) {
        Some(at) => clock.split_at_checked(at)?,
        None => (clock, "Z"),
    };
    let day = separated(day, &[4, 2, 2], '-')?;
    let (clock, fraction) = match clock.find(['.', ',']) {
        Some(at) => clock.split_at_checked(at)?,
        None => (clock, ""),
    };
    let clock = separated(clock, &[2, 2, 2], ':').or_else(|| {
        let minutes = separated(clock, &[2, 2], ':').filter(|_| fraction.is_empty())?;
        Some(format!("{minutes}:00"))
    })?;
    let offset = match offset.split_at_checked(1)? {
        ("Z" | "z", "") => "Z".to_owned(),
        (sign @ ("+" | "-"), offset) => {
            let hours = || separated(offset, &[2], ':').map(|hours| format!("{hours}:00"));
            format!("{sign}{}", separated(offset, &[2, 2], ':').or_else(hours)?)
        }
        _ => return None,
    };
    Timestamp::parse_rfc3339(&format!("{day}T{clock}{}{offset}", fraction.replace(',', ".")))
}

/// Groups of so many digits, with the separator between all of them or none; always with it in the result.
fn separated(text: &str, groups: &[usize], separator: char) -> Option<String> {
    let plain: String = text.chars().filter(|char| *char != separator).collect();
    if plain.len() != groups.iter().sum::<usize>()
        || !plain.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let (mut parts, mut rest) = (Vec::new(), plain.as_str());
    for length in groups {
        let (part, after) = rest.split_at_checked(*length)?;
        parts.push(part);
        rest = after;
    }
    let joined = parts.join(&separator.to_string());
    (text == plain || text == joined).then_some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_programs_write_them() {
        let expected = Timestamp::parse_rfc3339("1985-10-26T21:45:00Z");
        assert!(expected.is_some());
        for text in [
            "1985-10-26T21:45:00",
            "1985-10-26T21:45",
            "1985-10-26T21:45:00+0000",
            "1985-10-26T21:45:00Z",
            "1985-10-26 21:45:00.000",
            "1985-10-26 22:45:00+01",
            "1985-10-26T22:45:00,0+01:00",
            "1985-10-26T20:15:00-0130",
            "19851026T214500Z",
            "19851026T2145+00",
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for (text, same) in
            [("1985-10-26", "1985-10-26T00:00:00Z"), ("19851026", "1985-10-26T00:00:00Z")]
        {
            assert_eq!(parse(text), Timestamp::parse_rfc3339(same), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "1985-1026",
            "1985-10-26T",
            "1985-10-26T25:00:00",
            "1985-10-26T21:4500",
            "1985-10-26T21:45:00+1",
            "1985-10-26T21:45:00Z+1",
            "1985-10-26T21:45:00Zulu",
            "1985-10-26T21:45.5",
            "1985-02-30",
            "1985",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

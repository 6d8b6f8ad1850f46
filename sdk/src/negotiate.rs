//! Which of several media types a client prefers: RFC 9110, 12.5.1.

/// The offered type with the greatest weight, or the first of several that are equal; `None` if the client
/// accepts none of them. Without a header, the client accepts anything.
pub(crate) fn best<'a>(accept: Option<&str>, offered: &[&'a str]) -> Option<&'a str> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
        return offered.first().copied();
    };
    let ranges: Vec<Range<'_>> = accept.split(',').filter_map(Range::parse).collect();
    let mut best: Option<(&str, u32)> = None;
    for media_type in offered {
        let weight = weight(&ranges, media_type);
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((media_type, weight));
        }
    }
    best.map(|(media_type, _)| media_type)
}

/// `application/*;q=0.5`: the types it accepts, and its weight in thousandths.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    weight: u32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let weight = weight.map_or(Some(1000), thousandths)?;
        Some(Self { kind, subtype, weight })
    }

    /// How specifically it matches a type: 0 is not at all, 3 is by name.
    fn precision(&self, kind: &str, subtype: &str) -> u8 {
        let is = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
        match (self.kind, self.subtype) {
            ("*", "*") => 1,
            (own, "*") if is(own, kind) => 2,
            (own, sub) if is(own, kind) && is(sub, subtype) => 3,
            _ => 0,
        }
    }
}

/// The weight of the range that matches a type most specifically.
fn weight(ranges: &[Range<'_>], media_type: &str) -> u32 {
    let bare = media_type.split(';').next().unwrap_or_default();
    let Some((kind, subtype)) = bare.trim().split_once('/') else { return 0 };
    let fitting = ranges.iter().map(|range| (range.precision(kind, subtype), range.weight));
    fitting.filter(|(precision, _)| *precision > 0).max().map_or(0, |(_, weight)| weight)
}

/// `0.25` is 250; `None` if the text is not a weight.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = format!("{fraction:0<3}").parse::<u32>().ok()?;
    let weight = whole.parse::<u32>().ok().filter(|whole| *whole <= 1)? * 1000 + fraction;
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_range_decides_and_then_the_weight() {
        let offered = ["application/json", "text/plain; charset=utf-8", "text/html"];
        for (accept, expected) in [
            (None, Some("application/json")),
            (Some(""), Some("application/json")),
            (Some("*/*"), Some("application/json")),
            (Some("text/*"), Some("text/plain; charset=utf-8")),
            (Some("TEXT/HTML"), Some("text/html")),
            (Some("text/html;q=0.5, text/plain;q=0.8"), Some("text/plain; charset=utf-8")),
            (Some("*/*;q=0.1, application/json;q=0"), Some("text/plain; charset=utf-8")),
            (Some("text/*;q=0.9, text/plain;q=0.2"), Some("text/html")),
            (Some("image/png"), None),
            (Some("application/json;q=0"), None),
            (Some("application/json;q=2"), None),
            (Some("nonsense, text/html"), Some("text/html")),
        ] {
            assert_eq!(best(accept, &offered), expected, "{accept:?}");
        }
    }
}

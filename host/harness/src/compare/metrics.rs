//! Compares metrics in Prometheus' text format with what a case expects.

use std::collections::BTreeMap;

use crate::case::{SeriesRule, Values};

/// How the sum of all series that match a rule differs from the rule: a description, and the actual sum.
pub(crate) fn differs(
    body: &[u8],
    rule: &SeriesRule,
    values: &Values,
) -> Result<Option<(String, String)>, String> {
    let text = String::from_utf8_lossy(body);
    let mut labels = BTreeMap::new();
    for (label, value) in &rule.labels {
        labels.insert(label.clone(), values.fill(value)?);
    }
    let mut sum = 0.0;
    for line in text.lines() {
        let Some((found, value)) = series(line, &rule.name) else { continue };
        let has = |(label, value): (&String, &String)| {
            let wanted = format!("{label}=\"{value}\"");
            found.split(',').any(|found| found.trim() == wanted)
        };
        if labels.iter().all(has) {
            let number = value.split_whitespace().next().unwrap_or_default();
            sum += number.parse::<f64>().map_err(|_| format!("no number in {line:?}"))?;
        }
    }
    let SeriesRule { name, value, .. } = rule;
    if (sum - value).abs() < 0.5 {
        return Ok(None);
    }
    let lines = text.lines().filter(|line| line.starts_with(name.as_str()));
    let got = format!("{sum}: {:?}", lines.collect::<Vec<_>>().join(" "));
    Ok(Some((format!("expected {value} for {name} of {labels:?}, got {got}"), got)))
}

/// The labels and the value on a line, if it belongs to this metric.
fn series<'a>(line: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let rest = line.strip_prefix(name)?;
    match rest.strip_prefix('{') {
        Some(rest) => Some(rest.split_once("} ").unwrap_or(("", ""))),
        None => rest.strip_prefix(' ').map(|value| ("", value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_over_the_labels_that_are_not_named() {
        let text =
            "# TYPE a counter\na{mount=\"/\",repo=\"r\",type=\"data\"} 2\na{repo=\"s\"} 5\nab 7\n";
        let is = |name: &str, labels: &[(&str, &str)], value: f64| {
            let labels = labels.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            let rule = SeriesRule { name: name.to_owned(), labels, value };
            differs(text.as_bytes(), &rule, &Values::default()).unwrap().is_none()
        };
        assert!(is("a", &[("repo", "r")], 2.0) && is("a", &[], 7.0) && is("ab", &[], 7.0));
        assert!(is("c", &[], 0.0) && !is("a", &[("repo", "x")], 2.0));
    }
}

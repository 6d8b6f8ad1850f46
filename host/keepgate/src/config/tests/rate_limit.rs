//! How often clients may use a mount.

use super::*;

/// `MINIMAL` with these lines in `[mount.rate_limit.configs]`.
fn with(lines: &str) -> Result<Config, ConfigError> {
    parse(&format!("{MINIMAL}[mount.rate_limit.configs]\n{lines}"))
}

#[test]
fn a_mount_has_any_number_of_limits() {
    let limits = |config: &Config| config.mount[0].rate_limits(None).unwrap();
    assert!(limits(&parse(MINIMAL).unwrap()).is_none());
    for good in [
        "by = \"principal\"\nrequests = 120\nper = \"1m\"",
        "by = \"address\"\nrequests = 1\nper = \"1s\"\nburst = 1000000\ncount = \"failed\"",
        "by = \"address\"\nrequests = 1000000\nper = \"24h\"\nburst = 1\ncount = \"all\"\n\
         methods = [\"GET\", \"HEAD\"]\npaths = [\"/\", \"/engines/config/*\", \"/**/locks/{a,b}\"]\n\
         [mount.rate_limit.\"an other\"]\nby = \"address\"\nrequests = 20\nper = \"1m\"",
    ] {
        assert!(limits(&with(good).unwrap()).is_some(), "{good}");
    }
}

#[test]
fn what_makes_no_sense_is_rejected_at_its_place() {
    let good = "by = \"address\"\nrequests = 20\nper = \"1m\"\n";
    let about = "mount \"/\": rate_limit.configs: ";
    for (from, to, place, expected) in [
        (
            "requests = 20",
            "requests = 0",
            ":17:12: ",
            "requests: expected a number from 1 to 1000000, found 0",
        ),
        (
            "\"1m\"",
            "\"100ms\"",
            ":18:7: ",
            "per: expected a duration from \"1s\" to \"24h\", found 100ms",
        ),
        ("\"1m\"", "\"2days\"", ":18:7: ", "per: expected a duration from"),
        ("\"1m\"", "\"1m\"\nburst = 0", ":19:9: ", "burst: expected a number from 1 to"),
        ("\"1m\"", "\"1m\"\nmethods = []", ":19:11: ", "methods: no method is listed"),
        (
            "\"1m\"",
            "\"1m\"\nmethods = [\"GET\", \"get\"]",
            ":19:19: ",
            "methods: expected a method in upper case",
        ),
        ("\"1m\"", "\"1m\"\npaths = []", ":19:9: ", "paths: no path is listed"),
        (
            "\"1m\"",
            "\"1m\"\npaths = [\"/a\", \"a/*\"]",
            ":19:16: ",
            "paths: pattern \"a/*\": write a path below",
        ),
        ("\"1m\"", "\"1m\"\npaths = [\"/{a\"]", ":19:10: ", "paths: pattern \"/{a\": "),
    ] {
        assert!(good.contains(from));
        let said = with(&good.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(said.contains(&format!("{place}{about}{expected}")), "{to}: {said}");
    }
    for (from, to, expected) in [
        ("\"address\"", "\"user\"", "expected `principal` or `address`"),
        ("requests = 20\n", "", "missing field `requests`"),
        ("per = \"1m\"\n", "", "missing field `per`"),
        ("by = \"address\"\n", "", "missing field `by`"),
        ("requests = 20", "requests = -1", "mount.rate_limit.configs.requests: "),
        ("\"1m\"", "\"soon\"", "mount.rate_limit.configs.per: "),
        ("\"1m\"", "\"1m\"\ncount = \"none\"", "expected `all` or `failed`"),
        ("\"1m\"", "\"1m\"\nbursts = 3", "unknown field `bursts`"),
    ] {
        let said = with(&good.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(said.contains(expected), "{to}: {said}");
    }
}

#[test]
fn every_problem_of_a_limit_is_reported() {
    let said = with("by = \"address\"\nrequests = 0\nper = \"2days\"\nmethods = [\"a\", \"b\"]\n");
    let said = said.unwrap_err().to_string();
    assert_eq!(said.lines().count(), 4, "{said}");
}

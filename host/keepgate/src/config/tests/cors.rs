//! Which origins may use a mount from a browser.

use super::*;

/// `MINIMAL` with this value of `cors`.
fn with(cors: &str) -> Result<Config, ConfigError> {
    let auth = "auth = [\"users\"]\n";
    assert!(MINIMAL.contains(auth));
    parse(&MINIMAL.replacen(auth, &format!("{auth}cors = {cors}\n"), 1))
}

#[test]
fn a_mount_allows_listed_origins_or_any_or_none() {
    let cors = |config: Config| config.mount[0].cors().unwrap();
    assert!(cors(parse(MINIMAL).unwrap()).is_none());
    for good in [
        r#"["https://app.example.org"]"#,
        r#"["https://app.example.org", "http://localhost:3000", "capacitor://localhost"]"#,
        r#"["*"]"#,
    ] {
        assert!(cors(with(good).unwrap()).is_some(), "{good}");
    }
}

#[test]
fn what_no_browser_sends_is_rejected_with_what_to_write() {
    for (cors, expected) in [
        ("[]", "14:8: mount \"/\": cors: no origin is listed; list origins such as"),
        (
            r#"["app.example.org"]"#,
            "14:9: mount \"/\": cors: expected an origin such as \"https://app.example.org\"",
        ),
        (
            r#"["https://app.example.org/"]"#,
            "14:9: mount \"/\": cors: \"https://app.example.org/\" never matches, because browsers send this \
             origin as \"https://app.example.org\"; write that",
        ),
        (
            r#"["https://*.example.org"]"#,
            "14:9: mount \"/\": cors: \"https://*.example.org\" is a pattern, which is not supported; list each",
        ),
        (
            r#"["*", "https://app.example.org"]"#,
            "14:8: mount \"/\": cors: \"*\" allows any origin; remove it or the others",
        ),
        (r#""https://app.example.org""#, "14:8: mount.cors: invalid type"),
    ] {
        let said = with(cors).unwrap_err().to_string();
        assert!(said.contains(expected), "{cors}: {said}");
    }
}

#[test]
fn each_wrong_origin_is_reported_at_its_place() {
    let said = with(r#"["null", "https://app.example.org", "https://app.example.org:443"]"#);
    let said = said.unwrap_err().to_string();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains(":14:9: ") && lines[0].ends_with("found \"null\""), "{said}");
    assert!(lines[1].contains(":14:44: ") && lines[1].contains("never matches"), "{said}");
}

//! Tokens of an external issuer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use keepgate_auth::bearer::KeySource;

use super::*;

/// `MINIMAL` with these lines in another table for logins.
fn with(lines: &str) -> Result<Config, ConfigError> {
    parse(&MINIMAL.replacen("[store.main]", &format!("[auth.company]\n{lines}\n[store.main]"), 1))
}

fn company(config: &Config) -> &Auth {
    config.auth["company"].get_ref()
}

#[test]
fn an_issuer_and_an_audience_are_enough() {
    let issuer = "issuer = \"https://login.example.org/realms/x\"\naudience = [\"keepgate\"]\n";
    let config = with(issuer).unwrap();
    assert_eq!(company(&config).way(), Some(Way::Bearer));
    let discovered =
        KeySource::Discovery { issuer: "https://login.example.org/realms/x".to_owned(), ca: None };
    assert_eq!(company(&config).key_source(), Some(discovered));
    let rules = company(&config).token_rules().unwrap().unwrap();
    assert_eq!((&*rules.name, rules.leeway), ("sub", Duration::from_secs(60)));
    assert_eq!(rules.audience, ["keepgate"]);

    let source = |lines: &str| company(&with(&format!("{issuer}{lines}")).unwrap()).key_source();
    let ca = Some(PathBuf::from("/etc/keepgate/ca.pem"));
    let url = "https://login.example.org/certs".to_owned();
    assert_eq!(
        source("jwks_url = \"https://login.example.org/certs\"\nca = \"ca.pem\""),
        Some(KeySource::Url { url, ca })
    );
    let file = Path::new("/etc/keepgate/jwks.json").to_owned();
    assert_eq!(source("jwks_file = \"jwks.json\""), Some(KeySource::File(file)));
}

#[test]
fn an_issuer_need_not_be_a_url_if_its_keys_are_known() {
    let lines = "issuer = \"kubernetes/serviceaccount\"\naudience = [\"keepgate\"]\n\
                 jwks_url = \"http://127.0.0.1:8001/openid/v1/jwks\"\n\
                 name = \"/kubernetes.io/serviceaccount/name\"\nclaims = [\"groups\"]\n\
                 require = { \"/kubernetes.io/namespace\" = [\"backup\", \"etcd\"] }\n\
                 leeway = \"5m\"\nalgorithms = [\"RS256\"]";
    let rules = company(&with(lines).unwrap()).token_rules().unwrap().unwrap();
    assert_eq!(rules.name, "/kubernetes.io/serviceaccount/name");
    let namespaces = vec!["backup".to_owned(), "etcd".to_owned()];
    assert_eq!(rules.require, [("/kubernetes.io/namespace".to_owned(), namespaces)]);
    assert_eq!(rules.leeway, Duration::from_secs(300));
}

#[test]
fn what_would_let_in_the_wrong_ones_is_rejected() {
    let whole = "issuer = \"https://login.example.org\"\naudience = [\"keepgate\"]\n";
    for (lines, expected) in [
        ("issuer = \"https://login.example.org\"", ":8:1: [auth.company] audience: list the names"),
        ("issuer = \"https://login.example.org\"\naudience = []", "audience: list the names"),
        ("issuer = \"https://login.example.org\"\naudience = [\"\"]", "audience: list the names"),
        ("issuer = \"\"\naudience = [\"keepgate\"]", ":9:10: [auth.company] issuer: is empty"),
        (
            "issuer = \"http://login.example.org\"\naudience = [\"keepgate\"]",
            ":9:10: [auth.company] issuer: \"http://login.example.org/.well-known/openid-configuration\": expected https://",
        ),
        (
            "issuer = \"company\"\naudience = [\"keepgate\"]",
            "or say where its keys are, by `jwks_url` or `jwks_file`",
        ),
        (
            "@jwks_url = \"http://login.example.org/certs\"",
            ":11:12: [auth.company] jwks_url: \"http://login.example.org/certs\": expected https://",
        ),
        ("@jwks_url = \"certs\"", "jwks_url: \"certs\" is not a URL"),
        ("@jwks_url = \"https://u:p@h/\"", "contains credentials"),
        ("@jwks_url = \"http://127.0.0.1/\"\nca = \"ca.pem\"", "not https://"),
        (
            "@jwks_url = \"https://h/\"\njwks_file = \"jwks.json\"",
            "has both `jwks_url` and `jwks_file`",
        ),
        ("@jwks_file = \"jwks.json\"\nca = \"ca.pem\"", "`ca` is for keys that are fetched"),
        ("@name = \"\"", "name: is empty"),
        (
            "@claims = [\"groups\", \"sub\"]",
            ":11:21: [auth.company] claims: \"sub\" has a meaning of its own",
        ),
        ("@claims = [\"spki-sha256\"]", "has a meaning of its own"),
        ("@require = { groups = [] }", "require: \"groups\" accepts no value"),
        ("@leeway = \"6m\"", ":11:10: [auth.company] leeway: at most 5m"),
        ("@leeway = \"0s\"", "longer than zero"),
        (
            "@algorithms = [\"HS256\"]",
            ":11:14: [auth.company] algorithms: \"HS256\" has one key for signing",
        ),
        ("@algorithms = [\"none\"]", "tokens that nobody signed"),
        ("@algorithms = []", "no token is valid"),
        ("@htpasswd = \"htpasswd\"", "needs either `htpasswd`, or `header`, or `issuer`, or"),
        ("@any_key = true", "needs either `htpasswd`, or `header`, or `issuer`, or"),
        (
            "htpasswd = \"htpasswd\"\naudience = [\"x\"]",
            "`audience` applies only to `issuer`; remove it",
        ),
        (
            "htpasswd = \"htpasswd\"\nrequire = { a = [\"x\"] }",
            "`require` applies only to `issuer`; remove it",
        ),
        ("jwks_url = \"https://h/\"", "`jwks_url` applies only to `issuer`"),
    ] {
        let said = with(&lines.replacen('@', if lines.starts_with('@') { whole } else { "@" }, 1))
            .unwrap_err()
            .to_string();
        assert!(said.contains(expected), "{lines}: {said}");
    }
}

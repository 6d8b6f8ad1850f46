//! Properties of all lists of fingerprints. CONTRIBUTING.md explains how to run many cases.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/certificate/list/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9@._-]{1,8}", r"[\p{L}0-9@._-]{1,8}"]
}

/// A fingerprint, and a way to write it. Few different ones, so that some are listed twice.
fn fingerprint() -> impl Strategy<Value = (Fingerprint, String)> {
    let written = |(seed, colons, upper, prefix): (u8, bool, bool, bool)| {
        let fingerprint = Fingerprint::of(&[seed]);
        let mut text = fingerprint.to_string();
        if colons {
            let bytes: Vec<_> = text.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();
            text = bytes.join(":");
        }
        if upper {
            text = text.to_uppercase();
        }
        if prefix {
            text = format!("sha256 Fingerprint={text}");
        }
        (fingerprint, text)
    };
    (0..20_u8, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(written)
}

/// A line without a user, and whether that is a problem.
fn noise() -> impl Strategy<Value = (String, bool)> {
    prop_oneof![
        "[ \t]{0,3}".prop_map(|line| (line, false)),
        "[ \t]{0,2}#[^\n]{0,10}".prop_map(|line| (line, false)),
        "[a-f0-9]{1,63} [a-z]{1,8}".prop_map(|line| (line, true)),
        "[a-f0-9]{64}[ \t]{0,2}".prop_map(|line| (line, true)),
        "[a-f0-9]{64} [a-z]{1,4}[/: $][a-z]{1,4}".prop_map(|line| (line, true)),
        "[g-z][a-z:]{0,70} [a-z]{1,8}".prop_map(|line| (line, true)),
    ]
}

#[derive(Clone, Debug)]
enum Line {
    User(Fingerprint, String, String),
    Noise(String, bool),
}

fn line() -> impl Strategy<Value = Line> {
    let user = (fingerprint(), "[ \t]{1,3}", name(), "[ \t\r]{0,2}");
    prop_oneof![
        user.prop_map(|((fingerprint, text), space, name, end)| {
            let line = format!("{text}{space}{name}{end}");
            Line::User(fingerprint, name, line)
        }),
        noise().prop_map(|(line, problem)| Line::Noise(line, problem)),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn each_line_is_read_by_itself(lines in proptest::collection::vec(line(), 0..12)) {
        let mut expected = HashMap::new();
        let mut problems = 0;
        let mut text = String::new();
        for line in &lines {
            match line {
                Line::User(fingerprint, name, line) => {
                    problems += usize::from(expected.insert(*fingerprint, name.clone()).is_some());
                    text += line;
                }
                Line::Noise(line, problem) => {
                    problems += usize::from(*problem);
                    text += line;
                }
            }
            text.push('\n');
        }
        let names = Names::parse(text.as_bytes());
        prop_assert_eq!(names.by_fingerprint, expected);
        prop_assert_eq!(names.problems.len(), problems, "{:?}", names.problems);
    }

    #[test]
    fn no_text_makes_the_parser_fail_or_admits_a_bad_name(
        text in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let names = Names::parse(&text);
        let mut all = names.by_fingerprint.values();
        prop_assert!(all.all(|name| is_user_name(name)));
    }
}

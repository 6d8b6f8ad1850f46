//! Properties of all files of users. CONTRIBUTING.md explains how to run many cases.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/htpasswd/file/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9@._-]{1,8}", r"[\p{L}0-9@._-]{1,8}"]
}

/// A hash as written in a file. No password is hashed: that would take tens of milliseconds per case.
#[derive(Clone, Debug)]
enum Written {
    Sha([u8; 20]),
    Bcrypt(String, u32),
}

impl Written {
    fn text(&self) -> String {
        match self {
            Self::Sha(digest) => format!("{{SHA}}{}", STANDARD.encode(digest)),
            Self::Bcrypt(text, _) => text.clone(),
        }
    }

    fn hash(&self) -> Hash {
        match self {
            Self::Sha(digest) => Hash::Sha1(*digest),
            Self::Bcrypt(text, cost) => Hash::Bcrypt { text: text.clone(), cost: *cost },
        }
    }
}

fn written() -> impl Strategy<Value = Written> {
    let bcrypt = ("2[aby]", 4..=31_u32, "[./A-Za-z0-9]{53}").prop_map(|(version, cost, rest)| {
        Written::Bcrypt(format!("${version}${cost:02}${rest}"), cost)
    });
    prop_oneof![any::<[u8; 20]>().prop_map(Written::Sha), bcrypt]
}

/// A line without a user, and whether that is a problem.
fn noise() -> impl Strategy<Value = (String, bool)> {
    prop_oneof![
        "[ \t]{0,3}".prop_map(|line| (line, false)),
        "[ \t]{0,2}#[^\n]{0,10}".prop_map(|line| (line, false)),
        "[a-z]{1,8}".prop_map(|line| (line, true)),
        "[a-z]{1,4}[/ $][a-z]{1,4}:[a-z]{0,9}".prop_map(|line| (line, true)),
        name().prop_map(|name| (format!("{name}:"), true)),
        (name(), "\\$(apr1|1|5|6)\\$[a-z]{1,8}\\$[a-z]{1,8}")
            .prop_map(|(name, hash)| (format!("{name}:{hash}"), true)),
    ]
}

#[derive(Clone, Debug)]
enum Line {
    User { name: String, hash: Written, before: &'static str, after: &'static str },
    Noise { text: String, problem: bool },
}

fn line() -> impl Strategy<Value = Line> {
    let before = prop_oneof![Just(""), Just("  "), Just("\t")];
    let after = prop_oneof![Just(""), Just("\r"), Just("  "), Just(":A note: more"), Just(" :x\r")];
    let user = (name(), written(), before, after)
        .prop_map(|(name, hash, before, after)| Line::User { name, hash, before, after });
    let noise = noise().prop_map(|(text, problem)| Line::Noise { text, problem });
    prop_oneof![3 => user, 1 => noise]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_can_be_parsed(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let users = Users::parse(&text);
        let lines = text.split(|byte| *byte == b'\n').count();
        prop_assert!(users.problems.iter().all(|problem| (1..=lines).contains(&problem.line)));
        prop_assert!(users.hashes.len() + users.problems.len() <= lines);
        prop_assert!(users.hashes.keys().all(|name| is_user_name(name)));
    }

    #[test]
    fn similar_text_can_be_parsed(text in "[a:#$2y{}SHA=/.\n\r \u{feff}é-]{0,120}") {
        let users = Users::parse(text.as_bytes());
        let lines = text.split('\n').count();
        prop_assert!(users.hashes.len() + users.problems.len() <= lines);
    }

    #[test]
    fn valid_users_are_read_whatever_is_between(
        lines in proptest::collection::vec(line(), 0..12),
        mark: bool,
    ) {
        let mut text = if mark { "\u{feff}".to_owned() } else { String::new() };
        // The last line of a name counts, earlier ones are problems.
        let mut last: HashMap<&str, Hash> = HashMap::new();
        let mut problems = 0;
        for line in &lines {
            match line {
                Line::User { name, hash, before, after } => {
                    text += &format!("{before}{name}:{}{after}\n", hash.text());
                    problems += usize::from(last.insert(name, hash.hash()).is_some());
                }
                Line::Noise { text: noise, problem } => {
                    text += &format!("{noise}\n");
                    problems += usize::from(*problem);
                }
            }
        }
        let users = Users::parse(text.as_bytes());
        prop_assert_eq!(users.problems.len(), problems, "{:?}", users.problems);
        prop_assert_eq!(users.hashes.len(), last.len());
        let mut most = None;
        for (name, expected) in last {
            if let Hash::Bcrypt { cost, .. } = &expected {
                most = most.max(Some(*cost));
            }
            prop_assert!(users.hashes.get(name) == Some(&expected), "{}", name);
        }
        prop_assert!(users.nobody == most.map(Hash::nobody));
    }

    #[test]
    fn hashes_round_trip(written in written()) {
        prop_assert!(Hash::parse(&written.text()) == Ok(written.hash()));
    }

    #[test]
    fn a_changed_hash_is_another_or_invalid(
        written in written(),
        at in any::<proptest::sample::Index>(),
        to in "[ -~]?",
    ) {
        let (text, hash) = (written.text(), written.hash());
        let at = at.index(text.len());
        let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
        // It never panics, and what it accepts is exactly what is written.
        if let Ok(Hash::Bcrypt { text: kept, .. }) = Hash::parse(&changed) {
            prop_assert_eq!(kept, changed);
        } else if changed != text {
            let same = Hash::parse(&changed).is_ok_and(|other| other == hash);
            prop_assert!(!same, "{}", changed);
        }
    }

    #[test]
    fn ascii_names_match_the_pattern(name in "[ -~\n\t\0]{0,8}") {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"@._-".contains(&byte);
        prop_assert_eq!(is_user_name(&name), !name.is_empty() && name.bytes().all(fine));
    }

    #[test]
    fn other_names_have_only_letters(name in "(?s).{0,8}") {
        // `is_alphabetic` is slightly wider than the pattern's letters.
        let fine = |letter: char| {
            letter.is_alphabetic() || letter.is_ascii_digit() || "@._-".contains(letter)
        };
        prop_assert!(!is_user_name(&name) || name.chars().all(fine));
    }
}

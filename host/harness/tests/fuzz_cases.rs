//! Files of cases with damage, made from all that this workspace has: they are read or refused at a place in the file, and
//! what they say about bytes and placeholders can be asked for. `cargo xtask fuzz cases` tries many.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy allows them in test functions only, not in what these functions share"
)]

#[path = "../../../tests/fuzz/inputs.rs"]
mod inputs;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use keepgate_harness::case::{Broken, CaseFile, Pattern, RequestLine, Short, Surface, Values};
use keepgate_harness::differences::Differences;
use proptest::prelude::*;
use proptest::sample::Index;

use inputs::{Edit, config, edited, edits};

/// What means something in these files, and values that no field expects.
const WORDS: [&[u8]; 36] = [
    b"\n",
    b" = ",
    b"\"",
    b"'''",
    b"[[case]]\n",
    b"[[case.step]]\n",
    b"[case.after.blobs]\n",
    b"world = 1\n",
    b"expect.body.json = \"[[[[\"\n",
    b"expect.status = -1\n",
    b"{ random = 18446744073709551615 }",
    b"{ random = 9223372036854775807 }",
    b"{ repeat = \"ab\", times = 9223372036854775807 }",
    b"{ hex = \"0\" }",
    b"{ file = \"/dev/null\" }",
    b"{ json = { a = [1, {}] } }",
    b"{ named = \"{each}\" }",
    b"{each}",
    b"{a.size}",
    b"{",
    b"}",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{a={a={a={a={a={a={a={a=",
    b"a.a.a.a.a.a.a.a.a.a.a.a.",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1e400",
    b"nan",
    b"99999999999y",
    b"\"18446744073709551615s\"",
    b"9999-12-31T23:59:60Z",
    b"\"-009999-01-01T00:00:00Z\"",
    b"\"(a{1000}){1000}\"",
    b"\\u0000",
    b"\xc3\xa9",
    b"\xf0\x9f\x92\xa9",
];

/// All files of cases of the workspace, sorted, so that a seed means the same everywhere.
static FILES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut paths = Vec::new();
    for folder in ["plugins", "tests/conformance", "tests/contracts", "host/harness/tests"] {
        find(&root.join(folder), &mut paths);
    }
    paths.sort();
    assert!(paths.len() > 20, "{paths:?}");
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
});

fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "toml")
            && path.file_name().is_some_and(|name| name != "Cargo.toml")
        {
            found.push(path);
        }
    }
}

/// Some lines of a file, in which most of what is changed still means something.
fn excerpt(text: &str, begin: Index, lines: usize) -> String {
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    let begin = begin.index(all.len().max(1));
    all.iter().skip(begin).take(lines).copied().collect()
}

fn damaged(text: &str, edits: &[Edit]) -> String {
    String::from_utf8_lossy(&edited(text.as_bytes(), edits)).into_owned()
}

/// A whole file or a part of it, or lines of two files, with damage.
fn text() -> impl Strategy<Value = String> {
    let part = || {
        (any::<Index>(), any::<Index>(), 1..60_usize).prop_map(|(file, begin, lines)| {
            let file = &FILES[file.index(FILES.len())];
            // From a case on, if there is one.
            let excerpt = excerpt(file, begin, lines);
            let case = excerpt.find("[[case]]").unwrap_or(0);
            excerpt[case..].to_owned()
        })
    };
    let whole = any::<Index>().prop_map(|file| FILES[file.index(FILES.len())].clone());
    let sample = prop_oneof![
        1 => whole,
        4 => part(),
        2 => (part(), part()).prop_map(|(one, two)| one + &two),
    ];
    prop_oneof![
        9 => (sample, edits(&WORDS)).prop_map(|(text, edits)| damaged(&text, &edits)),
        1 => "(?s).{0,60}",
    ]
}

/// A value in place of another, in a case that is otherwise right.
fn odd_value() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        prop::sample::select(&WORDS[..])
            .prop_map(|word| String::from_utf8_lossy(word).into_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        r#""[ -!#-\[\]-~]{0,20}""#,
        r#"\{ [a-z]{1,8} = [0-9"]{1,6} \}"#,
        "(true|false|\\[\\]|\\{\\}|\"\"|2026-01-01|12:00:00)",
    ];
    (any::<Index>(), any::<Index>(), any::<Index>(), value).prop_map(|(file, case, line, value)| {
        let file = &FILES[file.index(FILES.len())];
        let cases: Vec<&str> = file.split("[[case]]").collect();
        let text = format!("[[case]]{}", cases[case.index(cases.len())]);
        let places: Vec<_> = text.match_indices(" = ").map(|(at, _)| at + 3).collect();
        if places.is_empty() {
            return text;
        }
        let at = places[line.index(places.len())];
        let rest = text[at..].find('\n').map_or("", |end| &text[at + end..]);
        format!("{}{value}{rest}", &text[..at])
    })
}

/// An error that names a place in the text.
fn check(broken: &Broken, text: &str) -> Result<(), TestCaseError> {
    prop_assert!(!broken.message.trim().is_empty());
    if let Some((line, column)) = broken.place {
        let lines: Vec<&str> = text.split('\n').collect();
        prop_assert!((1..=lines.len()).contains(&line), "{}: {}", line, broken);
        let length = lines[line - 1].chars().count();
        prop_assert!((1..=length + 1).contains(&column), "{}: {}", column, broken);
    }
    Ok(())
}

/// Reads a text in each way in which a file may be read, and asks what it says.
fn read(text: &str) -> Result<(), TestCaseError> {
    let path = Path::new("cases/one.toml");
    match Surface::parse(text, path) {
        Ok(_) => {}
        Err(broken) => check(&broken, text)?,
    }
    let file = match CaseFile::parse(text, path) {
        Ok(file) => file,
        Err(broken) => return check(&broken, text),
    };
    prop_assert!(
        file.names().len() >= file.cases.iter().filter(|case| !case.at.is_empty()).count()
    );
    let mut values = Values::default();
    for (name, Short(content)) in &file.bodies {
        match content.bytes(Path::new("/nonexistent"), &values) {
            Ok(bytes) => values.name_body(name, bytes),
            Err(why) => prop_assert!(!why.is_empty()),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn damaged_files_are_read_or_refused_at_a_place(text in text()) {
        read(&text)?;
    }

    #[test]
    fn odd_values_are_taken_or_refused_at_a_place(text in odd_value()) {
        read(&text)?;
    }

    #[test]
    fn bytes_are_made_or_refused(
        fields in prop::collection::btree_map(
            prop::sample::select(&["text", "hex", "repeat", "random", "times", "seed", "json", "named"][..]),
            prop_oneof![
                any::<i64>().prop_map(|number| number.to_string()),
                (0..100_i64).prop_map(|number| number.to_string()),
                r#""[a-z0-9{}]{0,8}""#,
            ],
            0..4,
        ),
    ) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        read(&format!("bodies.a = {{ {} }}\ncase = []\n", fields.join(", ")))?;
    }

    /// Texts with placeholders are filled in or refused, however they refer to each other.
    #[test]
    fn placeholders_are_filled_in_or_refused(
        texts in prop::collection::vec("([a-c{}.2 /]|\\{[a-c]\\}|\\{[a-c]\\.size\\}){0,6}", 3),
        asked in "(GET |[a-c{}.2 /]|\\{[a-c]\\}){0,8}",
    ) {
        let mut values = Values::default();
        for (name, text) in ["a", "b", "c"].into_iter().zip(&texts) {
            values.template(name, text.clone());
        }
        values.name_body("a", b"body".to_vec());
        let filled = values.fill(&asked);
        if !Values::has_placeholder(&asked) {
            prop_assert_eq!(filled.as_deref(), Ok(asked.as_str()));
        }
        let _ = values.body(&asked);
        if let Ok(line) = RequestLine::try_from(asked.clone()) {
            let _ = line.fill(&values, "/base");
        }
        if let Ok(pattern) = Pattern::try_from(asked) {
            let _ = pattern.regex(&values);
        }
    }
}

proptest! {
    #![proptest_config(config(30))]

    #[test]
    fn damaged_lists_of_differences_are_read_or_refused(text in text()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("differences.toml");
        std::fs::write(&path, text).unwrap();
        if let Err(why) = Differences::read(&path) {
            prop_assert!(why.contains("differences.toml"), "{}", why);
        }
    }
}

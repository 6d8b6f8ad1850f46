//! Properties of every text that is read as a configuration: it is accepted or rejected, and every
//! problem points into it. CONTRIBUTING.md says how to run many cases.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;

use super::*;

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

/// The example, with every commented-out line activated.
static EXAMPLE: LazyLock<String> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/keepgate.toml");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line).to_owned() + "\n").collect()
});

/// A change of a text.
#[derive(Clone, Debug)]
enum Change {
    Remove(Index, usize),
    Insert(Index, String),
    /// Moves a line.
    Move(Index, Index),
    /// Replaces a value.
    Value(Index, String),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), 1..30_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        (any::<Index>(), piece()).prop_map(|(at, text)| Change::Insert(at, text)),
        any::<(Index, Index)>().prop_map(|(from, to)| Change::Move(from, to)),
        (any::<Index>(), value()).prop_map(|(at, text)| Change::Value(at, text)),
    ]
}

/// Values of right and wrong types.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{1,25}",
        "-?[0-9]{1,3}\\.[0-9]{1,3}e[0-9]{1,3}",
        Just("true".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("[\"none\"]".to_owned()),
        Just("{ main = \"main\" }".to_owned()),
        "\"[0-9]{1,25}(\\.[0-9]{1,9})? ?(ns|us|ms|s|m|h|d|w|M|y|B|kB|KiB|MB|GiB|TB|EiB|parsec)?\"",
        "\"(unix:)?(127\\.0\\.0\\.1|localhost|\\[::1\\]|)?(:[0-9]{0,6})?\"",
        "\"[/.a-z*?\\[\\]{}!-]{0,9}\"",
        "\"[0-9]{0,5}\"",
        "'''.{0,4}'''",
    ]
}

/// Pieces of TOML and of invalid TOML.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "[\\[\\]{}=\"'#.,\n]",
        1 => Just("\"\"\"".to_owned()),
        1 => Just("\\u{d800}".to_owned()),
        1 => Just("\\ud800".to_owned()),
        1 => Just("\r\n".to_owned()),
        1 => Just("\u{feff}".to_owned()),
        1 => Just("é".to_owned()),
        1 => Just("\n[[mount]]\n".to_owned()),
        1 => Just("\n[listener.tls]\n".to_owned()),
        2 => "[a-z_]{1,9}",
        2 => value(),
        1 => "(?s).{1,3}",
    ]
}

/// A position in a text at which a character begins.
fn place(text: &str, at: Index) -> usize {
    let at = at.index(text.len() + 1);
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn apply(mut text: String, change: Change) -> String {
    match change {
        Change::Remove(at, length) => {
            let from = place(&text, at);
            let rest = text.split_off(from);
            text + &rest.chars().skip(length).collect::<String>()
        }
        Change::Insert(at, piece) => {
            text.insert_str(place(&text, at), &piece);
            text
        }
        Change::Move(from, to) => {
            let mut lines: Vec<&str> = text.lines().collect();
            if !lines.is_empty() {
                let line = lines.remove(from.index(lines.len()));
                lines.insert(to.index(lines.len() + 1), line);
            }
            lines.join("\n")
        }
        Change::Value(at, value) => {
            let lines = text.lines().filter(|line| line.contains(" = ")).count();
            let Some(chosen) = (lines > 0).then(|| at.index(lines)) else { return text };
            let mut number = 0;
            let mut changed = String::new();
            for line in text.lines() {
                match line.split_once(" = ") {
                    Some((key, _)) if number == chosen => changed += &format!("{key} = {value}\n"),
                    _ => changed += &format!("{line}\n"),
                }
                number += usize::from(line.contains(" = "));
            }
            changed
        }
    }
}

/// Reads a text. Each problem must have a place in it; what is accepted must be usable.
fn look(text: &str) -> Result<(), TestCaseError> {
    match Config::parse(text, Path::new("/etc/keepgate/keepgate.toml")) {
        Ok(config) => {
            prop_assert!(!config.listener.is_empty());
            prop_assert!(config.mount.iter().all(|mount| !mount.auth.is_empty()));
            let timeouts = config.timeouts.to_http();
            let waits = [timeouts.handshake, timeouts.head, timeouts.idle, timeouts.upload_stall];
            let now = std::time::Instant::now();
            for wait in waits.into_iter().chain(timeouts.grace) {
                // Timers add this to a time.
                prop_assert!(now.checked_add(wait).is_some(), "{:?}", wait);
            }
            for mount in &config.mount {
                prop_assert!(mount.rate_limits(None).is_ok());
                let limits = mount.limits.to_runtime();
                prop_assert!(limits.calls > 0);
                let faults = limits.faults;
                for wait in [limits.time, limits.cpu, faults.pause, faults.longest] {
                    prop_assert!(!wait.is_zero() && now.checked_add(wait).is_some(), "{:?}", wait);
                }
            }
        }
        Err(ConfigError::Invalid { problems }) => {
            prop_assert!(!problems.is_empty());
            let places: Vec<_> = problems.iter().map(|one| (one.line, one.column)).collect();
            prop_assert!(places.is_sorted(), "{places:?}");
            for LocatedProblem { line, column, message, .. } in problems {
                prop_assert!(!message.is_empty());
                prop_assert!(line >= 1 && column >= 1);
                // The end of the text is a position, too.
                let found = text.split('\n').nth(line - 1);
                let length = found.map(|line| line.chars().count());
                prop_assert!(length.is_some_and(|length| column <= length + 1), "{line}:{column}");
            }
        }
        Err(error) => prop_assert!(false, "{error}"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_text_is_accepted_or_rejected(text in "(?s).{0,60}") {
        look(&text)?;
    }

    #[test]
    fn any_toml_is_accepted_or_rejected(pieces in proptest::collection::vec(piece(), 0..20)) {
        look(&pieces.concat())?;
    }

    #[test]
    fn a_changed_example_is_accepted_or_rejected(
        changes in proptest::collection::vec(change(), 1..4),
    ) {
        look(&changes.into_iter().fold(EXAMPLE.clone(), apply))?;
    }

    #[test]
    fn any_duration_and_size_is_rejected_or_usable(
        time in "[0-9]{1,21} ?(ns|us|ms|s|m|h|d|w|M|y)",
        size in "[0-9]{1,25}(\\.[0-9]{1,3})? ?(B|kB|KiB|MB|GiB|TB|EiB)?",
    ) {
        let (idle, memory) = ("\nidle = \"2m\"", "\nmemory = \"64MiB\"");
        prop_assert!(EXAMPLE.contains(idle) && EXAMPLE.contains(memory));
        look(&EXAMPLE.replacen(idle, &format!("\nidle = \"{time}\""), 1))?;
        look(&EXAMPLE.replacen(memory, &format!("\nmemory = \"{size}\""), 1))?;
    }

    #[test]
    fn positions_are_those_that_an_editor_shows(text in "[ab\né\r]{0,40}", at: Index) {
        let at = place(&text, at);
        let (line, column) = problems::position(&text, at);
        let before: String = text.split('\n').take(line - 1).map(|line| format!("{line}\n")).collect();
        let rest = text.split('\n').nth(line - 1).unwrap();
        let within: String = rest.chars().take(column - 1).collect();
        prop_assert_eq!(before + &within, &text[..at]);
    }
}

//! Three shapes of bodies, and what is wrong with others.

use proptest::prelude::*;

use super::*;

const RUN: &str = "550e8400-e29b-41d4-a716-446655440000";
const NOW: Timestamp = Timestamp(1_769_817_600_000_000_000);

fn said(body: &str) -> String {
    let Problem::Failure(failure) = parse(body.as_bytes(), NOW).unwrap_err() else { panic!() };
    assert_eq!(failure.status(), 400);
    failure.message().to_owned()
}

#[test]
fn three_shapes_are_the_same_lines() {
    let (one, two) = (
        format!(
            r#"{{"run":"{}","timestamp":"2026-01-31T01:00:00+01:00","level":"WARNING","message":"a"}}"#,
            RUN.to_uppercase()
        ),
        r#"{"run":"","level":"critical","fields":{"token":"x","n":1},"message":"b://c:d@e","more":[]}"#,
    );
    let kept = format!(
        "{{\"level\":\"warn\",\"timestamp\":\"2026-01-31T00:00:00.000Z\",\"run\":\"{RUN}\",\"message\":\"a\"}}\n\
             {{\"level\":\"fatal\",\"timestamp\":\"2026-01-31T00:00:00.000Z\",\"message\":\"b://***@e\",\
             \"fields\":{{\"n\":1,\"token\":\"***\"}}}}\n"
    );
    for body in [
        format!("{one}\n{two}"),
        format!("\n{one}\r\n\n{two}\n"),
        format!(" [{one},\n{two}]"),
        format!("{one}{two}"),
    ] {
        let groups = parse(body.as_bytes(), NOW).unwrap();
        assert_eq!(groups.len(), 1, "{body}");
        assert_eq!(String::from_utf8_lossy(&groups[0].bytes), kept);
        assert_eq!(
            (groups[0].run.as_deref(), groups[0].count, groups[0].failed),
            (Some(RUN), 2, true)
        );
    }
    let pretty = "{\n  \"message\": \"x\"\n}";
    let groups = parse(pretty.as_bytes(), NOW).unwrap();
    assert_eq!((groups.len(), &groups[0].run, groups[0].first), (1, &None, NOW));
}

#[test]
fn lines_are_of_the_run_that_was_named_last() {
    let other = RUN.replace('5', "6");
    let line = |run: &str, message: &str| format!("{{\"run\":{run},\"message\":\"{message}\"}}\n");
    let body = [
        line("\"\"", "0"),
        line(&format!("\"{RUN}\""), "1"),
        line("null", "2"),
        line(&format!("\"{other}\""), "3"),
        line("\"\"", "4"),
        line(&format!("\"{RUN}\""), "5"),
    ];
    let groups = parse(body.concat().as_bytes(), NOW).unwrap();
    let told: Vec<_> =
        groups.iter().map(|group| (group.run.as_deref().unwrap(), group.count)).collect();
    assert_eq!(told, [(RUN, 4), (other.as_str(), 2)]);
}

#[test]
fn a_bad_line_is_named() {
    let good = r#"{"message":"x"}"#;
    for (body, expected) in [
        (format!("{good}\n{{\"level\":\"info\"}}\n{good}"), "line 2: missing field `message`"),
        (
            format!("{good}\n{good}\n{{\"message\":\"x\",\"level\":\"loud\"}}"),
            "line 3: the level \"loud\"",
        ),
        (format!("{good}\n{{\"message\":1}}"), "line 2: invalid type"),
        (format!("{good}\nhello"), "line 2: expected value"),
        (
            format!("{{\"message\":\"x\",\"run\":\"7\"}}\n{good}"),
            "line 1: the run \"7\" is not a UUID",
        ),
        (
            format!("{good}\n{{\"message\":\"x\",\"timestamp\":\"soon\"}}"),
            "line 2: \"soon\" is not a time",
        ),
        (format!("{good}\n{{\"message\":\"x\",\"fields\":[1]}}"), "line 2: invalid type"),
        (format!("{good}\n{{\"message\":\"x"), "line 2: EOF"),
        (
            format!("[{good},{{}}]"),
            "element 1 of the array, counted from 0: missing field `message`",
        ),
        (
            format!("[{good},{{\"message\":\"x\",\"level\":\"loud\"}}]"),
            "element 1 of the array, counted from 0: the level \"loud\"",
        ),
        (format!("[{good}] x"), "element 1 of the array, counted from 0: trailing characters"),
        (String::new(), "the body has no lines"),
        (" \n".to_owned(), "the body has no lines"),
        ("[]".to_owned(), "the body has no lines"),
        (format!("{good}\n{}", "[".repeat(100_000)), "line 2:"),
        (
            format!("{{\"message\":\"x\",\"fields\":{{\"a\":{}", "[".repeat(100_000)),
            "line 1: recursion",
        ),
    ] {
        let message = said(&body);
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn there_is_a_limit_of_lines_and_of_runs() {
    let line = "{\"message\":\"\"}\n";
    assert_eq!(parse(line.repeat(MOST_LINES).as_bytes(), NOW).unwrap()[0].count, 50_000);
    let array = format!("[{}{line}]", format!("{line},").repeat(MOST_LINES));
    let runs: String = (0..=MOST_RUNS)
        .map(|number| format!("{{\"message\":\"\",\"run\":\"{number:08}{}\"}}", &RUN[8..]))
        .collect();
    for body in [line.repeat(MOST_LINES + 1), array, runs] {
        let problem = parse(body.as_bytes(), NOW).unwrap_err();
        let Problem::Failure(failure) = problem else { panic!() };
        assert_eq!(
            (failure.status(), failure.message()),
            (413, "send at most 50000 lines, of at most 16 runs, at once")
        );
    }
}

#[test]
fn lines_are_shown_to_people() {
    let body = br#"{"level":"warning","message":"a\nb\n","fields":{"n":1,"s":"t"}}"#;
    let kept = parse(body, NOW).unwrap().remove(0).bytes;
    let text = plain(kept.trim_ascii_end());
    assert_eq!(
        String::from_utf8_lossy(&text),
        "2026-01-31T00:00:00.000Z WARN  a\n    b n=1 s=\"t\""
    );
    assert_eq!(Level::of(&kept), Some(Level::Warn));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse(&bytes, NOW);
    }

    #[test]
    fn whatever_is_kept_has_one_line_for_each(messages in prop::collection::vec(any::<String>(), 1..5)) {
        let body: Vec<Value> = messages.iter().map(|one| serde_json::json!({"message": one})).collect();
        let kept = parse(Value::from(body).to_string().as_bytes(), NOW).unwrap().remove(0);
        let lines: Vec<_> = kept.bytes.split_inclusive(|byte| *byte == b'\n').collect();
        prop_assert_eq!(lines.len(), messages.len());
        prop_assert!(lines.iter().all(|line| Level::of(line) == Some(Level::Info) && json::is_valid(line)));
    }
}

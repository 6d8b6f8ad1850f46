//! The rules that the SDKs share by tests, since each is copied into authors' folders alone: retention by
//! `retention.json`, and what else of the SDKs for JavaScript and Python needs no host. What runs in a component is
//! tested by `tests/tests/languages`.

use std::process::Command;
use std::time::Duration;

use keepgate_sdk::Timestamp;
use keepgate_sdk::retention::{Dated, Policy};

const CASES: &str = include_str!("retention.json");

#[derive(serde::Deserialize)]
struct Case {
    policy: serde_json::Map<String, serde_json::Value>,
    within_seconds: Option<u64>,
    now: Timestamp,
    items: Vec<Timestamp>,
    spared: Vec<usize>,
    expired: Vec<usize>,
}

struct Item(usize, Timestamp);

impl Dated for Item {
    fn time(&self) -> Timestamp {
        self.1
    }
}

#[test]
fn rust_keeps_what_the_cases_say() {
    for case in serde_json::from_str::<Vec<Case>>(CASES).unwrap() {
        let count = |rule: &str| {
            let count = case.policy.get(rule).and_then(serde_json::Value::as_u64);
            u32::try_from(count.unwrap_or(0)).unwrap()
        };
        let policy = Policy {
            last: count("last"),
            within: case.within_seconds.map(Duration::from_secs),
            daily: count("daily"),
            weekly: count("weekly"),
            monthly: count("monthly"),
            yearly: count("yearly"),
        };
        let items: Vec<_> =
            case.items.iter().copied().enumerate().map(|(i, t)| Item(i, t)).collect();
        let expired = policy.expired(&items, case.now, |item| case.spared.contains(&item.0));
        let expired: Vec<_> = expired.into_iter().map(|item| item.0).collect();
        assert_eq!(expired, case.expired, "{policy:?} at {}", case.now);
    }
}

#[test]
fn javascript_agrees() {
    run("node", "javascript.mjs");
}

#[test]
fn python_agrees() {
    run("python3", "python.py");
}

/// Runs a program's tests, if the program is installed.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn run(program: &str, file: &str) {
    let file = format!("{}/tests/{file}", env!("CARGO_MANIFEST_DIR"));
    match Command::new(program).arg(&file).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{file}:\n{said}");
        }
        Err(error) => eprintln!("skipped: {program}: {error}"),
    }
}

//! Every way in which the test guests misbehave, with the expected outcome. A test reads the guests'
//! sources and fails if a guest or one of its misdeeds is missing from these tables.

use std::collections::BTreeSet;

use super::*;

/// The expected outcome of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ends {
    /// An error with this reason, as in metrics and logs.
    As(&'static str),
    /// A complete reply with this status.
    Well(u16),
    /// A reply that breaks off, or none.
    Broken,
    /// Tested separately, by the test with this name in this folder.
    In(&'static str),
}

use Ends::{As, Broken, In, Well};

/// What `hostile` does by the first segment of a path.
pub(crate) const HOSTILE: &[(&str, Ends)] = &[
    ("hello", Well(200)),
    ("loop", As("cpu")),
    ("loop-calling", As("cpu")),
    ("flood", As("memory")),
    ("trap", As("trap")),
    ("recurse", As("trap")),
    ("break-off", Broken),
    ("fail-midway", Broken),
    ("answer-midway", Broken),
    ("stream-forever", In("dropping_the_reply_stops_the_guest")),
    ("nonsense", As("bad-reply")),
    ("header", As("bad-reply")),
    ("random", As("trap")),
    ("length", Well(200)),
    ("tail", Well(200)),
    ("echo", Well(200)),
    ("ignore", Well(403)),
    ("store", Well(200)),
    ("escape", As("failure")),
    ("hold", Well(200)),
    ("hold-blobs", Well(200)),
    ("huge-reply", Well(200)),
    ("huge-pieces", Well(200)),
    ("huge-head", As("bad-reply")),
    ("huge-failure", As("failure")),
    ("huge-refusal", As("failure")),
    ("bad-refusal", As("failure")),
    ("leak", Well(200)),
    ("bodies", As("handles")),
    ("large-bodies", As("held")),
    ("compressors", As("held")),
    ("meters", As("handles")),
    ("layers", As("layers")),
    ("stores", As("handles")),
    ("listings", As("failure")),
    ("blobs", As("open")),
    ("spools", As("open")),
    ("bomb", In("decompressing_a_bomb_is_charged_to_the_guest")),
    ("log-flood", As("cpu")),
    ("log-forged", Well(200)),
    ("log-list", As("arguments")),
    ("prepare-list", As("arguments")),
    ("count-flood", As("cpu")),
];

/// What `sleeper` tries to do through WASI, by the first segment of a path.
pub(crate) const SLEEPER: &[(&str, Ends)] = &[
    ("hello", Well(200)),
    ("nap", Well(200)),
    ("sleep", As("time")),
    ("alarms", As("handles")),
    ("random", As("trap")),
    ("stdout", As("cpu")),
    ("exit", As("trap")),
    ("look", Well(200)),
];

/// What `grabber` takes, in an order in which what it has filled is full for the next.
pub(crate) const GRABBER: &[(&str, Ends)] = &[
    ("hello", Well(200)),
    ("turns", As("handles")),
    ("turn-twice", As("time")),
    ("subscriptions", As("failure")),
    ("publish", As("cpu")),
    ("deaf", As("cpu")),
    ("all-records", As("held")),
    ("records", As("failure")),
    ("empty-records", As("failure")),
    // Its limit of processor time or that of time: most of what it causes is done by the host, on other threads.
    ("scan", Broken),
    ("jobs", As("failure")),
    ("jobs-list", As("held")),
];

/// What `service`, a component of `wasi:http`, does.
pub(crate) const SERVICE: &[(&str, Ends)] = &[
    ("hello", Well(200)),
    ("credentials", Well(200)),
    ("echo", Well(200)),
    ("length", Well(200)),
    ("ignore", Well(403)),
    ("fetch", Well(200)),
    ("loop", As("cpu")),
    ("flood", As("memory")),
    ("trap", As("trap")),
    ("sleep", As("time")),
    ("silent", As("bad-reply")),
    ("error", As("failure")),
    ("break-off", Broken),
    ("unfinished", Broken),
    ("fields", As("handles")),
    ("huge-head", As("trap")),
];

/// The kinds of job of `toiler`, with a part of the message that each fails with.
pub(crate) const TOILER: &[(&str, &str)] = &[
    ("loop", "of CPU time"),
    ("forever", "from request to reply"),
    ("trap", "broke down"),
    ("output", "bytes"),
    ("flood", "of CPU time"),
    ("report", "of CPU time"),
    ("honest", ""),
];

/// Other guests, with the test that uses each.
pub(crate) const OTHERS: &[(&str, &str)] = &[
    ("mute", "files_that_are_not_plugins_are_refused_with_the_reason"),
    ("liar", "a_description_that_is_too_large_is_refused"),
    ("babbler", "a_description_that_is_too_large_is_refused"),
    ("impostor", "a_plugin_takes_no_metric_of_another"),
    ("secrets", "what_a_plugin_seals_opens_for_the_same_context_and_with_older_keys"),
    ("keeper", "each_mount_has_records_of_its_own"),
    ("upstream_guest", "an_exchange_passes_through_a_plugin"),
    ("job_guest", "finally_runs_for_the_same_user_however_a_job_ends"),
];

/// Everything that the guests do is in the tables above, and the tests that the tables name exist.
#[test]
fn each_guest_and_each_misdeed_has_a_test() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guests = here.join("../../tests/guests/examples");
    let programs: BTreeSet<String> = fs::read_dir(&guests)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let others = OTHERS.iter().map(|(name, _)| *name);
    // `every` and `follower` do not misbehave; the tests of `host/harness` and the end-to-end tests use them.
    let known: BTreeSet<String> =
        ["hostile", "sleeper", "service", "grabber", "toiler", "every", "follower"]
            .into_iter()
            .chain(others)
            .map(str::to_owned)
            .collect();
    assert_eq!(programs, known, "guests without a test, or tests without a guest");

    let misdeeds = |program: &str| -> BTreeSet<String> {
        let source = fs::read_to_string(guests.join(format!("{program}.rs"))).unwrap();
        let arms = source.lines().filter_map(|line| line.trim().strip_prefix('"'));
        arms.filter_map(|arm| arm.split_once("\" => ").map(|(name, _)| name.to_owned())).collect()
    };
    let names = |table: &[(&str, Ends)]| -> BTreeSet<String> {
        table.iter().map(|(name, _)| (*name).to_owned()).collect()
    };
    assert_eq!(misdeeds("hostile"), names(HOSTILE));
    assert_eq!(misdeeds("sleeper"), names(SLEEPER));
    assert_eq!(misdeeds("service"), names(SERVICE));
    assert_eq!(misdeeds("grabber"), names(GRABBER));
    let kinds: BTreeSet<String> = TOILER.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert!(misdeeds("toiler").is_subset(&kinds));

    let tests: String = fs::read_dir(here.join("tests/guests"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let named = HOSTILE.iter().chain(SLEEPER).filter_map(|(_, ends)| match ends {
        In(test) => Some(*test),
        _ => None,
    });
    for test in named.chain(OTHERS.iter().map(|(_, test)| *test)) {
        assert!(tests.contains(&format!("fn {test}()")), "no test {test}");
    }
}

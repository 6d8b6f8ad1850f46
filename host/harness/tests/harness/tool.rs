//! Tests of the tool itself: cases that must fail do, and with the words that help; `--update` makes
//! them right and leaves the rest as it was.

use std::path::Path;
use std::sync::OnceLock;

use keepgate_harness::case::CaseFile;
use keepgate_harness::{
    Outcome, PluginUnderTest, Report, RunOptions, component, report, run, run_and_update,
};

const HEAD: &str = "[bodies]\nabc = \"abc\"\n[[case]]\nname = \"x\"\n";
const UPLOAD: &str = "[[case.step]]\nsend = \"POST /data/{abc}\"\nbody = \"abc\"\n";

fn plugin() -> &'static PluginUnderTest {
    static PLUGIN: OnceLock<PluginUnderTest> = OnceLock::new();
    PLUGIN.get_or_init(|| PluginUnderTest::load(&component("restic").unwrap(), None).unwrap())
}

fn play(text: &str, path: &Path) -> Report {
    let file = CaseFile::parse(text, path).unwrap_or_else(|broken| panic!("{broken}\n{text}"));
    run(plugin(), &[file], &RunOptions::default())
}

/// What is said of a case that must fail.
fn wrong(rest: &str) -> String {
    let report = play(&format!("{HEAD}{rest}"), Path::new("x.toml"));
    let said = report::text(&report);
    assert_eq!(report.wrong(), 1, "{rest}\n{said}");
    said
}

/// What is said of a case that cannot be played.
fn broken(rest: &str) -> String {
    let report = play(&format!("{HEAD}{rest}"), Path::new("x.toml"));
    assert_eq!(report.broken().len(), 1, "{rest}\n{}", report::text(&report));
    report::text(&report)
}

#[test]
fn what_a_case_does_not_expect_fails_it() {
    let blob = "data/ba/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let get = "[[case.step]]\nsend = \"GET /config\"\n";
    for (rest, words) in [
        (
            format!("{UPLOAD}expect.status = 201\n"),
            vec!["`POST /data/{abc}`: status", "expected 201, got 200", "blobs.put"],
        ),
        (
            format!("{UPLOAD}expect.status = 200\n"),
            vec![&*format!("blob {blob}"), "unexpected", "abc"],
        ),
        (
            format!(
                "{UPLOAD}expect.status = 200\n[case.after.blobs]\n\"data/ba/{{abc}}\" = \"abd\"\n"
            ),
            vec!["- abd", "+ abc"],
        ),
        (
            format!(
                "{UPLOAD}expect.status = 200\n[case.after.blobs]\n\"data/ba/{{abc}}\" = true\nother = \"x\"\n"
            ),
            vec!["blob other", "it does not exist"],
        ),
        (
            format!("{UPLOAD}expect.status = 200\nexpect.calls = [\"blobs.put*\"]\n"),
            vec!["calls", "+ blobs.open main"],
        ),
        (
            format!("{UPLOAD}expect.status = 200\nexpect.no_calls = [\"blobs.put\"]\n"),
            vec!["forbidden call (`blobs.put`)"],
        ),
        (UPLOAD.to_owned(), vec!["the step has no expectation; the status is 200"]),
        (
            format!("{get}expect = {{ status = 404, headers = {{ content-type = \"x\" }} }}\n"),
            vec!["header content-type", "expected \"x\""],
        ),
        (
            format!("{get}expect = {{ status = 404, headers = {{ etag = true }} }}\n"),
            vec!["header etag", "is missing"],
        ),
        (
            format!("{get}expect = {{ status = 404, headers = {{ content-type = false }} }}\n"),
            vec!["expected none"],
        ),
        (
            format!("{get}expect = {{ status = 404, body = \"Gone\\n\" }}\n"),
            vec!["- Gone", "+ Not Found"],
        ),
        (
            format!("{get}expect = {{ status = 404, body = {{ json = {{}} }} }}\n"),
            vec!["expected JSON"],
        ),
        (
            format!("{get}expect = {{ status = 404, reason = \"trap\" }}\n"),
            vec!["expected `trap`", "the plugin replied"],
        ),
        (
            format!("{get}expect = {{ status = 404, broken = \"x\" }}\n"),
            vec!["expected it to break off"],
        ),
        (format!("{get}expect.status = 404\n[case.after.counters]\nx = 1\n"), vec!["- x 1"]),
        (
            format!("{get}expect.status = 404\n[case.after]\nlog = [\"hello\"]\n"),
            vec!["nothing matches `hello`"],
        ),
        (
            format!("{get}expect.status = 404\n[case.after]\njobs = [{{ kind = \"x\" }}]\n"),
            vec!["expected 1 jobs, found 0"],
        ),
        (
            format!("{get}expect.status = 404\n[case.after]\nno_calls = [\"blobs.get\"]\n"),
            vec!["forbidden call (`blobs.get`)"],
        ),
        (
            format!("{get}expect.status = 404\n[case.after]\nfolders = [\"data\"]\n"),
            vec!["folder \"data\" does not exist"],
        ),
        (format!("{get}expect.status = 404\nsave.x = \"/x\"\n"), vec!["the reply has no /x"]),
        (
            format!(
                "{get}expect.status = 404\n[[case.world.fault]]\non = \"put\"\nfails = \"io\"\n"
            ),
            vec!["never occurred"],
        ),
        (
            "world.settings = { private = true }\n[[case.step]]\nsend = \"GET /\"\n".to_owned(),
            vec!["the mount is refused", "private"],
        ),
        ("[[case.step]]\nrun = \"x\"\n".to_owned(), vec!["job `x`", "this world has no jobs"]),
        ("refuses = \"x\"\n".to_owned(), vec!["they were accepted"]),
    ] {
        let said = wrong(&rest);
        for word in words {
            assert!(said.contains(word), "{rest}\n{said}\nlacks {word:?}");
        }
    }
}

#[test]
fn a_call_for_what_is_not_granted_fails_a_case_unless_it_may() {
    let etcd = PluginUnderTest::load(&component("etcd").unwrap(), None).unwrap();
    let post = "world.jobs = false\nworld.cluster.main = [{ endpoint = \"http://a\" }]\n\
                [[case.step]]\nsend = \"POST /api/v1/backup\"\nexpect.status = 500\n";
    for (allow, right) in [("", 0), ("allow = [\"calls\"]\n", 1)] {
        let text = format!("{HEAD}{allow}{post}");
        let file = CaseFile::parse(&text, Path::new("x.toml")).unwrap();
        let report = run(&etcd, &[file], &RunOptions::default());
        let said = report::text(&report);
        assert_eq!(report.right(), right, "{said}");
        let words = "does not grant what the plugin calls: jobs.start backup main -> unsupported";
        assert_eq!(said.contains(words), right == 0, "{said}");
    }
}

#[test]
fn what_may_happen_may() {
    let allowed = format!(
        "{HEAD}allow = [\"blobs\", \"faults\"]\n[[case.world.fault]]\non = \"get\"\nfails = \"io\"\n{UPLOAD}expect.status = [200, 201]\n"
    );
    let report = play(&allowed, Path::new("x.toml"));
    assert_eq!(report.right(), 1, "{}", report::text(&report));
}

#[test]
fn a_case_that_makes_no_sense_is_no_failure_of_the_plugin() {
    for (rest, words) in [
        (
            "[[case.step]]\nsend = \"GET /{abd}\"\nexpect.status = 404\n",
            "x.toml:4:8: step 1 `GET /{abd}`: unknown placeholder {abd}",
        ),
        (
            "[[case.step]]\nsend = \"POST /x\"\nbody = { named = \"kilo\" }\n",
            "`bodies` has no \"kilo\"; it has: abc",
        ),
        (
            "[[case.step]]\nsend = \"POST /x\"\nbody = { file = \"none.bin\" }\n",
            "none.bin: No such file",
        ),
        (
            "[[case.step]]\nsend = \"POST /x\"\nbody = { text = \"a\", hex = \"00\" }\n",
            "several sources of bytes",
        ),
        ("[[case.step]]\nsend = \"GET /\"\nrun = \"x\"\n", "expected one of them"),
        (
            "world.blobs = { \"a/../b\" = \"x\" }\n[[case.step]]\nsend = \"GET /\"\n",
            "blob \"a/../b\"",
        ),
        ("[[case.step]]\nsend = \"GET /%zz\"\n", "percent sign"),
    ] {
        let said = broken(rest);
        assert!(said.contains(words), "{rest}\n{said}");
    }
}

#[test]
fn an_update_makes_it_right_and_keeps_what_people_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    let text = format!(
        "# Written by hand.\n{HEAD}\n{UPLOAD}expect.status = 500 # why?\nexpect.calls = []\n\
         [[case]]\nname = \"y\" # another\n[[case.step]]\nsend = \"GET /locks/\"\n\
         [[case]]\nname = \"z\"\nworld.blobs = {{ \"locks/{{abc}}\" = \"abc\" }}\n\
         [[case.step]]\nsend = \"GET /locks/\"\nexpect = {{ status = 200, headers = {{ content-type = \"x\" }}, body = \"[]\" }}\n"
    );
    std::fs::write(&path, &text).unwrap();
    let (report, rewritten) = run_and_update(plugin(), &path, &RunOptions::default()).unwrap();
    assert_eq!((report.right(), rewritten.len()), (3, 3), "{}", report::text(&report));
    let new = std::fs::read_to_string(&path).unwrap();
    assert!(new.starts_with("# Written by hand.\n[bodies]\n"), "{new}");
    assert!(new.contains("expect.status = 200 # why?") && new.contains("\"y\" # another"), "{new}");
    assert!(new.contains("absent-or-identical sha256"), "{new}");
}

#[test]
fn reports_are_read_by_programs() {
    let text = format!(
        "{HEAD}{UPLOAD}expect.status = 201\n[[case]]\nname = \"<y>\"\n[[case.step]]\nsend = \"GET /config\"\nexpect.status = 404\n"
    );
    let report = play(&text, Path::new("a&b.toml"));
    let json = report::json(&report);
    assert_eq!((&json["passed"], &json["failed"]), (&1.into(), &1.into()));
    assert_eq!(json["cases"][0]["line"], 4);
    assert!(json["cases"][0]["differences"][0]["text"].as_str().unwrap().contains("expected 201"));
    let xml = report::junit(&report, "restic");
    assert!(xml.contains("tests=\"2\" failures=\"1\" errors=\"0\""), "{xml}");
    assert!(xml.contains("classname=\"a&amp;b\" name=\"&lt;y&gt;\""), "{xml}");
    assert!(xml.contains("<failure message=\"step 1 `POST /data/{abc}`: status\">"), "{xml}");
}

#[test]
fn a_filter_leaves_out_what_it_does_not_name() {
    let text = format!("{HEAD}refuses = \"x\"\n[[case]]\nname = \"y\"\nrefuses = \"y\"\n");
    let file = CaseFile::parse(&text, Path::new("topic.toml")).unwrap();
    let options =
        RunOptions { filter: Some("topic/y".to_owned()), threads: 1, ..RunOptions::default() };
    let report = run(plugin(), &[file], &options);
    assert_eq!((report.ran.len(), report.left_out), (1, 1));
    assert!(matches!(report.ran[0].outcome, Outcome::Wrong(..)));
}

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::problem::Refusal;

const A: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn refusal(text: &str) -> Refusal {
    match Manifest::parse(text.as_bytes()) {
        Err(Problem::Refusal(refusal)) => *refusal,
        other => panic!("{text}: {other:?}"),
    }
}

fn written(text: &str, available: &[Available]) -> String {
    let manifest = Manifest::parse(text.as_bytes()).unwrap_or_else(|_| panic!("{text}"));
    let mut out = String::new();
    let write = |piece: &str| {
        out.push_str(piece);
        Ok::<_, ()>(())
    };
    manifest.write(available, write).unwrap();
    out
}

fn with_files(files: &str) -> String {
    format!("{{\"name\":\"n\",\"timestamp\":\"2026-01-31T00:00:00Z\",\"files\":{files}}}")
}

#[test]
fn a_manifest_is_read() {
    let text = json!({
        "name": "web é", "timestamp": "1985-10-26T21:45:00", "base": "/var/www", "omit": ["*.tmp"],
        "files": {"./index.php": {"hash": A.to_uppercase(), "size": 3, "permissions": 777}},
        "directories": {"./a": {"user": "www"}, "./b": {}},
    });
    let text = text.to_string();
    let manifest = Manifest::parse(text.as_bytes()).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.base.as_deref()), ("web é", Some("/var/www")));
    assert_eq!((manifest.files.len(), manifest.directories, manifest.bytes()), (1, 2, 3));
    assert_eq!(manifest.files[0].hash.to_string(), A);
    assert_eq!(manifest.files[0].path, "./index.php");
}

#[test]
fn only_availability_is_changed() {
    let yes = || Available::Yes;
    let some = || Available::Ranges(vec![(0, 9), (20, 20)]);
    for (entry, available, expected) in [
        (
            "{ \"hash\" : \"H\",\n \"size\":3 , \"x\": 2.50}",
            yes(),
            "{ \"hash\" : \"H\",\n \"size\":3 , \"x\": 2.50, \"is_available\": true}",
        ),
        (
            "{\"hash\":\"H\",\"size\":3,\"is_available\":true}",
            some(),
            "{\"hash\":\"H\",\"size\":3, \"is_available\": false, \"available_bytes\": [[0, 9], [20, 20]]}",
        ),
        (
            "{\"is_available\":0,\"hash\":\"H\",\"available_bytes\":[],\"size\":3 }",
            yes(),
            "{\"hash\":\"H\",\"size\":3, \"is_available\": true }",
        ),
    ] {
        let entry = entry.replace('H', A);
        let text = with_files(&format!("{{ \"a\": {entry} }}")) + "\n";
        let expected = with_files(&format!("{{ \"a\": {} }}", expected.replace('H', A))) + "\n";
        assert_eq!(written(&text, &[available]), expected);
    }
    let text = with_files("{}");
    assert_eq!(written(&text, &[]), text);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let file = |path: &str, hash: &str, size: &str| {
        with_files(&format!("{{\n{path:?}: {{\"hash\":{hash:?},\"size\":{size}}}}}"))
    };
    for (text, code) in [
        (String::new(), "bad_json"),
        ("[]".to_owned(), "bad_json"),
        ("{\"a\":1,}".to_owned(), "bad_json"),
        ("{} {}".to_owned(), "bad_json"),
        ("// x\n{}".to_owned(), "bad_json"),
        (format!("{}{}", "[".repeat(33), "]".repeat(33)), "bad_json"),
        ("{}".to_owned(), "missing"),
        ("{\"name\":1}".to_owned(), "bad_type"),
        ("{\"name\":\"a/b\",\"timestamp\":\"\"}".to_owned(), "bad_name"),
        ("{\"name\":\"..\",\"timestamp\":\"\"}".to_owned(), "bad_name"),
        ("{\"name\":\"a\\nb\",\"timestamp\":\"\"}".to_owned(), "bad_name"),
        ("{\"name\":\"a\",\"timestamp\":\"soon\"}".to_owned(), "bad_timestamp"),
        ("{\"name\":\"a\",\"timestamp\":\"2026-01-31T00:00:00Z\"}".to_owned(), "missing"),
        (with_files("[]"), "bad_type"),
        (with_files("{\"a\":[]}"), "bad_type"),
        (with_files("{\"a\":{}}"), "missing"),
        (file("../a", A, "3"), "bad_path"),
        (file("a/../../b", A, "3"), "bad_path"),
        (file("/etc/passwd", A, "3"), "bad_path"),
        (file("", A, "3"), "bad_path"),
        (file("a\0b", A, "3").replace("\\0", "\\u0000"), "bad_path"),
        (file("a", &A[1..], "3"), "bad_hash"),
        (file("a", A, "0"), "bad_hash"),
        (file("a", &EMPTY.to_string(), "3"), "bad_hash"),
        (file("a", A, "-1"), "bad_size"),
        (file("a", A, "3.0"), "bad_size"),
        (file("a", A, "9007199254740992"), "bad_size"),
        (file("a", A, "\"3\""), "bad_size"),
        (
            with_files(&format!("{{\"a\":{{\"hash\":\"{A}\",\"size\":3}},\"a\":{{}}}}")),
            "duplicate_key",
        ),
        (
            with_files(&format!("{{\"a\":{{\"hash\":\"{A}\",\"size\":3,\"size\":3}}}}")),
            "duplicate_key",
        ),
        (
            with_files(&format!(
                "{{\"a\":{{\"hash\":\"{A}\",\"size\":3}},\"b\":{{\"hash\":\"{A}\",\"size\":4}}}}"
            )),
            "size_conflict",
        ),
    ] {
        let refusal = refusal(&text);
        assert_eq!((refusal.status, refusal.code), (400, code), "{text}: {}", refusal.message);
        assert!(refusal.more["line"].is_u64() && refusal.more["column"].is_u64(), "{text}");
    }
    let bad = refusal(&file("../a", A, "3"));
    assert_eq!((&bad.more["path"], &bad.more["line"]), (&json!("../a"), &json!(2)));
    let twice = with_files(&format!("{{\"a\":{{\"hash\":\"{A}\",\"size\":3,\"size\":3}}}}"));
    assert_eq!(refusal(&twice).more["path"], json!("a"));
    let directories = with_files("{}").replace("{}}", "{},\"directories\":{\"a/..\":{}}}");
    assert_eq!(refusal(&directories).code, "bad_path");
    let not_utf8 = Manifest::parse(b"{\n\"\xff\":1}").unwrap_err();
    let Problem::Refusal(not_utf8) = not_utf8 else { panic!() };
    assert_eq!(
        (not_utf8.code, &not_utf8.more["line"], &not_utf8.more["column"]),
        ("bad_json", &json!(2), &json!(2))
    );
}

#[test]
fn a_member_of_the_top_may_occur_twice_as_in_the_readme() {
    let text = with_files("{}").replace("{}", "{},\"omit\":[],\"omit\":[\"x\"]");
    assert!(Manifest::parse(text.as_bytes()).is_ok());
}

#[test]
fn other_members_of_the_top_occur_once() {
    for name in ["name", "timestamp", "files", "base", "directories"] {
        let value = if name == "files" || name == "directories" { "{}" } else { "\"x\"" };
        let again = format!("{{}},\"{name}\":{value},\"{name}\":{value}");
        let text = with_files("{}").replacen("{}", &again, 1);
        let Err(Problem::Refusal(refusal)) = Manifest::parse(text.as_bytes()) else {
            panic!("{text}");
        };
        assert_eq!((refusal.status, refusal.code), (400, "duplicate_key"), "{text}");
    }
}

#[test]
fn contents_are_equal_however_they_are_written() {
    let of = |text: &str| Manifest::parse(text.as_bytes()).unwrap().content();
    let with = |more: &str, files: &str| with_files(files).replacen('{', &format!("{{{more}"), 1);
    let file = |more: &str| format!("{{\"hash\":\"{A}\",\"size\":3{more}}}");
    let files = format!("{{\"a\":{},\"é\":{}}}", file(",\"x\":[1.5]"), file(""));
    let plain = with("\"y\":{\"b\":1,\"a\":\"/\"},\"n\":100,", &files);
    let reordered = format!(
        "{{\"\\u00e9\":{{\"size\":3,\"hash\":\"{A}\"}},\"\\u0061\":{}}}",
        file(",\"x\":[15e-1]")
    );
    let same = with("\"n\":1e2,\"y\":{\"a\":\"\\/\",\"b\":1.0},", &reordered);
    assert_eq!(of(&same), of(&plain), "{same}");
    for (from, to) in
        [("[1.5]", "[1.5,1]"), ("\"b\":1", "\"b\":\"1\""), ("100", "-100"), ("\"x\"", "\"z\"")]
    {
        let other = plain.replacen(from, to, 1);
        assert!(other != plain && of(&other) != of(&plain), "{other}");
    }
}

#[test]
fn contents_are_equal_whatever_is_available() {
    let of = |text: &str| Manifest::parse(text.as_bytes()).unwrap().content();
    let plain = with_files(&format!("{{\"a b\":{{\"hash\":\"{A}\",\"size\":3}}}}"));
    for same in [
        plain.replace(":3}", ":3, \"is_available\": true}"),
        plain.replace(":3}", ":3,\"available_bytes\":[[0,1]] }"),
        plain.replace(',', " ,\n "),
    ] {
        assert_eq!(of(&same), of(&plain), "{same}");
    }
    for other in [plain.replace("a b", "ab"), plain.replace(":3}", ":3,\"x\":1}")] {
        assert_ne!(of(&other), of(&plain), "{other}");
    }
}

proptest! {
    /// Whatever an entry holds, it is the same afterwards but for availability.
    #[test]
    fn members_stay_as_they_are(
        members in prop::collection::btree_map("[a-z\"\\\\é]{1,4}", any::<u32>(), 0..4),
        ours in prop::collection::vec((0..3_usize, any::<bool>()), 0..2),
        blanks in "[ \n]{0,2}",
    ) {
        let mut all: Vec<String> = members.iter().map(|(name, value)| format!("{}{blanks}:{value}", json!(name))).collect();
        all.push(format!("\"hash\":\"{A}\""));
        all.push("\"size\":3".to_owned());
        let mut seen = HashSet::new();
        for (place, which) in ours {
            let name = if which { "is_available" } else { "available_bytes" };
            if seen.insert(name) {
                all.insert(place.min(all.len()), format!("{blanks}\"{name}\":[1,{{}}]"));
            }
        }
        let text = with_files(&format!("{{\"p\":{{{blanks}{}{blanks}}}}}", all.join(&format!("{blanks},"))));
        let written = written(&text, &[Available::Yes]);
        let mut expected: Value = serde_json::from_str(&text).unwrap();
        let entry = expected["files"]["p"].as_object_mut().unwrap();
        entry.remove("available_bytes");
        entry.insert("is_available".to_owned(), json!(true));
        let found: Value = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Manifest::parse(&bytes);
    }
}

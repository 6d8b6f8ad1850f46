//! What the SDKs offer beyond what the templates use, in both languages with the same results.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use keepgate_tests::data::{Blob, sha256};
use keepgate_tests::gateway::Gateway;
use serde_json::json;

pub(super) fn bodies_are_read_and_made(gateway: &Gateway) {
    let client = gateway.endpoint();
    assert_eq!(client.get("/faults/stream").text(), "one two three");
    let text = "a, ä, €, 😀, \u{0}";
    assert_eq!(client.post("/faults/text", text.as_bytes()).text(), text);
    for bad in [&b"\xff"[..], b"a\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"] {
        assert_eq!(client.post("/faults/text", bad).status, 400, "{bad:?}");
    }
    let value = json!({"list": [1, 2.5, null, "ü"], "nested": {"yes": true}});
    assert_eq!(client.post("/faults/json", value.to_string().as_bytes()).json(), value);
    assert_eq!(client.post("/faults/json", b"{").status, 400);
    let large = Blob::new(3, 3 << 20).bytes();
    assert_eq!(client.post("/faults/length", &large).text(), large.len().to_string());
    let refused = client.post("/faults/text", &large);
    assert!(refused.status == 413 && refused.text().contains("1048576"), "{}", refused.text());
}

pub(super) fn the_host_works_on_bodies(gateway: &Gateway) {
    let client = gateway.endpoint();
    let bytes = Blob::new(4, 1 << 20).bytes();
    let id = sha256(bytes.as_slice());
    let said = client.post("/faults/packed", &bytes).json();
    assert_eq!(said["sum"], json!({"size": bytes.len(), "sha256": id}));
    assert_eq!(said["unpacked"], id.as_str());
    assert_eq!(said["origin"], "test");
    let size = said["size"].as_u64().unwrap();
    assert_eq!(said["offset"], size - 4);
    // gzip ends with the length of what it holds.
    assert_eq!(said["tail"], json!(u32::try_from(bytes.len()).unwrap().to_le_bytes()));
    assert_eq!(client.status("DELETE", "/archive/packed.gz"), 204);

    let said = client.get("/faults/listed").json();
    assert_eq!(said["all"], json!([["a", 3], ["b/two", 2]]));
    assert_eq!(said["top"][0], json!(["a", 3]));
    assert_eq!((&said["top"][1][0], &said["gone"]), (&json!("b"), &json!(3)));
    // What a call leaves open is released: a warm instance continues.
    for _ in 0..3 {
        assert_eq!(client.post("/faults-warm/left", b"xy").text(), "POST 2");
    }
}

pub(super) fn bodies_are_held_to_hashes_and_lengths(gateway: &Gateway) {
    let client = gateway.endpoint();
    let said = client.post("/faults/held", b"abc").json();
    assert_eq!(said["verified"], json!(["abc", "checksum-mismatch"]));
    assert_eq!(said["checked"], json!([null, "abc", "abc", "checksum-mismatch"]));
    assert_eq!(said["limit"], json!(["abc", "too-large"]));
    assert_eq!(said["exactly"], json!(["abc", "too-large", "truncated"]));
    assert_eq!(said["joined"], "abcd");
    assert_eq!(said["turn"], json!(["busy", "free"]));
    assert_eq!(said["interim"], "invalid");
    let ran = |_: &Gateway| client.get("/faults/looked").json() == json!(["succeeded"]);
    gateway.eventually("the job about the mismatch has run", ran);
    // The turn was given back.
    assert_eq!(client.post("/faults/held", b"abc").status, 200);
}

pub(super) fn news_reach_subscribers(gateway: &Gateway) {
    for mount in ["/faults", "/faults-warm", "/faults-warm"] {
        let said = gateway.endpoint().get(&format!("{mount}/news")).json();
        let expected = json!({
            "told": [0, 1, 1], "came": [["one"], ["2"], "nothing"], "slow": ["missed", ["1"]],
            "closed": 0, "failures": ["invalid", "too-large"],
        });
        assert_eq!(said, expected, "{mount}");
    }
}

pub(super) fn stores_say_what_changed(gateway: &Gateway) {
    let said = gateway.endpoint().get("/faults/changed").json();
    let changes = json!([["created", null, 5], ["replaced", 5, 3], ["unchanged", null, 3]]);
    assert_eq!(said["changes"], changes);
    assert_eq!(said["joined"], json!(["created", 6, "text/plain", "b"]));
    assert_eq!(said["text"], "123bcf");
    assert_eq!(said["etags"], json!([true, true, true]), "a blob, a folder, a blob");
    assert_eq!(said["after"], json!([["f/b", "f/d"], ["f/d"], []]));
    assert_eq!(said["mismatch"][0], "checksum-mismatch");
    let actual = said["mismatch"][1].as_str().unwrap();
    assert!(actual.contains(&sha256(b"x".as_slice())), "{actual}");
    assert_eq!((&said["stale"][0], &said["removed"]), (&json!("precondition-failed"), &json!(3)));
    assert_eq!(said["tagged"], "invalid");
    assert_eq!(said["moved"], json!(["created", "f/g", 6, "replaced", 6]));
    assert_eq!(said["unmoved"], "not-found");
    assert_eq!(said["expires"], json!([true, false, "created", 1]));
}

pub(super) fn jobs_run(gateway: &Gateway) {
    let said = gateway.endpoint().post("/faults/job", b"12345").json();
    let expected = json!({"state": "succeeded", "origin": "request", "output": "5 bytes"});
    assert_eq!(said, expected);
    let said = gateway.endpoint().post("/faults/finally", b"").json();
    let expected = json!({
        "joined": true, "waiting": true, "late": true, "attempts": 3, "principal": null,
        "tidied": true,
    });
    assert_eq!(said, expected);
}

pub(super) fn keys_stay_in_the_host(gateway: &Gateway) {
    let message = "what do ya want for nothing?";
    let said = gateway.endpoint().post("/faults/secrets", message.as_bytes()).json();
    // By Python's `hmac`.
    let mac = json!([
        200, 132, 105, 0, 197, 242, 122, 240, 129, 93, 101, 178, 213, 45, 254, 81, 130, 199, 235,
        54, 24, 126, 91, 244, 85, 42, 43, 37, 216, 100, 231, 9
    ]);
    assert_eq!((&said["keys"], &said["mac"]), (&json!(["hook"]), &mac));
    assert_eq!((&said["verified"], &said["differs"]), (&json!([true, false]), &json!(true)));
    assert_eq!(said["opened"], message);
    let longer = said["sealed"].as_u64().unwrap() - message.len() as u64;
    assert!(longer <= 64, "{longer}");
    assert_eq!(said["failures"], json!(["denied", "invalid", "too-large"]));
}

pub(super) fn places_are_told(gateway: &Gateway) {
    let said = gateway.endpoint().get("/faults/place?x=%2F").json();
    let expected =
        json!(["http://localhost/faults/a%20b/c", "/faults/place?x=%2F", "127.0.0.1", true,]);
    assert_eq!(said, expected);
}

/// Nothing remains of the machine that built the component: each instance has its own randomness and the
/// current time.
pub(super) fn surroundings_are_the_hosts(gateway: &Gateway) {
    let client = gateway.endpoint();
    let chances: BTreeSet<String> =
        (0..5).map(|_| client.get("/faults/chance").json().to_string()).collect();
    assert_eq!(chances.len(), 5, "{chances:?}");
    let firsts = chances.iter().map(|chance| chance.split(',').next().unwrap());
    assert_eq!(firsts.collect::<BTreeSet<_>>().len(), 5, "{chances:?}");

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    for clock in client.get("/faults/clock").json().as_array().unwrap() {
        let late = clock.as_f64().unwrap() / 1000.0 - now;
        assert!((-1.0..60.0).contains(&late), "{late} s");
    }

    let (from, log) = (gateway.program.stderr.count(), &gateway.program.stderr);
    assert_eq!(client.status("GET", "/faults/said"), 204);
    log.wait_for(from, &["INFO", "printed", "/faults"]);
    log.wait_for(from, &["WARN", "logged", "b=\"2\""]);
    let metrics = gateway.admin.get("/metrics").text();
    let of = |line: &str, metric: &str| {
        ["js", "py"].iter().any(|it| line.starts_with(&format!("plugin_faults_{it}_{metric}{{")))
    };
    let counted = |line: &&str| of(line, "faults_said_total") && line.contains("\"x\"");
    let line = metrics.lines().find(counted).unwrap();
    assert!(line.ends_with(" 2"), "{line}");
    let set = |line: &&str| of(line, "faults_level") && line.contains("\"x\"");
    assert!(metrics.lines().find(set).unwrap().ends_with(" 0.5"));
}

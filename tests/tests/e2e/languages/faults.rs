//! Failures in a plugin: the client gets the right status, the operator the reason.

use keepgate_tests::gateway::{Gateway, Setup};
use rustix::process::Signal;
use serde_json::json;

/// A path, the status, and what is logged, in JavaScript and in Python.
const FAULTS: &[(&str, u16, [&str; 2])] = &[
    ("bug", 500, ["TypeError: cannot read property", "AttributeError: 'NoneType' object"]),
    ("thrown", 500, ["thrown: a text", "RuntimeError: a text"]),
    ("nothing", 500, ["handle() returned no Reply", "handle() returned no Reply"]),
    ("recurse", 500, ["the plugin broke down", "RecursionError"]),
    ("loop", 503, ["of CPU time", "of CPU time"]),
    ("flood", 503, ["bytes of memory", "bytes of memory"]),
    ("broken-stream", 500, ["in the middle", "in the middle"]),
];

pub(super) fn cost_one_request(gateway: &Gateway) {
    let client = gateway.endpoint();
    let log = &gateway.program.stderr;
    for mount in ["/faults", "/faults-warm"] {
        for (fault, status, said) in FAULTS {
            let from = log.count();
            // A streamed response may have begun before it broke; its client sees no end of it.
            let reply = client.connect().send("GET", &format!("{mount}/{fault}"), &[], b"");
            if let Ok(reply) = reply {
                assert_eq!(reply.status, *status, "{fault}");
                let told = said.iter().any(|said| reply.text().contains(said));
                assert!(!told, "{fault}: {}", reply.text());
            }
            // The log line of a response that had begun names the request's mount and id, but not its path.
            let lists: Vec<[&str; 3]> = said
                .iter()
                .flat_map(|said| [[mount, *fault, *said], [mount, "response aborted", *said]])
                .collect();
            let lists: Vec<&[&str]> = lists.iter().map(<[&str; 3]>::as_slice).collect();
            let (_, line) = log.wait_for_either(from, &lists);
            assert!(line.len() < 4000, "{fault}: a line of {} bytes", line.len());
            assert_eq!(client.get(&format!("{mount}/hello")).text(), "hello", "after {fault}");
        }
    }
    // The location of a bug is logged, too.
    let from = log.count();
    assert_eq!(client.status("GET", "/faults/bug"), 500);
    log.wait_for_either(from, &[&["bug (/plugin.js:"], &["in do_bug (", "plugin.py:"]]);
}

pub(super) fn have_their_status(gateway: &Gateway) {
    let client = gateway.endpoint();
    for (tag, status) in [
        ("not-found", 404),
        ("already-exists", 409),
        ("precondition-failed", 412),
        ("checksum-mismatch", 400),
        ("truncated", 400),
        ("no-space", 507),
        ("timed-out", 504),
    ] {
        assert_eq!(client.status("GET", &format!("/faults/failure?tag={tag}")), status, "{tag}");
    }
    for (tag, status) in [
        ("quota-exceeded", 507),
        ("denied", 403),
        ("invalid", 400),
        ("unsupported", 501),
        ("unavailable", 503),
        ("busy", 503),
    ] {
        let reply = client.get(&format!("/faults/failure?tag={tag}&detail=because"));
        assert_eq!(reply.status, status, "{tag}");
        assert!(reply.text().contains("because"), "{tag}: {}", reply.text());
    }
    let reply = client.get("/faults/refused?status=422&later=7");
    assert_eq!((reply.status, reply.header("retry-after")), (422, Some("7")));
    // In the form of `refusals.json`, which the template has.
    assert_eq!(reply.json(), json!({"error": "some_code", "message": "some reason"}));
    let reply = client.get("/faults/refused?status=599");
    assert_eq!((reply.status, reply.header("retry-after")), (599, None));
    let from = gateway.program.stderr.count();
    assert_eq!(client.status("GET", "/faults/refused?status=200"), 500);
    gateway.program.stderr.wait_for(from, &["refused with status 200", "some reason"]);
    let from = gateway.program.stderr.count();
    let reply = client.get("/faults/failure?tag=internal&detail=secret");
    assert!(reply.status == 500 && !reply.text().contains("secret"), "{}", reply.text());
    gateway.program.stderr.wait_for(from, &["secret"]);
    // A body can be passed on once; doing it twice is a bug, not a trap.
    let from = gateway.program.stderr.count();
    assert_eq!(client.post("/faults/twice", b"x").status, 500);
    gateway.program.stderr.wait_for(from, &["this body has been handed on"]);
    assert_eq!(client.status("DELETE", "/archive/once"), 204);
    assert_eq!(client.status("GET", "/faults/no-such-thing"), 404);
}

pub(super) fn settings_are_refused_in_words(setup: &Setup, gateway: &Gateway) {
    let mount = |path: &str| format!("path = \"{path}\"\n");
    let with = |path: &str, settings: &str| format!("settings = {{ {settings} }}\n{}", mount(path));
    // Not `reload`, because a rejection may be followed by a line that the previous plugin serves.
    let told = |texts: &[&[&str]]| {
        let from = gateway.program.stderr.count();
        gateway.program.signal(Signal::HUP);
        gateway.program.stderr.wait_for_either(from, texts);
    };
    setup.edit(|text| text.replace(&mount("/warm"), &with("/warm", "replac = true")));
    told(&[&["unknown setting", "replac"]]);
    setup.edit(|text| text.replace("replac = true", "replace = 1"));
    told(&[&["replace is true or false"]]);
    // A bug in the check is reported as one, with its location.
    setup.edit(|text| text.replace(&mount("/faults-warm"), &with("/faults-warm", "bug = 1")));
    told(&[&["Error: ", "plugin.js:"], &["Error: ", "plugin.py:"]]);
    setup.edit(|text| text.replace("settings = { bug = 1 }\n", ""));
    setup.edit(|text| text.replace("replace = 1", "replace = true"));
    gateway.program.signal(Signal::HUP);
    let client = gateway.endpoint();
    assert_eq!(client.send("PUT", "/warm/again", &[], b"one").status, 201);
    gateway.eventually("the setting counts", |_| {
        client.send("PUT", "/warm/again", &[], b"two").status == 201
    });
    assert_eq!(client.get("/warm/again").text(), "two");
    assert_eq!(client.status("DELETE", "/warm/again"), 204);
    assert_eq!(client.get("/faults-warm/hello").text(), "hello");
}

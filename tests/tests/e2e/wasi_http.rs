//! A component of the standard world `wasi:http`, made for other hosts, is served at a mount, and a bad
//! one causes the same statuses as a plugin.

use keepgate_tests::data::Blob;
use keepgate_tests::gateway::Setup;
use keepgate_tests::tools;

/// What the service is asked to do, and the status.
const MISDEEDS: &[(&str, u16)] = &[
    ("loop", 503),
    ("flood", 503),
    ("fields", 503),
    ("trap", 500),
    ("silent", 500),
    ("error", 500),
    ("sleep", 504),
];

#[test]
fn a_standard_component_is_served_at_a_mount() {
    let setup = Setup::new().mount("/", "restic", "").mount(
        "/app",
        "service",
        "settings = { GREETING = \"hello\" }\n\
         limits = { cpu = \"300ms\", time = \"2s\", faults = 0 }",
    );
    setup.install("service", &tools::guest("service"));
    let gateway = setup.start();
    let client = gateway.endpoint();
    let hello = client.get("/app/hello/a%2Fb?x=%26");
    assert_eq!(hello.status, 200);
    for part in ["/hello/a%2Fb?x=%26", "Some(\"/app\")", "user=None", "[(\"GREETING\", \"hello\")]"]
    {
        assert!(hello.text().contains(part), "{part}: {}", hello.text());
    }
    let body = Blob::new(1, 500_000).bytes();
    assert_eq!(client.post("/app/echo", &body).body, body);
    assert_eq!(client.post("/app/length", &body).text(), "500000");
    assert_eq!(client.post("/app/ignore", &body).status, 403);
    assert!(client.get("/app/fetch").text().contains("HttpRequestDenied"));
    for (misdeed, status) in MISDEEDS {
        let refused = client.get(&format!("/app/{misdeed}"));
        assert_eq!(refused.status, *status, "{misdeed}: {}", refused.text());
        assert_eq!(client.get("/app/length").text(), "0");
    }
    for misdeed in ["break-off", "unfinished"] {
        let mut connection = client.connect();
        connection.write_head("GET", &format!("/app/{misdeed}"), &[]).unwrap();
        let whole = connection.reply("GET").is_ok_and(|reply| reply.status == 200);
        assert!(!whole, "{misdeed} is taken for a whole reply");
    }
    assert_eq!(client.status("GET", "/config"), 404);
    gateway.stop();
}

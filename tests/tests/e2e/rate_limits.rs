//! Rate limits of a mount, from the configuration to the metric. The periods are longer than any test.

use keepgate_tests::gateway::Setup;

#[test]
fn a_reload_keeps_the_counts_of_limits_that_stay_the_same() {
    let limits = "[mount.rate_limit.logins]\nby = \"address\"\nrequests = 3\nper = \"24h\"\ncount = \"failed\"\n\
                  [mount.rate_limit.writes]\nby = \"principal\"\nrequests = 2\nper = \"12h\"\nmethods = [\"POST\"]\n\
                  paths = [\"/*/data/*\"]\n";
    let setup =
        Setup::new().user("alice", "secret").user("bob", "hunter2").mount("/", "restic", limits);
    let gateway = setup.start();
    let (alice, bob) = (gateway.as_user("alice", "secret"), gateway.as_user("bob", "hunter2"));
    assert_eq!(alice.post("/r/?create=true", b"").status, 200);
    let blob = keepgate_tests::data::Blob::new(1, 10);
    let path = format!("/r/data/{}", blob.id());
    for _ in 0..2 {
        assert_eq!(alice.post(&path, &blob.bytes()).status, 200);
    }
    let refused = alice.post(&path, &blob.bytes());
    assert_eq!(refused.status, 429);
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=6 * 3600).contains(&after), "{after}");
    let text = refused.text();
    assert!(text.contains("\"writes\" allows each user 2 requests in 12h"), "{text}");
    assert_eq!(bob.post(&path, &blob.bytes()).status, 200);
    assert_eq!(alice.status("GET", &path), 200);

    let (_, line) = gateway.program.stderr.wait_for(0, &["rate limit exceeded", "alice"]);
    assert!(line.contains("limit=\"writes\"") && line.contains("peer=127.0.0.1"), "{line}");
    let metric = "keepgate_http_rate_limited_total{limit=\"writes\",mount=\"/\"}";
    assert_eq!(gateway.metric(metric), 1.0);

    gateway.reload();
    assert_eq!(alice.status("POST", &path), 429);
    setup.edit(|text| text.replace("requests = 2\n", "requests = 4\n"));
    gateway.reload();
    assert_eq!(alice.post(&path, &blob.bytes()).status, 200, "a limit that changed begins anew");

    // Guesses end before they are right.
    for guess in ["a", "b", "c"] {
        assert_eq!(gateway.as_user("bob", guess).status("GET", &path), 401);
    }
    assert_eq!(bob.status("GET", &path), 429);
    gateway.reload();
    assert_eq!(bob.status("GET", &path), 429);
    setup.edit(|text| text.replace("requests = 4\n", "requests = 0\n"));
    let said = gateway.reload();
    assert!(said.contains("rate_limit.writes: requests: expected a number from 1"), "{said}");
    assert_eq!(bob.status("GET", &path), 429);
    gateway.stop();
}

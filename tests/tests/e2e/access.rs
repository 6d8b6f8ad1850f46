//! Authentication, private repositories, and plain HTTP sent to a TLS port.

use keepgate_tests::data::Blob;
use keepgate_tests::gateway::Setup;
use keepgate_tests::tools;

#[test]
fn private_repositories_belong_to_their_users() {
    let setup = Setup::new().tls().user("alice", "secret").user("bob", "hunter2").mount(
        "/",
        "restic",
        "settings = { private_repos = true }",
    );
    let gateway = setup.start();
    let (alice, bob) = (gateway.as_user("alice", "secret"), gateway.as_user("bob", "hunter2"));
    for (client, repository) in [(&alice, "/alice/"), (&alice, "/alice/laptop/"), (&bob, "/bob/")] {
        let created = client.post(&format!("{repository}?create=true"), b"");
        assert_eq!(created.status, 200, "{repository}");
    }
    let id = Blob::new(1, 10).id();
    for path in [
        "/".to_owned(),
        "/bob/".to_owned(),
        "/bob/config".to_owned(),
        "/bob/laptop/data/".to_owned(),
        format!("/bob/data/{id}"),
        "/config".to_owned(),
        "/data/".to_owned(),
        "/Alice/".to_owned(),
        "/alice2/".to_owned(),
        "/alic/".to_owned(),
        "/bob%2Falice/config".to_owned(),
    ] {
        for method in ["GET", "HEAD", "POST", "DELETE"] {
            let refused = alice.send(method, &path, &[], b"");
            assert_eq!(refused.status, 401, "{method} {path}");
            let challenge = refused.header("www-authenticate").unwrap_or_default();
            assert!(challenge.starts_with("Basic realm="), "{method} {path}: {challenge}");
        }
    }
    for path in ["/alice/../bob/config", "/alice/%2e%2e/bob/config", "/alice%2F..%2Fbob/config"] {
        let status = alice.status("GET", path);
        assert!(matches!(status, 401 | 404), "{path}: {status}");
    }
    assert_eq!(alice.get("/alice/data/").text(), "[]");
    assert!(!setup.store().join("alice2").exists());
    gateway.stop();
}

#[test]
fn a_plugin_can_judge_credentials_itself() {
    let mount = |path: &str, auth: &str| {
        format!("[[mount]]\npath = {path:?}\nplugin = \"service\"\nauth = {auth}\n")
    };
    let tables = mount("/own", "[\"plugin\"]") + &mount("/both", "[\"users\", \"plugin\"]");
    let setup = Setup::new().user("alice", "secret").mount("/", "restic", "").table(&tables);
    setup.install("service", &tools::guest("service"));
    let gateway = setup.start();
    let (nobody, alice) = (gateway.endpoint(), gateway.as_user("alice", "secret"));
    for mount in ["own", "both"] {
        let ask = |authorization: &str| {
            let headers = [("Authorization", authorization)];
            nobody.send("GET", &format!("/{mount}/credentials"), &headers, b"")
        };
        let let_in = ask("Bearer sesame");
        assert_eq!((let_in.status, &*let_in.text()), (200, r#"None Some("Bearer sesame")"#));
        let refused = ask("Bearer mellon");
        assert_eq!((refused.status, &*refused.text()), (401, r#"None Some("Bearer mellon")"#));
    }
    // A password for the host stays in the host; alone, the plugin gets whatever was sent.
    let by_password = alice.get("/both/credentials");
    assert_eq!((by_password.status, &*by_password.text()), (200, r#"Some("alice") None"#));
    let by_plugin = alice.get("/own/credentials");
    assert_eq!(by_plugin.status, 401);
    assert!(by_plugin.text().starts_with(r#"None Some("Basic "#), "{}", by_plugin.text());
    // Whom the host refuses does not reach the plugin.
    let wrong = gateway.as_user("alice", "wrong").get("/both/credentials");
    assert!(wrong.status == 401 && !wrong.text().contains("Basic"), "{}", wrong.text());
    gateway.stop();
}

#[test]
fn unauthenticated_requests_get_401() {
    let setup = Setup::new().user("alice", "secret").mount("/", "restic", "");
    let gateway = setup.start();
    let nobody = gateway.endpoint();
    assert_eq!(gateway.as_user("alice", "secret").status("GET", "/r/config"), 404);
    for (name, password) in [
        ("alice", "wrong"),
        ("alice", ""),
        ("alice", "secret "),
        ("Alice", "secret"),
        ("bob", "secret"),
        ("", "secret"),
        ("alice:secret", ""),
    ] {
        let refused = gateway.as_user(name, password).get("/r/config");
        assert_eq!(refused.status, 401, "{name}:{password}");
        assert!(refused.header("www-authenticate").is_some());
    }
    for value in ["Basic", "Basic !!!", "Bearer abc", "Basic YWxpY2U=", ""] {
        let refused = nobody.send("GET", "/r/config", &[("authorization", value)], b"");
        assert_eq!(refused.status, 401, "{value}");
    }
    // Nothing that they send is stored, and they get the response although they are still sending.
    let blob = Blob::new(3, 8 << 20);
    assert_eq!(nobody.post(&format!("/r/data/{}", blob.id()), &blob.bytes()).status, 401);
    assert!(!setup.store().join("r").exists());
    let (_, line) = gateway.program.stderr.wait_for(0, &["login failed", "bob"]);
    assert!(line.contains("127.0.0.1") && !line.contains("secret"), "{line}");
    assert_eq!(gateway.metric("keepgate_http_login_failures_total{mount=\"/\"}"), 7.0);
    gateway.stop();
}

#[test]
fn plain_http_to_the_tls_port_is_explained() {
    let gateway = Setup::restic().tls().start();
    let plain = keepgate_tests::client::Endpoint::tcp(([127, 0, 0, 1], gateway.port()).into());
    let reply = plain.get("/r/config");
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("https://"), "{}", reply.text());
    assert_eq!(gateway.endpoint().status("GET", "/r/config"), 404);
    gateway.stop();
}

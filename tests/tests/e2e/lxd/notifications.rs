//! Notifications of backups: signed, tried again, and never to an address that the operator does not allow.

use keepgate_tests::lxd::LxdServer;
use keepgate_tests::receiver::Receiver;
use keepgate_tests::s3::S3Server;
use ring::hmac;
use serde_json::{Value, json};

use super::{end, post, setup};

const KEY: &str = "a key of a test, sixteen";

/// How an address is written in a query.
fn encoded(url: &str) -> String {
    url.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn receivers_are_notified_if_the_operator_allows_them() {
    let check = "notifications of backups of LXD";
    let (Some(lxd), Some(server)) = (LxdServer::find(check), S3Server::find(check)) else { return };
    let wanted = Receiver::start();
    let inside = Receiver::start();
    wanted.answer_next(&["500 Broken", "302 Found\r\nlocation: /elsewhere"]);
    let (allowed, secret) = (wanted.port(), inside.port());
    let addresses = format!(
        "[upstream.hooks]\naddresses = [\n\
         {{ url = \"http://127.0.0.1:{allowed}/hook\", private = true }},\n\
         {{ url = \"http://127.0.0.1:{secret}/\" }},\n\
         {{ url = \"http://[::1]:{secret}/\" }},\n\
         {{ url = \"http://localhost:{secret}/\" }},\n\
         {{ url = \"http://169.254.169.254/\" }},\n]"
    );
    let mount = "upstreams = { lxd = \"lxd\", notifications = \"hooks\" }\n\
                 secrets.hmac = { notifications = \"hook.key\" }";
    let setup = setup_with(&server, &lxd, &addresses, mount);
    std::fs::write(setup.path("hook.key"), KEY).unwrap();
    let gateway = setup.start();
    let endpoint = gateway.endpoint();
    lxd.instance("c1", b"small");
    let path = "/1.0/instances/c1/backups";
    let notifying = |url: &str| format!("{path}?optimize=0&notifyEndpoint={}", encoded(url));

    let url = format!("http://127.0.0.1:{allowed}/hook?a=b");
    let started = post(&endpoint, &notifying(&url));
    assert_eq!(end(&endpoint, &started)["status"], "Success");
    gateway.eventually("both are delivered", |_| wanted.requests().len() == 4);
    let requests = wanted.requests();
    let events: Vec<Value> =
        requests.iter().map(|it| serde_json::from_slice(&it.body).unwrap()).collect();
    for (request, event) in requests.iter().zip(&events) {
        assert_eq!(request.line, "POST /hook?a=b HTTP/1.1", "redirects are not followed");
        let tag = request.header("x-keepgate-signature").unwrap();
        let tag = hex::decode(tag.strip_prefix("sha256=").unwrap()).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
        hmac::verify(&key, &request.body, &tag).unwrap();
        assert_eq!((&event["opType"], &event["instance"]), (&json!("backup"), &json!("c1")));
        assert_eq!(event["name"], started["metadata"]["name"]);
        assert_eq!(event["rawURL"], format!("{path}?optimize=0"), "the receiver may be a secret");
    }
    let states = |state: &str| events.iter().filter(|event| event["state"] == state).count();
    assert_eq!(states("started") + states("success"), 4);
    assert!(states("started") > 0 && states("success") > 0, "{events:?}");

    for url in [
        // Not on the list.
        "http://127.0.0.1:1/hook".to_owned(),
        format!("https://127.0.0.1:{allowed}/hook"),
        format!("http://127.0.0.1:{allowed}/hooks"),
        format!("http://127.0.0.1:{allowed}/"),
        format!("http://127.0.0.1.nip.io:{allowed}/hook"),
        "http://metadata.google.internal/computeMetadata/v1/".to_owned(),
        // On the list, and in the gateway's own network.
        format!("http://127.0.0.1:{secret}/"),
        format!("http://[::1]:{secret}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        // The same in disguise.
        format!("http://2130706433:{secret}/"),
        format!("http://0x7f000001:{secret}/"),
        format!("http://0177.0.0.1:{secret}/"),
        format!("http://127.1:{secret}/"),
        format!("http://[::ffff:127.0.0.1]:{secret}/"),
        format!("http://127.0.0.1:{allowed}/hook/../x"),
        format!("http://127.0.0.1:{allowed}/hook/%2e%2e/x"),
        format!("http://127.0.0.1:{allowed}\\@127.0.0.1:{secret}/hook"),
        format!("http://ann:secret@127.0.0.1:{allowed}/hook"),
        format!("http://127.0.0.1:{allowed}#@127.0.0.1:{secret}/"),
        format!("http://127.0.0.1:{allowed}/hook\r\nx: y"),
        // No addresses of HTTP.
        "file:///etc/passwd".to_owned(),
        format!("gopher://127.0.0.1:{secret}/_x"),
        "unix:/var/lib/lxd/unix.socket".to_owned(),
        format!("//127.0.0.1:{secret}/"),
        "http://".to_owned(),
    ] {
        let reply = endpoint.post(&notifying(&url), b"");
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!(400)), "{url}");
        let error = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(error.starts_with("notifyEndpoint: "), "{url}: {error}");
    }

    // What a name leads to is found out when it is dialled.
    let started = post(&endpoint, &notifying(&format!("http://localhost:{secret}/")));
    assert_eq!(end(&endpoint, &started)["status"], "Success", "no backup waits for a receiver");
    let (_, said) = gateway.program.stderr.wait_for(0, &["job failed", "kind=\"notify\""]);
    assert!(said.contains("not allowed"), "{said}");
    assert!(inside.requests().is_empty(), "{:?}", inside.requests());
    assert_eq!(wanted.requests().len(), 4);
    gateway.stop();
}

fn setup_with(
    server: &S3Server,
    lxd: &LxdServer,
    addresses: &str,
    mount: &str,
) -> keepgate_tests::gateway::Setup {
    let setup = keepgate_tests::gateway::Setup::new()
        .in_bucket(server, "backups", "")
        .table(&lxd.by_socket())
        .table(addresses)
        .mount("/", "lxd", mount);
    setup.install("lxd", &keepgate_tests::tools::plugin("lxd"));
    setup
}

/// A mount whose plugin may notify nobody says so at once.
#[test]
fn without_a_list_nobody_is_notified() {
    let check = "a gateway that notifies nobody";
    let (Some(lxd), Some(server)) = (LxdServer::find(check), S3Server::find(check)) else { return };
    let gateway = setup(&server, "").table(&lxd.by_socket()).start();
    let path = format!("/1.0/instances/c1/backups?notifyEndpoint={}", encoded("http://h/"));
    let reply = gateway.endpoint().post(&path, b"");
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("notifies nobody"), "{}", reply.text());
    gateway.stop();
}

//! Instances with ECDSA keys: assertions, access tokens, tokens that the instance signs itself, and what ends them.

use std::process::Command;

use keepgate_tests::client::Reply;
use keepgate_tests::databacker::oauth::{Key, form};
use keepgate_tests::databacker::wire::{Identity, Url, send};
use keepgate_tests::gateway::{Gateway, text};
use keepgate_tests::tools;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;

use super::{Admin, MOUNT, URL, mounted};

/// A key that openssl has made, as the documentation tells people to.
fn key() -> Key {
    let Some(openssl) = tools::find_for("openssl", "tokens with a key of openssl") else {
        return Key::generate();
    };
    let folder = tempfile::tempdir().unwrap();
    let private = folder.path().join("key.pem");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&openssl);
        command.args(arguments);
        tools::run(command).success()
    };
    run(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        text(&private),
    ]);
    let public = run(&["pkey", "-in", text(&private), "-pubout"]);
    let der = PrivatePkcs8KeyDer::from_pem_file(&private).unwrap();
    Key::read(der.secret_pkcs8_der(), &public)
}

/// Requests of clients without a certificate.
struct Client {
    port: u16,
    identity: Identity,
}

impl Client {
    fn new(gateway: &Gateway, pin: &str) -> Self {
        Self { port: gateway.port(), identity: Identity::none(&[pin.to_owned()]) }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("https://127.0.0.1:{}{MOUNT}{path}", self.port)).unwrap()
    }

    #[track_caller]
    fn ask(&self, assertion: &str) -> Reply {
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let url = self.url("/oauth2/token");
        send("POST", &url, &self.identity, &headers, form(assertion).as_bytes()).unwrap()
    }

    #[track_caller]
    fn token(&self, assertion: &str) -> String {
        let reply = self.ask(assertion);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let answer = reply.json();
        assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(900)));
        answer["access_token"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn get(&self, path: &str, token: &str, identity: &Identity) -> Reply {
        let bearer = format!("Bearer {token}");
        send("GET", &self.url(path), identity, &[("Authorization", &bearer)], b"").unwrap()
    }
}

#[test]
fn assertions_are_good_once_and_for_their_own_instance() {
    let mounted = mounted("", "");
    let gateway = mounted.setup.start();
    let admin = Admin::ann(&gateway);
    let client = Client::new(&gateway, &mounted.leaf);
    let (key, other) = (key(), Key::generate());
    let register = |key: &Key| {
        let made = admin.post("/admin/instances", &json!({"publicKey": key.public_key()}));
        made["id"].as_str().unwrap().to_owned()
    };
    let (id, other_id) = (register(&key), register(&other));
    let endpoint = format!("{URL}/oauth2/token");
    for audience in [URL, &endpoint] {
        client.token(&key.assertion(&id, audience, 300));
    }

    let used = key.assertion(&id, URL, 300);
    client.token(&used);
    for (what, assertion) in [
        ("replayed", used),
        ("expired", key.assertion(&id, URL, -300)),
        ("too long", key.assertion(&id, URL, 7200)),
        ("another key", other.assertion(&id, URL, 300)),
        ("another instance", key.assertion(&other_id, URL, 300)),
        ("another audience", key.assertion(&id, "https://other.example.org", 300)),
        ("nobody", key.assertion("00000000-0000-4000-8000-000000000000", URL, 300)),
        ("rubbish", "a.b.c".to_owned()),
    ] {
        let refused = client.ask(&assertion);
        assert_eq!(refused.status, 401, "{what}: {}", refused.text());
        assert_eq!(refused.json()["error"], "invalid_client", "{what}");
    }
    gateway.stop();
}

#[test]
fn tokens_open_the_instances_configuration_until_its_key_is_removed() {
    let mounted = mounted("", "");
    let gateway = mounted.setup.start();
    let admin = Admin::ann(&gateway);
    let client = Client::new(&gateway, &mounted.leaf);
    let key = key();
    let made = admin.post("/admin/instances", &json!({"publicKey": key.public_key()}));
    let (id, kid) = (made["id"].as_str().unwrap(), made["keys"][0]["kid"].as_str().unwrap());
    let other = admin.register(&mounted);
    let spec = json!({"logging": "info"});
    let document =
        json!({"version": "config.databack.io/v1", "kind": "local", "metadata": {}, "spec": spec});
    let put = admin.send("PUT", &format!("/admin/instances/{id}/config"), &document.to_string());
    assert_eq!(put.status, 201, "{}", put.text());
    admin.configure(&other, "", &document, 201);

    let path = format!("/engines/config/{id}");
    let (token, own) = (client.token(&key.assertion(id, URL, 300)), key.assertion(id, URL, 1800));
    for token in [&token, &own] {
        let reply = client.get(&path, token, &client.identity);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["spec"], spec);
        let foreign = format!("/engines/config/{}", other.id);
        assert_eq!(client.get(&foreign, token, &client.identity).status, 404);
    }
    // A token that is wrong is refused, although the certificate is right.
    let certified = Identity::new(&other.seed, std::slice::from_ref(&mounted.leaf));
    let foreign = format!("/engines/config/{}", other.id);
    let refused = client.get(&foreign, &format!("{token}x"), &certified);
    assert_eq!(refused.status, 401, "{}", refused.text());
    let challenge = refused.header("www-authenticate");
    assert_eq!(challenge, Some("Bearer error=\"invalid_token\""));

    let last = format!("/admin/instances/{id}/keys/{kid}");
    assert_eq!(admin.send("DELETE", &last, "").status, 409);
    assert_eq!(admin.send("DELETE", &format!("{last}?force=true"), "").status, 204);
    for token in [&token, &own] {
        assert_eq!(client.get(&path, token, &client.identity).status, 401);
    }
    assert_eq!(client.ask(&key.assertion(id, URL, 300)).status, 401);
    gateway.stop();
}

//! Configurations: what administrators write, and what instances get of it.

mod kept;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use p256::ecdsa::SigningKey;

use super::keys::{key_pair, signed};
use super::*;
use crate::config::encrypt;

/// The public key of the private key 00 01 … 1f.
const ENCRYPTION_KEY: &str = "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=";

/// An instance and its key.
struct Client {
    id: String,
    key: SigningKey,
}

impl Client {
    fn new(host: &Host) -> Self {
        Self::with_key(host, 1, Some(ENCRYPTION_KEY))
    }

    fn with_key(host: &Host, number: u8, encryption: Option<&str>) -> Self {
        let (key, pem) = key_pair(number);
        let body = json!({"publicKey": pem, "encryptionPublicKey": encryption});
        Self { id: register(host, &body)["id"].as_str().unwrap().to_owned(), key }
    }

    fn path(&self) -> String {
        format!("/admin/instances/{}/config", self.id)
    }

    /// A request of the instance.
    fn get(&self, host: &Host, path: &str) -> RequestBuilder {
        signed(&self.key, &self.id, host.get(path))
    }

    fn put(&self, host: &Host, body: &Value) -> TestReply {
        ann(host.request("PUT", &self.path()).body(body.to_string().as_bytes()))
    }

    /// What the instance gets.
    fn served(&self, host: &Host) -> Value {
        let reply = send(self.get(host, &format!("/engines/config/{}", self.id)));
        assert_eq!(reply.status, 200, "{}", reply.text());
        json_of(&reply)
    }
}

fn local(password: &str) -> Value {
    json!({
        "version": "config.databack.io/v1",
        "kind": "local",
        "spec": {"database": {"credentials": {"username": "root", "password": password}}},
        "metadata": {},
    })
}

#[test]
fn what_is_written_is_served_and_each_change_is_a_revision() {
    let host = host();
    let client = Client::new(&host);
    let first = client.put(&host, &local("one"));
    assert_eq!(first.status, 201, "{}", first.text());
    let location = format!("http://localhost{}/revisions/1", client.path());
    assert_eq!(first.header("location"), Some(location.as_str()));
    assert_eq!(client.served(&host), local("one"));

    let again = client.put(&host, &local("one"));
    assert_eq!((again.status, json_of(&again)), (200, json_of(&first)));
    let second = client.put(&host, &local("two"));
    assert_eq!((second.status, json_of(&second)["revision"].as_u64()), (200, Some(2)));
    assert_eq!(client.served(&host), local("two"));

    let list = ann(host.get(&format!("{}/revisions", client.path())));
    assert_eq!(json_of(&list), json!([json_of(&second), json_of(&first)]));
    assert_eq!(json_of(&first)["by"], "ann");
    assert!(!list.text().contains("one") && !list.text().contains("root"));
    let page = ann(host.get(&format!("{}/revisions?limit=1", client.path())));
    assert!(page.header("link").unwrap().contains("limit=1&after=2"), "{page:?}");
    let rest = ann(host.get(&format!("{}/revisions?limit=1&after=2", client.path())));
    assert_eq!((json_of(&rest), rest.header("link")), (json!([json_of(&first)]), None));
    assert_eq!(ann(host.get(&format!("{}/revisions?after=x", client.path()))).status, 400);

    let old = format!("{}/revisions/1", client.path());
    assert_eq!(json_of(&ann(host.get(&old)))["config"], local("one"));
    assert_eq!(ann(host.get(&format!("{}/revisions/3", client.path()))).status, 404);
    assert_eq!(ann(host.get(&format!("{}/revisions/x", client.path()))).status, 404);
    let restored = ann(host.post(&format!("{old}/restore"), b""));
    assert_eq!((restored.status, json_of(&restored)["revision"].as_u64()), (201, Some(3)));
    assert_eq!(json_of(&restored)["digest"], json_of(&first)["digest"]);
    assert_eq!(client.served(&host), local("one"));
    // What is current is not restored again.
    let repeated = ann(host.post(&format!("{old}/restore"), b""));
    assert_eq!((repeated.status, json_of(&repeated)["revision"].as_u64()), (200, Some(3)));
}

#[test]
fn instances_get_theirs_at_all_paths_and_once() {
    let host = host();
    let client = Client::new(&host);
    let path = format!("/engines/config/{}", client.id);
    let none = send(client.get(&host, &path));
    assert_eq!(none.status, 404);
    assert!(none.text().contains("no configuration has been written"), "{}", none.text());
    assert_eq!(send(host.get(&path)).status, 401);
    assert_eq!(send(host.get("/")).status, 401);

    // Without metadata, in several lines, and with what readers of YAML do not take.
    let text = "{\"version\":\"config.databack.io/v1\",\n\t\"kind\":\"local\",\"spec\":{\"dump\":{\"include\":\
                [\"\\u00e9\\/\\ud83d\\ude00\u{2028}\"]}}}";
    assert_eq!(ann(host.request("PUT", &client.path()).body(text.as_bytes())).status, 201);
    let expected = "{\"kind\":\"local\",\"metadata\":{},\"spec\":{\"dump\":{\"include\":\
                    [\"\u{e9}/\u{1f600}\\u2028\"]}},\"version\":\"config.databack.io/v1\"}";
    for path in [path.clone(), format!("/config/{}", client.id), "/".to_owned()] {
        let reply = send(client.get(&host, &path));
        assert_eq!((reply.status, reply.text()), (200, expected.to_owned()), "{path}");
        assert_eq!(reply.header("content-type"), Some("application/vnd.databack.config.v1+json"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    let got = send(client.get(&host, &path));
    let etag = got.header("etag").unwrap();
    let same = send(client.get(&host, &path).header("if-none-match", etag));
    assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, Some(etag)));
    let plain = send(client.get(&host, &path).header("accept", "application/json"));
    assert_eq!(plain.header("content-type"), Some("application/json"));
    assert_eq!(send(client.get(&host, &path).header("accept", "text/html")).status, 406);

    let other = Client::with_key(&host, 2, None);
    assert_eq!(send(other.get(&host, &path)).status, 404);
    let disabled = br#"{"state":"disabled"}"#;
    let instance = format!("/admin/instances/{}", client.id);
    assert_eq!(ann(host.request("PATCH", &instance).body(disabled)).status, 200);
    assert_eq!(send(client.get(&host, &path)).status, 403);
}

#[test]
fn conditions_are_honoured() {
    let host = host();
    let client = Client::new(&host);
    let put = |password: &str, name: &str, value: &str| {
        let body = local(password).to_string();
        ann(host.request("PUT", &client.path()).body(body.as_bytes()).header(name, value))
    };
    assert_eq!(put("one", "if-match", "*").status, 412);
    let first = put("one", "if-none-match", "*");
    let etag = first.header("etag").unwrap();
    assert_eq!(first.status, 201);
    assert_eq!(put("two", "if-none-match", "*").status, 412);
    assert_eq!(put("two", "if-match", &format!("\"x\", {etag}")).status, 200);
    assert_eq!(put("three", "if-match", etag).status, 412);
    assert_eq!(put("three", "if-match", &format!("W/{etag}")).status, 412);
    assert_eq!(put("three", "if-match", "*").status, 200);
    let read = ann(host.get(&client.path()));
    assert_eq!(json_of(&read), local("three"));
    let same = ann(host.get(&client.path()).header("if-none-match", read.header("etag").unwrap()));
    assert_eq!(same.status, 304);
    let old = format!("{}/revisions/1/restore", client.path());
    assert_eq!(ann(host.post(&old, b"").header("if-match", etag)).status, 412);
}

#[test]
fn bad_documents_are_refused_with_their_place() {
    let host = host();
    let client = Client::new(&host);
    let put = |body: &[u8]| ann(host.request("PUT", &client.path()).body(body));
    let yaml = put(b"version: config.databack.io/v1\n");
    assert_eq!(yaml.status, 400);
    assert!(yaml.text().contains("line 1 column 1; configurations are written in JSON"));
    assert_eq!(put(b"").status, 400);
    assert_eq!(put(b"{\"a\":1,\"a\":2}").status, 400);
    for open in ["[", "{\"a\":"] {
        let deep = put(open.repeat(100_000).as_bytes());
        assert_eq!(deep.status, 400);
        assert!(deep.text().contains("recursion limit"), "{}", deep.text());
    }
    assert_eq!(put(&vec![b' '; (1 << 20) + 1]).status, 413);
    let longest = put(&vec![b' '; 1 << 20]);
    assert_eq!(longest.status, 400);

    let wrong = client.put(&host, &json!({"version": 1, "kind": "local", "spec": {"x": 1}}));
    assert_eq!(wrong.status, 422);
    let faults = json_of(&wrong);
    assert_eq!(faults["message"], "the configuration has 2 faults");
    assert_eq!(
        (&faults["errors"][0]["path"], &faults["errors"][1]["path"]),
        (&json!("version"), &json!("spec.x"))
    );
    let request = host.request("PUT", &client.path()).body(local("x").to_string().as_bytes());
    assert_eq!(ann(request.header("content-type", "application/yaml")).status, 415);
    assert!(host.keys().is_empty() && ann(host.get(&client.path())).status == 404);
}

#[test]
fn long_documents_are_kept_and_longer_ones_refused() {
    let host = host();
    let client = Client::new(&host);
    let of = |length: usize| {
        let mut document = local("x");
        let rest =
            length - document.to_string().len() - "\"dump\":{\"filenamePattern\":\"\"},".len();
        document["spec"]["dump"] = json!({"filenamePattern": "x".repeat(rest)});
        assert_eq!(document.to_string().len(), length);
        document
    };
    // Longer than a record may be.
    assert_eq!(client.put(&host, &of(300 << 10)).status, 201);
    assert_eq!(client.served(&host), of(300 << 10));
    assert_eq!(client.put(&host, &of((1 << 20) + 1)).status, 413);
    let url = format!("{}?encrypt=aes256-gcm", client.path());
    let long = ann(host.request("PUT", &url).body(of(1 << 20).to_string().as_bytes()));
    assert_eq!(long.status, 413, "{}", long.text());
}

#[test]
fn plaintext_is_encrypted_for_the_instance_and_for_nobody_else() {
    let host = host();
    let client = Client::new(&host);
    let private: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).unwrap());
    for algorithm in ["aes256-gcm", "chacha20-poly1305"] {
        let url = format!("{}?encrypt={algorithm}", client.path());
        let reply = ann(host.request("PUT", &url).body(local("s3cret").to_string().as_bytes()));
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text());
        assert_eq!(json_of(&reply)["kind"], "encrypted");
        let served = client.served(&host);
        assert_eq!(
            (&served["kind"], &served["spec"]["algorithm"]),
            (&json!("encrypted"), &json!(algorithm))
        );
        assert_eq!(served["spec"]["recipientPublicKey"], ENCRYPTION_KEY);
        let plaintext = encrypt::tests::decrypt(&served["spec"], private);
        assert_eq!(serde_json::from_slice::<Value>(&plaintext).unwrap(), local("s3cret"));
        // What was encrypted is right as it is.
        assert_eq!(client.put(&host, &served).status, 200);
    }
    let url = format!("{}?encrypt=rot13", client.path());
    assert_eq!(ann(host.request("PUT", &url).body(b"{}")).status, 400);
    let url = format!("{}?encrypt=aes256-gcm", client.path());
    assert_eq!(ann(host.request("PUT", &url).body(b"{}")).status, 422);

    let without = Client::with_key(&host, 2, None);
    let low = Client::with_key(&host, 3, Some(&BASE64_STANDARD.encode([0; 32])));
    for client in [without, low] {
        let url = format!("{}?encrypt=aes256-gcm", client.path());
        let reply = ann(host.request("PUT", &url).body(local("x").to_string().as_bytes()));
        assert_eq!(
            (reply.status, &json_of(&reply)["errors"][0]["path"]),
            (422, &json!("encryptionPublicKey"))
        );
    }
    // After a change of its key, the old ones cannot be restored.
    let key = json!({"encryptionPublicKey": BASE64_STANDARD.encode([9; 32])}).to_string();
    let instance = format!("/admin/instances/{}", client.id);
    assert_eq!(ann(host.request("PATCH", &instance).body(key.as_bytes())).status, 200);
    let restore = ann(host.post(&format!("{}/revisions/1/restore", client.path()), b""));
    assert_eq!(
        (restore.status, &json_of(&restore)["errors"][0]["path"]),
        (422, &json!("spec.recipientPublicKey"))
    );
}

#[test]
fn only_administrators_of_the_instance_write_and_look() {
    let host = host();
    let client = Client::new(&host);
    client.put(&host, &local("x"));
    let body = local("y").to_string();
    let put =
        |user: &str| send(host.request("PUT", &client.path()).body(body.as_bytes()).user(user));
    assert_eq!((put("bob").status, put("eve").status, put("mallory").status), (403, 404, 403));
    assert_eq!(send(host.get(&client.path()).user("bob")).status, 200);
    for path in ["", "/revisions", "/revisions/1"] {
        let path = format!("{}{path}", client.path());
        assert_eq!(send(host.get(&path).user("eve")).status, 404);
        assert_eq!(send(host.get(&path)).status, 401);
        // The instance is no administrator.
        assert_eq!(send(client.get(&host, &path)).status, 401);
    }
    let restore = format!("{}/revisions/1/restore", client.path());
    assert_eq!(send(host.post(&restore, b"").user("bob")).status, 403);
    let audited = host.record_keys().into_iter().filter(|key| key.starts_with("a/"));
    let audited: Vec<String> =
        audited.map(|key| String::from_utf8(host.record(&key).unwrap()).unwrap()).collect();
    assert_eq!(audited.len(), 2);
    assert!(
        audited
            .iter()
            .any(|entry| entry.contains("config.put") && entry.contains("revision 1, local"))
    );
}

//! Registration, keys, and who may do it.

use super::*;
use crate::key::tests::ED25519_PEM;

fn of(name: &str) -> Value {
    json!({"publicKey": ED25519_PEM, "name": name})
}

#[test]
fn an_instance_is_registered_shown_changed_and_removed() {
    let host = host();
    assert_eq!(json_of(&ann(host.get("/admin/instances"))), json!([]));
    let instance = register(&host, &of("db1"));
    let id = instance["id"].as_str().unwrap();
    assert_eq!(instance["configUrl"], format!("{URL}/engines/config/{id}"));
    assert_eq!(instance["state"], "active");
    let path = format!("/admin/instances/{id}");
    assert_eq!(json_of(&ann(host.get(&path))), instance);

    let changed = ann(host.request("PATCH", &path).body(br#"{"state":"disabled","name":"old"}"#));
    assert_eq!((changed.status, &json_of(&changed)["state"]), (200, &json!("disabled")));
    let list = json_of(&ann(host.get("/admin/instances")));
    assert_eq!((list[0]["name"].as_str(), list[0]["keys"].as_str()), (Some("old"), None));

    assert_eq!(ann(host.request("DELETE", &path)).status, 204);
    assert_eq!(ann(host.get(&path)).status, 404);
    assert_eq!(ann(host.get(&format!("{path}/runs"))).status, 200);
    let mut again = of("db1");
    again["id"] = id.into();
    again["account"] = "other".into();
    assert_eq!(ann(host.post("/admin/instances", again.to_string().as_bytes())).status, 409);
    // The key is free again.
    register(&host, &of("db2"));
}

#[test]
fn wrong_registrations_are_refused_by_name() {
    let host = host();
    let taken = register(&host, &of("db1"));
    let id = taken["id"].as_str().unwrap();
    for (body, status, said) in [
        (json!({}), 400, "publicKey"),
        (json!({"publicKey": "x"}), 400, "publicKey: it is not the PEM form"),
        (json!({"publicKey": ED25519_PEM, "colour": 1}), 400, "colour"),
        (of("db2"), 409, "an instance has this key"),
        (json!({"publicKey": ED25519_PEM, "id": "../x"}), 400, "is no UUID"),
        (json!({"publicKey": ED25519_PEM, "id": id}), 409, "there is an instance"),
        (json!({"publicKey": ED25519_PEM, "name": "a\nb"}), 400, "name:"),
        (json!({"publicKey": ED25519_PEM, "encryptionPublicKey": "AAAA"}), 400, "X25519"),
    ] {
        let reply = ann(host.post("/admin/instances", body.to_string().as_bytes()));
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
        let message = json_of(&reply)["message"].as_str().unwrap().to_owned();
        assert!(message.contains(said), "{body}: {message}");
    }
}

#[test]
fn only_administrators_come_in_and_each_sees_what_is_theirs() {
    let host = host();
    let mut acme = of("db1");
    acme["account"] = "acme".into();
    let id = register(&host, &acme)["id"].as_str().unwrap().to_owned();
    let path = format!("/admin/instances/{id}");
    let nobody = send(host.get(&path));
    assert_eq!(nobody.status, 401);
    assert!(nobody.header("www-authenticate").unwrap().starts_with("Basic"));
    assert_eq!(send(host.get(&path).user("mallory")).status, 403);
    assert_eq!(send(host.get(&path).user("bob")).status, 200);
    assert_eq!(send(host.request("DELETE", &path).user("bob")).status, 403);
    assert_eq!(send(host.get(&path).user("eve")).status, 200);
    let other = "/admin/instances?account=other";
    assert_eq!(send(host.post(other, of("x").to_string().as_bytes()).user("eve")).status, 403);
    assert_eq!(json_of(&send(host.get(other).user("eve"))), json!([]));
}

#[test]
fn the_last_key_goes_only_by_force() {
    let host = host();
    let instance = register(&host, &of("db1"));
    let (id, kid) =
        (instance["id"].as_str().unwrap(), instance["keys"][0]["kid"].as_str().unwrap());
    let path = format!("/admin/instances/{id}/keys");
    assert_eq!(ann(host.request("DELETE", &format!("{path}/{kid}"))).status, 409);
    assert_eq!(ann(host.post(&path, of("x").to_string().as_bytes())).status, 400);
    let body = json!({"publicKey": ED25519_PEM}).to_string();
    assert_eq!(ann(host.post(&path, body.as_bytes())).status, 409);
    assert_eq!(ann(host.request("DELETE", &format!("{path}/{kid}?force=true"))).status, 204);
    assert_eq!(json_of(&ann(host.get(&path))), json!([]));
    assert_eq!(ann(host.post(&path, body.as_bytes())).status, 201);
}

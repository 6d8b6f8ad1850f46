//! The token endpoint, and the three ways to be an instance. Wrong tokens and assertions get one answer.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keepgate_sdk::{Body, Method, Principal, Request};
use p256::ecdsa::SigningKey;

use super::keys::{jwt, key_pair, pem};
use super::*;
use crate::caller::{Scope, instance};
use crate::key::tests::ED25519_PEM;
use crate::problem::told;

const AT: u64 = NOW / SECOND;

fn key(number: u8) -> SigningKey {
    key_pair(number).0
}

fn es256() -> Value {
    json!({"alg": "ES256"})
}

fn claims(id: &str) -> Value {
    let aud = format!("{URL}/oauth2/token");
    json!({"iss": id, "sub": id, "aud": aud, "exp": AT + 300, "jti": "1"})
}

/// The claims with one of them replaced, or removed if it is null.
fn but(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    match value {
        Value::Null => claims.as_object_mut().unwrap().remove(name),
        value => claims.as_object_mut().unwrap().insert(name.to_owned(), value),
    };
    claims
}

fn ask(host: &Host, assertion: &str, further: &str) -> TestReply {
    let form = format!(
        "grant_type=client_credentials&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
         &client_assertion={assertion}{further}"
    );
    let request = host.post("/oauth2/token", form.as_bytes());
    send(request.header("content-type", "application/x-www-form-urlencoded"))
}

/// The status that an instance gets with these credentials.
fn status(authorization: Option<&str>, spki: Option<&str>, id: &str, scope: Scope) -> u16 {
    let settings = serde_json::from_str(&keepgate_sdk::environment::settings()).unwrap();
    let claims = spki.map(|spki| vec![("spki-sha256".to_owned(), spki.to_owned())]);
    let principal = claims.map(|claims| Principal {
        name: "key".to_owned(),
        method: "certificate".to_owned(),
        claims,
    });
    let authorization = authorization.map(|text| ("authorization".to_owned(), text.to_owned()));
    let request = Request {
        method: Method::Get,
        base: String::new(),
        target: "/".to_owned(),
        address: None,
        id: String::new(),
        segments: Vec::new(),
        trailing_slash: false,
        query: Vec::new(),
        headers: authorization.into_iter().collect(),
        principal,
        body: Body::from_bytes(&[]),
    };
    match instance(&request, &settings, Some(id), scope) {
        Ok(found) => {
            assert_eq!(found.id, id);
            200
        }
        Err(problem) => match told(Err(problem)) {
            Ok(reply) => reply.status,
            Err(failure) => failure.status(),
        },
    }
}

/// A host with an instance that has this key, and the instance's id.
fn registered(key: &SigningKey) -> (Host, String) {
    let host = host();
    let instance = register(&host, &json!({"publicKey": pem(key)}));
    (host, instance["id"].as_str().unwrap().to_owned())
}

#[test]
fn an_assertion_gets_a_token_which_dies_with_its_key() {
    let own = key(1);
    let (host, id) = registered(&own);
    let reply = ask(&host, &jwt(&own, &es256(), &claims(&id)), "&scope=config%3Aread");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let body = json_of(&reply);
    assert_eq!(
        (body["expires_in"].as_u64(), body["scope"].as_str()),
        (Some(900), Some("config:read"))
    );
    let bearer = format!("Bearer {}", body["access_token"].as_str().unwrap());
    let with = |scope| status(Some(&bearer), None, &id, scope);
    assert_eq!(with(Scope::ConfigRead), 200);
    assert_eq!(with(Scope::TelemetryWrite), 403);
    assert_eq!(status(Some(&bearer), None, &uuid_of(9), Scope::ConfigRead), 404);

    let jwks = json_of(&send(host.get("/.well-known/jwks.json")));
    assert_eq!(
        (jwks["keys"].as_array().unwrap().len(), &jwks["keys"][0]["crv"]),
        (1, &json!("P-256"))
    );
    host.set_now(NOW + 961 * SECOND);
    assert_eq!(with(Scope::ConfigRead), 401);
    host.set_now(NOW);

    let path = format!("/admin/instances/{id}/keys");
    let kid = json_of(&ann(host.get(&path)))[0]["kid"].as_str().unwrap().to_owned();
    assert_eq!(ann(host.request("DELETE", &format!("{path}/{kid}?force=true"))).status, 204);
    assert_eq!(with(Scope::ConfigRead), 401);
}

fn uuid_of(digit: u8) -> String {
    format!("{digit}0000000-0000-4000-8000-000000000000")
}

#[test]
fn whatever_is_wrong_with_an_assertion_has_one_answer() {
    let own = key(1);
    let (host, id) = registered(&own);
    let right = claims(&id);
    let wrong = [
        jwt(&key(2), &es256(), &right),
        jwt(&own, &json!({"alg": "none"}), &right),
        jwt(&own, &json!({"alg": "ES384"}), &right),
        jwt(&own, &json!({"alg": "ES256", "kid": "another"}), &right),
        jwt(&own, &es256(), &but(&right, "iss", json!("other"))),
        jwt(&own, &es256(), &claims(&uuid_of(9))),
        jwt(&own, &es256(), &claims("../x")),
        jwt(&own, &es256(), &but(&right, "aud", json!("https://other/oauth2/token"))),
        jwt(&own, &es256(), &but(&right, "exp", json!(AT - 61))),
        jwt(&own, &es256(), &but(&right, "exp", json!(AT + 661))),
        jwt(&own, &es256(), &but(&right, "exp", Value::Null)),
        jwt(&own, &es256(), &but(&right, "nbf", json!(AT + 61))),
        jwt(&own, &es256(), &but(&right, "jti", Value::Null)),
        jwt(&own, &es256(), &but(&right, "jti", json!(""))),
        "a.b.c".to_owned(),
    ];
    let answer = |reply: TestReply| (reply.status, reply.text());
    let first = answer(ask(&host, wrong.first().unwrap(), ""));
    assert_eq!(first.0, 401);
    assert!(first.1.contains("invalid_client"), "{}", first.1);
    for (index, assertion) in wrong.iter().enumerate() {
        assert_eq!(answer(ask(&host, assertion, "")), first, "{index}");
    }
    assert_eq!(answer(ask(&host, &jwt(&own, &es256(), &right), "&client_id=other")), first);
    // None of them has used up the id of the right one, which is good once, for either form of the audience.
    let some = but(&right, "aud", json!(["x", URL]));
    assert_eq!(ask(&host, &jwt(&own, &es256(), &some), "").status, 200);
    assert_eq!(answer(ask(&host, &jwt(&own, &es256(), &right), "")), first);
    let disabled = br#"{"state":"disabled"}"#;
    assert_eq!(
        ann(host.request("PATCH", &format!("/admin/instances/{id}")).body(disabled)).status,
        200
    );
    assert_eq!(
        answer(ask(&host, &jwt(&own, &es256(), &but(&right, "jti", json!("2"))), "")),
        first
    );
}

#[test]
fn a_wrong_form_says_what_to_send() {
    let (host, _) = registered(&key(1));
    let form = |body: &str| {
        let request = host.post("/oauth2/token", body.as_bytes());
        send(request.header("content-type", "application/x-www-form-urlencoded"))
    };
    let assertion = "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=x";
    for (body, code) in [
        (String::new(), "invalid_request"),
        ("grant_type=password".to_owned(), "unsupported_grant_type"),
        ("grant_type=client_credentials".to_owned(), "invalid_request"),
        (format!("grant_type=client_credentials&{assertion}&scope=root"), "invalid_scope"),
    ] {
        let reply = form(&body);
        assert_eq!((reply.status, json_of(&reply)["error"].as_str()), (400, Some(code)), "{body}");
    }
    let json = host.post("/oauth2/token", b"{}").header("content-type", "application/json");
    assert_eq!(send(json).status, 415);
    let get = send(host.get("/oauth2/token"));
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    let off = host_with(json!({"token_endpoint": false}));
    assert_eq!(send(off.post("/oauth2/token", b"")).status, 404);
}

#[test]
fn an_instance_comes_with_a_certificate_or_with_a_token_that_it_signs() {
    let own = key(1);
    let (host, id) = registered(&own);
    let shown = json_of(&ann(host.get(&format!("/admin/instances/{id}"))));
    let spki = shown["keys"][0]["fingerprint"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let scope = Scope::TelemetryWrite;
    assert_eq!(status(None, Some(spki), &id, scope), 200);
    assert_eq!(status(None, Some(&"0".repeat(64)), &id, scope), 401);
    assert_eq!(status(None, None, &id, scope), 401);
    assert_eq!(status(None, Some(spki), &uuid_of(9), scope), 404);

    let right = json!({"iss": id, "sub": id, "aud": URL, "exp": AT + 3600});
    let bearer = |claims: &Value| format!("bearer {}", jwt(&own, &es256(), claims));
    assert_eq!(status(Some(&bearer(&right)), None, &id, scope), 200);
    for wrong in [
        but(&right, "exp", json!(AT + 3661)),
        but(&right, "aud", json!("https://other")),
        but(&right, "sub", json!(uuid_of(9))),
        // Only the mount's own keys sign in its name.
        json!({"iss": URL, "sub": id, "aud": URL, "exp": AT + 60, "scope": "config:read", "key": "x"}),
    ] {
        // The certificate does not make up for it.
        assert_eq!(status(Some(&bearer(&wrong)), Some(spki), &id, scope), 401, "{wrong}");
    }
    assert_eq!(status(Some("Basic YTpi"), Some(spki), &id, scope), 401);
    let seen = json_of(&ann(host.get(&format!("/admin/instances/{id}"))));
    assert_eq!(seen["lastSeen"], "2026-01-31T00:00:00.000Z");
    assert_eq!(seen["keys"][0]["lastUsed"], "2026-01-31T00:00:00.000Z");

    let ed25519 = register(&host, &json!({"publicKey": ED25519_PEM}));
    let id = ed25519["id"].as_str().unwrap();
    assert_eq!(status(Some(&bearer(&but(&right, "sub", json!(id)))), None, id, scope), 401);
}

#[test]
fn the_keys_that_sign_change_every_month() {
    let own = key(1);
    let (host, id) = registered(&own);
    let token = |jti: &str, at: u64| {
        let mut claims = but(&claims(&id), "jti", json!(jti));
        claims["exp"] = json!(at + 60);
        let reply = ask(&host, &jwt(&own, &es256(), &claims), "");
        json_of(&reply)["access_token"].as_str().unwrap().to_owned()
    };
    let kid = |token: &str| {
        let header = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
    };
    let (first, again) = (token("1", AT), token("2", AT));
    assert_eq!(kid(&first), kid(&again));
    let month = 30 * 86_400;
    host.set_now(NOW + month * SECOND);
    let next = token("3", AT + month);
    assert_ne!(kid(&first), kid(&next));
    assert_eq!(
        json_of(&send(host.get("/.well-known/jwks.json")))["keys"].as_array().unwrap().len(),
        2
    );
    assert!(crate::token::signing::expired().unwrap().is_empty());
    host.set_now(NOW + (month + 86_400) * SECOND);
    assert_eq!(crate::token::signing::expired().unwrap().len(), 1);
}

#[test]
fn the_endpoint_describes_itself() {
    let host = host();
    let metadata = json_of(&send(host.get("/.well-known/oauth-authorization-server")));
    assert_eq!(metadata["token_endpoint"], format!("{URL}/oauth2/token"));
}

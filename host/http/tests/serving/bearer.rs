//! Bearer tokens over HTTP: who gets in, and that clients cannot tell one wrong token from another.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keepgate_auth::bearer::{Algorithms, Clock, KeySource, Keys, Now, Rules};
use keepgate_auth::{Access, Htpasswd, Issuer, Method};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::support::{Response, Running, config, start_with};

const ISSUER: &str = "https://login.example.org";
const BASIC: &str = r#"Basic realm="keepgate", charset="UTF-8""#;
const BEARER: &str = r#"Bearer realm="keepgate""#;
const INVALID: &str = r#"Bearer realm="keepgate", error="invalid_token""#;
/// When these tests take place.
const TODAY: u64 = 1_800_000_000;

fn signer() -> Ed25519KeyPair {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap()
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn sign(key: &Ed25519KeyPair, header: &Value, claims: &str) -> String {
    let message = format!("{}.{}", encoded(header.to_string()), encoded(claims));
    format!("{message}.{}", encoded(key.sign(message.as_bytes())))
}

fn claims(changes: &Value) -> String {
    let mut claims = json!({"iss": ISSUER, "sub": "ann", "aud": "keepgate", "exp": TODAY + 300});
    for (name, value) in changes.as_object().unwrap() {
        claims.as_object_mut().unwrap().insert(name.clone(), value.clone());
    }
    claims.to_string()
}

fn clock() -> Clock {
    Clock::new(|| Now { unix: TODAY, running: Duration::ZERO })
}

fn issuer(source: KeySource) -> Method {
    let keys = Keys::open("company", source, clock()).unwrap();
    let rules = Rules {
        issuer: ISSUER.to_owned(),
        audience: vec!["keepgate".to_owned()],
        name: "sub".to_owned(),
        claims: Vec::new(),
        require: Vec::new(),
        leeway: Duration::from_secs(60),
        algorithms: Algorithms::default(),
    };
    Method::Bearer(Arc::new(Issuer::new(rules, keys, clock())))
}

/// The issuer, whose only key is in a file.
fn listed(folder: &Path, key: &Ed25519KeyPair) -> Method {
    let x = encoded(key.public_key());
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": x}]});
    let file = folder.join("jwks.json");
    std::fs::write(&file, keys.to_string()).unwrap();
    issuer(KeySource::File(file))
}

async fn show(server: &Running, authorization: &str) -> Response {
    server.ask(&format!("GET /show HTTP/1.1\r\nAuthorization: {authorization}\r\n\r\n")).await
}

/// Everything that a client sees, but for the date.
fn seen(response: &Response) -> (Vec<String>, String) {
    let head = response.head.lines().filter(|line| !line.starts_with("date: "));
    (head.map(str::to_owned).collect(), response.text().to_owned())
}

fn challenges(response: &Response) -> Vec<&str> {
    let lines = response.head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(name, _)| *name == "www-authenticate").map(|(_, value)| value).collect()
}

#[tokio::test]
async fn all_wrong_tokens_get_the_same_response() {
    let folder = tempfile::tempdir().unwrap();
    let (key, other) = (signer(), signer());
    let server = start_with(Access::Methods(vec![listed(folder.path(), &key)]), config()).await;
    let header = json!({"alg": "EdDSA", "kid": "k1", "typ": "JWT"});
    let token = |changes: Value| sign(&key, &header, &claims(&changes));
    let valid = token(json!({}));
    let (message, _) = valid.rsplit_once('.').unwrap();
    let (_, body) = message.split_once('.').unwrap();
    let headed = |header: Value| sign(&key, &header, &claims(&json!({})));
    let hmac = {
        let message =
            format!("{}.{body}", encoded(json!({"alg": "HS256", "kid": "k1"}).to_string()));
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.public_key().as_ref());
        format!("{message}.{}", encoded(ring::hmac::sign(&secret, message.as_bytes())))
    };
    let wrong = [
        ("expired", token(json!({"exp": TODAY - 60}))),
        ("not yet", token(json!({"nbf": TODAY + 61}))),
        ("without an end", token(json!({"exp": null}))),
        ("other audience", token(json!({"aud": ["other"]}))),
        ("other issuer", token(json!({"iss": "https://other.example"}))),
        ("wrong signature", sign(&other, &header, &claims(&json!({})))),
        ("none", format!("{}.{body}.", encoded(r#"{"alg":"none"}"#))),
        ("the public key as a secret", hmac),
        ("unknown kid", headed(json!({"alg": "EdDSA", "kid": "k2"}))),
        ("crit", headed(json!({"alg": "EdDSA", "kid": "k1", "crit": ["x"], "x": 1}))),
        ("other type", headed(json!({"alg": "EdDSA", "kid": "k1", "typ": "logout+jwt"}))),
        ("too long", token(json!({"padding": "x".repeat(13_000)}))),
        ("garbage", "garbage".to_owned()),
        ("two parts", message.to_owned()),
        (
            "duplicate claims",
            sign(&key, &header, &claims(&json!({})).replacen('{', "{\"sub\":\"root\",", 1)),
        ),
    ];
    let mut expected = None;
    for (what, token) in &wrong {
        let response = show(&server, &format!("Bearer {token}")).await;
        assert_eq!(response.status, 401, "{what}");
        assert_eq!(response.header("www-authenticate"), Some(INVALID), "{what}");
        let seen = seen(&response);
        assert_eq!(expected.get_or_insert_with(|| seen.clone()), &seen, "{what}");
    }
    let counters = server.counters();
    let count = format!("login_failures_total{{mount=\"/\"}} {}\n", wrong.len());
    assert!(counters.contains(&count), "{counters}");

    let anonymous = server.get("/show").await;
    assert_eq!((anonymous.status, anonymous.header("www-authenticate")), (401, Some(BEARER)));
    let empty = show(&server, "Bearer ").await;
    assert_eq!((empty.status, empty.header("www-authenticate")), (401, Some(BEARER)));
    for scheme in ["Bearer", "bearer", "BEARER "] {
        let accepted = show(&server, &format!("{scheme} {valid}")).await;
        assert_eq!(accepted.status, 200, "{scheme}");
        assert!(accepted.text().starts_with(r#"GET ["show"] false [] Some("ann")"#));
        assert!(!accepted.text().contains("authorization"), "the plugin sees no token");
    }
    // A plugin's own 401 gets a challenge as well.
    let request = format!("GET /keep-out HTTP/1.1\r\nAuthorization: Bearer {valid}\r\n\r\n");
    let kept_out = server.ask(&request).await;
    assert_eq!((kept_out.status, kept_out.header("www-authenticate")), (401, Some(BEARER)));
    server.end().await;
}

#[tokio::test]
async fn passwords_and_tokens_are_accepted_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let key = signer();
    let file = folder.path().join(".htpasswd");
    std::fs::write(&file, format!("bob:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    let users = Htpasswd::load(file, keepgate_auth::htpasswd::Options::default()).unwrap();
    let methods = vec![Method::Htpasswd(users), listed(folder.path(), &key)];
    let server = start_with(Access::Methods(methods), config()).await;
    let token = sign(&key, &json!({"alg": "EdDSA", "kid": "k1"}), &claims(&json!({})));
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("bob:{password}")));
    for (authorization, user) in [(basic("secret"), "bob"), (format!("Bearer {token}"), "ann")] {
        let accepted = show(&server, &authorization).await;
        assert!(accepted.text().contains(&format!("Some({user:?})")), "{accepted:?}");
    }
    let anonymous = server.get("/show").await;
    assert_eq!((anonymous.status, challenges(&anonymous)), (401, vec![BASIC, BEARER]));
    let wrong = show(&server, &basic("wrong")).await;
    assert_eq!((wrong.status, challenges(&wrong)), (401, vec![BASIC, BEARER]));
    let wrong = show(&server, "Bearer x").await;
    assert_eq!((wrong.status, challenges(&wrong)), (401, vec![BASIC, INVALID]));
    server.end().await;
}

#[tokio::test]
async fn a_user_without_access_gets_403_and_an_issuer_without_keys_503() {
    let folder = tempfile::tempdir().unwrap();
    let key = signer();
    let server = start_with(Access::Methods(vec![listed(folder.path(), &key)]), config()).await;
    let header = json!({"alg": "EdDSA", "kid": "k1"});
    let folders = sign(&key, &header, &claims(&json!({"sub": "../ann"})));
    let denied = show(&server, &format!("Bearer {folders}")).await;
    assert_eq!((denied.status, denied.text()), (403, "Forbidden: the token gives no access\n"));
    let challenge = r#"Bearer realm="keepgate", error="insufficient_scope""#;
    assert_eq!(denied.header("www-authenticate"), Some(challenge));
    server.end().await;

    // Nobody listens there.
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let nowhere = KeySource::Url { url: format!("http://127.0.0.1:{port}/keys"), ca: None };
    let server = start_with(Access::Methods(vec![issuer(nowhere)]), config()).await;
    let valid = sign(&key, &header, &claims(&json!({})));
    let unavailable = show(&server, &format!("Bearer {valid}")).await;
    assert_eq!(unavailable.status, 503);
    assert_eq!(
        unavailable.text(),
        "Service Unavailable: tokens cannot be verified at the moment\n"
    );
    assert_eq!(unavailable.header("retry-after"), Some("10"));
    assert_eq!(unavailable.header("www-authenticate"), None);
    server.end().await;
}

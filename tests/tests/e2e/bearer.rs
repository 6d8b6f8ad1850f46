//! Clients with tokens of an issuer instead of passwords: the real program, and an issuer that describes itself.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keepgate_tests::gateway::Setup;
use keepgate_tests::tools;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer with one key. Its server goes on until the tests end.
struct Issuer {
    url: String,
    key: Ed25519KeyPair,
}

impl Issuer {
    fn start() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let x = encoded(key.public_key());
        let pages = BTreeMap::from([
            (
                "/.well-known/openid-configuration",
                json!({"issuer": url, "jwks_uri": format!("{url}/certs")}).to_string(),
            ),
            ("/certs", json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]}).to_string()),
        ]);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines =
                    BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
                let (status, page) = match pages.get(path) {
                    Some(page) => ("200 OK", page.as_str()),
                    None => ("404 Not Found", ""),
                };
                let length = page.len();
                let head =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}");
                // The gateway may have gone away.
                let _ = stream.write_all(format!("{head}\r\n\r\n{page}").as_bytes());
            }
        });
        Self { url, key }
    }

    /// A header with a token for this user, with some other claims.
    fn token(&self, user: &str, others: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims =
            json!({"iss": self.url, "sub": user, "aud": "keepgate", "exp": now + 3600});
        for (name, value) in others.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let header = json!({"alg": "EdDSA", "typ": "JWT"});
        let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        format!("Bearer {message}.{}", encoded(self.key.sign(message.as_bytes())))
    }
}

#[test]
fn users_with_tokens_have_private_repositories() {
    let issuer = Issuer::start();
    let method = format!(
        "[auth.company]\nissuer = \"{}\"\naudience = [\"keepgate\"]\nrequire = {{ scope = [\"backup\"] }}",
        issuer.url
    );
    let setup = Setup::new().table(&method).accepting("company").mount(
        "/",
        "restic",
        "settings = { private_repos = true }",
    );
    let gateway = setup.start();
    let said = tools::run(setup.check_command()).success();
    assert!(said.contains("auth company  1 key (1 Ed25519) from "), "{said}");

    let backup = json!({"scope": "read backup"});
    let mut other = backup.clone();
    other["aud"] = json!("other");
    for (path, token, status) in [
        ("/ann/?create=true", issuer.token("ann", &backup), 200),
        ("/bob/?create=true", issuer.token("ann", &backup), 401),
        ("/ann/?create=true", issuer.token("ann", &other), 401),
        ("/ann/?create=true", Issuer::start().token("ann", &backup), 401),
        ("/ann/?create=true", issuer.token("ann", &json!({"scope": "read"})), 403),
        ("/x/?create=true", issuer.token("../x", &backup), 403),
        ("/ann/?create=true", "Basic YW5uOng=".to_owned(), 401),
    ] {
        let reply = gateway.endpoint().send("POST", path, &[("Authorization", &token)], b"");
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
    let status = gateway.status();
    let company = &status["issuers"]["company"];
    assert_eq!((&company["keys"], company.get("reason")), (&json!(1), None), "{company}");
}

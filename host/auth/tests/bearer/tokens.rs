//! Which tokens are accepted, and why others are not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keepgate_auth::bearer::{Algorithms, KeySource, Keys, Rules};
use keepgate_auth::{Access, Decision, Issuer, Method};
use serde_json::{Value, json};

use crate::issuer::{Mount, TODAY, Time, admit, bearing, claims, reason, rules};
use crate::signer::{Signer, encoded, published};

/// A mount with these keys in a file.
fn mount(folder: &Path, signers: &[&Signer], rules: Rules, time: &Time) -> Mount {
    let file = folder.join("jwks.json");
    std::fs::write(&file, published(signers)).unwrap();
    Mount::new(KeySource::File(file), rules, time)
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[tokio::test]
async fn tokens_of_all_algorithms_are_verified() {
    let (folder, time) = (tempfile::tempdir().unwrap(), Time::default());
    let names = ["ES256", "ES384", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    for id in [None, Some("k1")] {
        for name in names {
            let signer = Signer::new(name, id);
            let mount = mount(folder.path(), &[&signer], rules(), &time);
            assert_eq!(mount.user(&signer.token(&claims())).await.as_deref(), Ok("ann"), "{name}");
            // Another key with the same name did not sign it; RSA has only one here.
            if !name.starts_with(['R', 'P']) {
                let other = Signer::new(name, id);
                let said = reason(mount.admit(&other.token(&claims())).await);
                let expected =
                    if id.is_some() { "signature is wrong" } else { "no key of the issuer" };
                assert!(said.contains(expected), "{name}: {said}");
            }
        }
    }
}

#[tokio::test]
async fn what_proves_nothing_is_refused() {
    let (folder, time) = (tempfile::tempdir().unwrap(), Time::default());
    let (signer, rsa) = (Signer::new("ES256", Some("k1")), Signer::new("RS256", Some("k2")));
    let mount = mount(folder.path(), &[&signer, &rsa], rules(), &time);
    let valid = signer.token(&claims());
    let parts: Vec<&str> = valid.split('.').collect();
    let (header, body, signature) = (parts[0], parts[1], parts[2]);
    let headed = |header: Value| signer.sign(&header.to_string(), &claims().to_string());
    let secret = |key: &[u8]| {
        let header = encoded(json!({"alg": "HS256", "kid": "k2"}).to_string());
        let message = format!("{header}.{body}");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
        format!("{message}.{}", encoded(ring::hmac::sign(&key, message.as_bytes())))
    };
    let modulus = rsa.jwk()["n"].as_str().unwrap().to_owned();
    let none = encoded(json!({"alg": "none"}).to_string());
    let twice = claims().to_string().replacen('{', "{\"preferred_username\": \"root\",", 1);
    let cases = [
        // Times.
        (signer.token(&with("exp", TODAY - 60)), "expired 60 seconds ago"),
        (signer.token(&with("exp", TODAY - 86_400)), "expired"),
        (signer.token(&with("exp", 0)), "expired"),
        (signer.token(&with("exp", -1)), "\"exp\" is missing or no value of its kind"),
        (signer.token(&with("exp", "never")), "\"exp\" is missing or no value of its kind"),
        (signer.token(&without("exp")), "\"exp\" is missing"),
        (signer.token(&with("nbf", TODAY + 61)), "not valid yet"),
        (signer.token(&with("nbf", "soon")), "\"nbf\" is not a time"),
        // For whom, and by whom.
        (signer.token(&with("aud", "other")), "another audience"),
        (signer.token(&with("aud", json!(["other", "keepgate2"]))), "another audience"),
        (signer.token(&with("aud", json!([]))), "another audience"),
        (signer.token(&with("aud", 1)), "\"aud\" is missing or no value"),
        (signer.token(&without("aud")), "\"aud\" is missing"),
        (signer.token(&with("iss", "https://login.example.org/")), "of https://login.example.org/"),
        (signer.token(&with("iss", "https://evil.example")), "of https://evil.example"),
        (signer.token(&with("iss", json!(["https://login.example.org"]))), "of nobody"),
        (signer.token(&without("iss")), "of nobody"),
        // Signatures.
        (format!("{header}.{body}.{}", encoded([7; 64])), "signature is wrong"),
        (format!("{header}.{body}."), "signature is wrong"),
        (
            format!("{header}.{}.{signature}", encoded(with("sub", "root").to_string())),
            "signature is wrong",
        ),
        (format!("{none}.{body}."), "header cannot be read"),
        (secret(b"secret"), "algorithm HS256 is not accepted"),
        (secret(modulus.as_bytes()), "algorithm HS256 is not accepted"),
        (secret(published(&[&rsa]).as_bytes()), "algorithm HS256 is not accepted"),
        // Keys.
        (headed(json!({"alg": "ES256", "kid": "k9"})), "no key of the issuer fits: kid \"k9\""),
        (headed(json!({"alg": "RS256", "kid": "k1"})), "no key of the issuer fits"),
        (headed(json!({"alg": "ES256", "kid": "k2"})), "no key of the issuer fits"),
        (
            headed(json!({"alg": "ES256", "kid": "k9", "jwk": Signer::new("ES256", None).jwk()})),
            "no key",
        ),
        // Headers.
        (headed(json!({"alg": "ES256", "kid": "k1", "crit": ["exp"], "exp": 1})), "`crit`"),
        (headed(json!({"alg": "ES256", "kid": "k1", "crit": []})), "`crit`"),
        (headed(json!({"alg": "ES256", "kid": "k1", "b64": false})), "cannot be decoded"),
        (headed(json!({"alg": "ES256", "kid": "k1", "typ": "logout+jwt"})), "not for access"),
        (headed(json!({"alg": "ES512", "kid": "k1"})), "header cannot be read"),
        (headed(json!({"kid": "k1"})), "header cannot be read"),
        (headed(json!([])), "header cannot be read"),
        (
            signer.sign(r#"{"alg":"HS256","alg":"ES256","kid":"k1"}"#, &claims().to_string()),
            "header cannot be read",
        ),
        (
            signer.sign(r#"{"alg":"ES256","kid":"k2","kid":"k1"}"#, &claims().to_string()),
            "header cannot be read",
        ),
        // Claims that programs read in different ways.
        (signer.sign(&signer.header().to_string(), &twice), "\"preferred_username\" occurs twice"),
        (signer.sign(&signer.header().to_string(), "[]"), "claims cannot be read"),
        (signer.sign(&signer.header().to_string(), "{\"iss\": "), "claims cannot be read"),
        // Not tokens.
        (String::new(), "cannot be read"),
        ("garbage".to_owned(), "cannot be read"),
        ("..".to_owned(), "cannot be read"),
        (format!("{header}.{body}"), "cannot be read"),
        (format!("{valid}.{signature}"), "cannot be read"),
        (format!("{valid}="), "cannot be decoded"),
        (format!("{valid} {valid}"), "cannot be"),
        (valid.replace('.', "+"), "cannot be read"),
        (signer.token(&with("padding", "x".repeat(16 * 1024))), "longer than 16 KiB"),
    ];
    for (token, why) in cases {
        let said = reason(mount.admit(&token).await);
        assert!(said.contains(why), "expected {why:?}: {said}: {token}");
    }
    // The one that all of them were made of.
    assert_eq!(mount.user(&valid).await.as_deref(), Ok("ann"));
}

#[tokio::test]
async fn a_token_is_valid_for_as_long_as_it_says_and_a_little_longer() {
    let (folder, time) = (tempfile::tempdir().unwrap(), Time::default());
    let signer = Signer::new("EdDSA", None);
    let mount = mount(folder.path(), &[&signer], rules(), &time);
    let mut times = claims();
    times["nbf"] = json!(TODAY + 100);
    times["exp"] = json!(TODAY as f64 + 200.5);
    let token = signer.token(&times);
    for (passed, admitted) in
        [(0, false), (39, false), (1, true), (60, true), (160, true), (1, false)]
    {
        time.pass(Duration::from_secs(passed));
        assert_eq!(mount.user(&token).await.is_ok(), admitted, "{:?}", time.clock());
    }
}

#[tokio::test]
async fn only_listed_algorithms_are_accepted() {
    let (folder, time) = (tempfile::tempdir().unwrap(), Time::default());
    let (ec, rsa) = (Signer::new("ES256", None), Signer::new("RS256", None));
    let only = Rules { algorithms: Algorithms::named(["ES256"]).unwrap(), ..rules() };
    let mount = mount(folder.path(), &[&ec, &rsa], only, &time);
    assert_eq!(mount.user(&ec.token(&claims())).await.as_deref(), Ok("ann"));
    let said = reason(mount.admit(&rsa.token(&claims())).await);
    assert!(said.contains("algorithm RS256 is not accepted"), "{said}");
}

#[tokio::test]
async fn a_name_that_is_no_name_is_denied_and_never_altered() {
    let (folder, time) = (tempfile::tempdir().unwrap(), Time::default());
    let signer = Signer::new("EdDSA", None);
    let mount = mount(folder.path(), &[&signer], rules(), &time);
    for name in ["ann", "ann.b-c_d@example.org", "Zoë", "用户", "7", &"x".repeat(255)] {
        let token = signer.token(&with("preferred_username", name));
        assert_eq!(mount.user(&token).await.as_deref(), Ok(name));
    }
    let long = "x".repeat(256);
    for name in
        ["", ".", "..", "a/b", "../ann", "ann ", "a\\b", "a:b", "a\0", "a\nb", "repo:x", &long]
    {
        let decision = mount.admit(&signer.token(&with("preferred_username", name))).await;
        let Decision::Denied { user, why } = decision else { panic!("{name:?}: {decision:?}") };
        assert_eq!(user, name);
        assert!(why.contains("\"preferred_username\" is not the name of a user"), "{why}");
    }
    for wrong in [json!(7), json!(["ann"]), json!(null), json!({})] {
        let said = reason(mount.admit(&signer.token(&with("preferred_username", wrong))).await);
        assert!(said.contains("is missing or not a text"), "{said}");
    }
    let said = reason(mount.admit(&signer.token(&without("preferred_username"))).await);
    assert!(said.starts_with("denied: ") && said.contains("is missing"), "{said}");
}

#[tokio::test]
async fn plugins_get_a_few_claims() {
    let (folder, time) = (tempfile::tempdir().unwrap(), Time::default());
    let signer = Signer::new("EdDSA", None);
    let extra = ["groups", "/realm/roles", "missing", "level"].map(str::to_owned).to_vec();
    let mount = mount(folder.path(), &[&signer], Rules { claims: extra, ..rules() }, &time);
    let mut claims = claims();
    claims["scope"] = json!("backup:read backup:write");
    claims["groups"] = json!(["ops", "dev"]);
    claims["realm"] = json!({"roles": ["admin"], "secret": "x"});
    claims["level"] = json!(3);
    claims["email"] = json!("ann@example.org");
    let decision = mount.admit(&signer.token(&claims)).await;
    let Decision::Admitted(Some(principal)) = decision else { panic!("{decision:?}") };
    assert_eq!((&*principal.name, &*principal.method), ("ann", "bearer"));
    let found: Vec<_> =
        principal.claims.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [
        ("iss", "https://login.example.org"),
        ("sub", "f1d2"),
        ("scope", "backup:read"),
        ("scope", "backup:write"),
        ("groups", "ops"),
        ("groups", "dev"),
        ("/realm/roles", "admin"),
        ("level", "3"),
    ];
    assert_eq!(found, expected);
    // More than a job could keep of its user.
    claims["groups"] = json!(vec!["a group with a long name"; 300]);
    let said = reason(mount.admit(&signer.token(&claims)).await);
    assert!(said.starts_with("denied: the claims for plugins have"), "{said}");
}

#[tokio::test]
async fn required_claims_decide_who_gets_in() {
    let (folder, time) = (tempfile::tempdir().unwrap(), Time::default());
    let signer = Signer::new("EdDSA", None);
    let require = [("scope", &["backup"][..]), ("/project/path", &["ops/a", "ops/b"])];
    let require = require.map(|(claim, values)| {
        (claim.to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
    });
    let rules = Rules { require: require.to_vec(), ..rules() };
    let mount = mount(folder.path(), &[&signer], rules, &time);
    let token = |scope: Value, path: &str| {
        let mut claims = claims();
        claims["scope"] = scope;
        claims["project"] = json!({ "path": path });
        signer.token(&claims)
    };
    assert!(mount.user(&token(json!("read backup"), "ops/b")).await.is_ok());
    for (scope, path) in [
        (json!("backup"), "ops"),
        (json!("backup"), "ops/a/b"),
        (json!("backups"), "ops/a"),
        (json!(null), "ops/a"),
    ] {
        let said = reason(mount.admit(&token(scope, path)).await);
        assert!(
            said.starts_with("denied: ") && said.contains("values that are required"),
            "{said}"
        );
    }
}

/// Several issuers at one mount; two of them are the same with different requirements.
#[tokio::test]
async fn the_issuer_of_a_token_decides_who_verifies_it() {
    let (folder, time) = (tempfile::tempdir().unwrap(), Time::default());
    let (one, two) = (Signer::new("EdDSA", Some("k")), Signer::new("EdDSA", Some("k")));
    let issuer = |name: &str, signer: &Signer, rules: Rules| {
        let file = folder.path().join(name);
        std::fs::write(&file, published(&[signer])).unwrap();
        let keys = Keys::open(name, KeySource::File(file), time.clock()).unwrap();
        Method::Bearer(Arc::new(Issuer::new(rules, keys, time.clock())))
    };
    let other = "https://other.example";
    let admins = vec![("scope".to_owned(), vec!["admin".to_owned()])];
    let access = Access::Methods(vec![
        issuer("admins", &one, Rules { require: admins, name: "sub".to_owned(), ..rules() }),
        issuer("one", &one, rules()),
        issuer("two", &two, Rules { issuer: other.to_owned(), ..rules() }),
    ]);
    let name = async |token: &str| match admit(&access, token).await {
        Decision::Admitted(Some(principal)) => principal.name,
        other => reason(other),
    };
    assert_eq!(name(&one.token(&with("scope", "admin"))).await, "f1d2");
    assert_eq!(name(&one.token(&claims())).await, "ann");
    assert_eq!(name(&two.token(&with("iss", other))).await, "ann");
    // Neither may speak for the other, and the reason is the one of the issuer that was asked.
    assert_eq!(name(&two.token(&claims())).await, "the signature is wrong");
    assert_eq!(name(&one.token(&with("iss", other))).await, "the signature is wrong");
    assert_eq!(name(&one.token(&with("iss", "x"))).await, "of x");
}

/// A plugin that judges credentials gets the tokens of other issuers, and none of this one, also if it is not valid.
#[tokio::test]
async fn a_plugin_gets_only_tokens_that_are_for_nobody_else() {
    let (folder, time) = (tempfile::tempdir().unwrap(), Time::default());
    let signer = Signer::new("EdDSA", None);
    let Access::Methods(mut methods) = mount(folder.path(), &[&signer], rules(), &time).access
    else {
        panic!("methods are expected")
    };
    methods.push(Method::Plugin);
    let access = Access::Methods(methods);
    let foreign = signer.token(&with("iss", "https://other.example"));
    for (token, passed) in [(&*signer.token(&claims()), false), (&foreign, true), ("x", true)] {
        assert_eq!(access.passes_authorization(&bearing(token)), passed, "{token}");
    }
    assert!(matches!(admit(&access, &foreign).await, Decision::Admitted(None)));
    let expired = signer.token(&with("exp", TODAY - 1000));
    assert!(matches!(admit(&access, &expired).await, Decision::InvalidToken { .. }));
}

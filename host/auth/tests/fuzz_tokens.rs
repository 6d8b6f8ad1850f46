//! Tokens that were changed, tokens of the issuer with claims of all sorts, and files of keys with damage: whoever is
//! admitted has a token that is valid by a second, simpler reading. `cargo xtask fuzz tokens` tries many.
//!
//! What else proves who somebody is has properties beside its code: passwords, their files, lists of fingerprints.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy allows them in test functions only, not in what these functions share"
)]

#[path = "../../../tests/fuzz/inputs.rs"]
mod inputs;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use keepgate_auth::bearer::{Algorithms, Clock, KeySource, Keys, Now, Rules};
use keepgate_auth::{Access, Client, Decision, Issuer, Method};
use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use inputs::{Bytes, config, edited, edits};

/// When the tests take place, in seconds since 1970.
const TODAY: u64 = 1_800_000_000;
const LEEWAY: u64 = 60;
const ISSUER: &str = "https://login.example.org";

/// The issuer's key: always the same, so that a seed means the same everywhere.
static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
});

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn sign(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", encoded(header), encoded(claims));
    let signature = encoded(KEY.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

const HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT","kid":"k1"}"#;

fn valid() -> &'static str {
    static VALID: LazyLock<String> = LazyLock::new(|| {
        let claims = json!({
            "iss": ISSUER, "sub": "f1d2", "aud": ["other", "keepgate"], "exp": TODAY + 300, "name": "ann",
        });
        sign(HEADER, &claims.to_string())
    });
    &VALID
}

/// What the issuer publishes: its key between keys of other kinds, which sign nothing here.
fn published() -> &'static str {
    static PUBLISHED: LazyLock<String> = LazyLock::new(|| {
        let ours = encoded(KEY.public_key());
        let keys = json!({"keys": [
            {"kty": "RSA", "kid": "r", "n": encoded([0xc5; 256]), "e": "AQAB"},
            {"kty": "EC", "crv": "P-256", "kid": "e", "x": encoded([1; 32]), "y": encoded([2; 32])},
            {"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": ours, "use": "sig", "alg": "EdDSA"},
            {"kty": "oct", "kid": "k1", "k": "c2VjcmV0"},
        ]});
        keys.to_string()
    });
    &PUBLISHED
}

fn clock() -> Clock {
    Clock::new(|| Now { unix: TODAY, running: Duration::ZERO })
}

/// A mount for tokens that are signed with the keys in a file.
fn mount(file: PathBuf) -> Result<Access, String> {
    let rules = Rules {
        issuer: ISSUER.to_owned(),
        audience: vec!["keepgate".to_owned(), "backup".to_owned()],
        name: "name".to_owned(),
        claims: vec!["groups".to_owned()],
        require: Vec::new(),
        leeway: Duration::from_secs(LEEWAY),
        algorithms: Algorithms::default(),
    };
    let keys = Keys::open("company", KeySource::File(file), clock())?;
    Ok(Access::Methods(vec![Method::Bearer(Arc::new(Issuer::new(rules, keys, clock())))]))
}

/// A file of the thread that runs a test, for one input at a time.
fn write(content: &[u8]) -> PathBuf {
    thread_local!(static FOLDER: TempDir = tempfile::tempdir().unwrap());
    let path = FOLDER.with(|folder| folder.path().join("jwks.json"));
    std::fs::write(&path, content).unwrap();
    path
}

/// A mount with the issuer's keys.
fn access() -> &'static Access {
    static ACCESS: LazyLock<Access> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, published()).unwrap();
        mount(path).unwrap()
    });
    &ACCESS
}

/// Whom a mount admits with this value of `Authorization`; `None` if it is no value of a header.
fn admit(access: &Access, value: &[u8]) -> Option<Decision> {
    let headers =
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_bytes(value).ok()?)]);
    let client = Client { headers: &headers, address: None, certificate: None };
    Some(RUNTIME.block_on(access.admit(client)))
}

/// What means something in tokens.
const WORDS: [&[u8]; 14] = [
    b".",
    b"..",
    b"=",
    b" ",
    b"\t",
    b",",
    b"Bearer ",
    b"Basic ",
    b"eyJhbGciOiJub25lIn0",
    b"eyJhbGciOiJIUzI1NiJ9",
    b"e30",
    b"AAAA",
    b"-_",
    b"\xc3\xa9",
];

/// What means something in sets of keys.
const PARTS_OF_KEYS: [&[u8]; 16] = [
    b"{",
    b"}",
    b"[[[[[[[[[[[[[[[[",
    b"]",
    b",",
    b"\"",
    b":",
    b"null",
    b"\"kty\":\"OKP\",",
    b"\"alg\":\"HS256\",",
    b"\"crv\":\"P-384\",",
    b"\"x\":\"\",",
    b"\"use\":\"enc\",",
    b"\"key_ops\":[\"sign\"],",
    b"\"kid\":1,",
    b"\"n\":\"AA\",",
];

/// Any JSON, and more often what stands in tokens.
fn value() -> impl Strategy<Value = Value> {
    let times = prop::sample::select(
        &[
            0,
            TODAY - LEEWAY - 1,
            TODAY - LEEWAY,
            TODAY - LEEWAY + 1,
            TODAY + LEEWAY,
            TODAY + LEEWAY + 1,
            u64::MAX,
        ][..],
    );
    let words = prop::sample::select(
        &[
            "keepgate", "backup", ISSUER, "ann", "..", "a/b", "", "at+jwt", "EdDSA", "none",
            "HS256", "k1", "r",
        ][..],
    );
    let leaf = prop_oneof![
        3 => times.prop_map(|time| json!(time)),
        5 => words.prop_map(|word| json!(word)),
        1 => any::<f64>().prop_map(|number| json!(number)),
        1 => any::<i64>().prop_map(|number| json!(number)),
        1 => any::<bool>().prop_map(|flag| json!(flag)),
        1 => Just(Value::Null),
        1 => "(?s).{0,4}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            1 => inner.prop_map(|value| json!({"a": value})),
        ]
    })
}

/// What this token is worth, read in the simplest way: whose it is, if it is valid.
fn expected(header: &Value, claims: &Value) -> Option<String> {
    let is = |value: &Value, text: &str| value.as_str() == Some(text);
    // A media type, so its case does not matter (RFC 7515, 4.1.9).
    let is_type = |typ: &Value| {
        let types = ["jwt", "at+jwt", "application/jwt", "application/at+jwt"];
        typ.as_str().is_some_and(|typ| types.contains(&&*typ.to_ascii_lowercase()))
    };
    let typed = header.get("typ").is_none_or(|typ| is_type(typ) || typ.is_null());
    let known = header.get("kid").is_none_or(|id| is(id, "k1") || id.is_null());
    let audiences = match &claims["aud"] {
        Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    };
    let ours = audiences.iter().any(|one| is(one, "keepgate") || is(one, "backup"));
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact")]
    let (today, leeway) = (TODAY as f64, LEEWAY as f64);
    let lasts = claims["exp"].as_f64().is_some_and(|time| time + leeway > today);
    let begun = claims
        .get("nbf")
        .is_none_or(|begins| begins.as_f64().is_some_and(|begins| begins - leeway <= today));
    let name = claims["name"].as_str().filter(|name| {
        let letter = |c: char| c.is_alphabetic() || c.is_ascii_digit() || "@._-".contains(c);
        !name.is_empty() && name.chars().all(letter) && *name != "." && *name != ".."
    })?;
    let valid = is(&header["alg"], "EdDSA") && typed && known && is(&claims["iss"], ISSUER);
    (valid && ours && lasts && begun).then(|| name.to_owned())
}

/// Whether claims have the form that the standard gives them, with times of this era. Others may be refused for that alone.
fn is_plain(claims: &Value) -> bool {
    let texts = |all: &Vec<Value>| all.iter().all(Value::is_string);
    let audience = &claims["aud"];
    let audience = audience.is_string() || audience.as_array().is_some_and(texts);
    let of_this_era = |name| {
        let time = claims.get(name).map(Value::as_f64);
        time.is_none_or(|time| time.is_some_and(|time| (0.0..1e15).contains(&time)))
    };
    claims.get("sub").is_none_or(Value::is_string)
        && audience
        && of_this_era("exp")
        && of_this_era("nbf")
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn a_changed_token_is_nobodys(edits in edits(&WORDS), in_token: bool) {
        let value = format!("Bearer {}", valid());
        let changed = if in_token {
            [b"Bearer ".to_vec(), edited(valid().as_bytes(), &edits)].concat()
        } else {
            edited(value.as_bytes(), &edits)
        };
        if let Some(Decision::Admitted(user)) = admit(access(), &changed) {
            // Only the scheme and the space around may have changed.
            let text = String::from_utf8_lossy(&changed);
            let token = text.split_ascii_whitespace().nth(1);
            prop_assert_eq!(token, Some(valid()), "{:?} is admitted", Bytes(changed.clone()));
            prop_assert_eq!(user.map(|user| user.name), Some("ann".to_owned()));
        }
    }

    #[test]
    fn what_the_issuer_signs_is_admitted_if_it_is_valid_here(
        header in prop::collection::btree_map(
            prop::sample::select(&["typ", "kid", "crit", "alg"][..]), value(), 0..2,
        ),
        claims in prop::collection::btree_map(
            prop::sample::select(&["iss", "aud", "exp", "nbf", "name", "sub", "scope", "groups"][..]), value(), 0..3,
        ),
    ) {
        let mut head = json!({"alg": "EdDSA"});
        let mut body = json!({"iss": ISSUER, "aud": "keepgate", "exp": TODAY + 1, "name": "ann"});
        for (name, value) in header {
            head[name] = value;
        }
        for (name, value) in claims {
            body[name] = value;
        }
        let token = sign(&head.to_string(), &body.to_string());
        let decision = admit(access(), format!("Bearer {token}").as_bytes());
        if let Some(Decision::Admitted(user)) = decision {
            let user = user.map(|user| user.name);
            prop_assert_eq!(user, expected(&head, &body), "{} {}", head, body);
        } else if head == json!({"alg": "EdDSA"}) && is_plain(&body) {
            prop_assert_eq!(None, expected(&head, &body), "{:?}: {} {}", decision, head, body);
        }
    }

    #[test]
    fn damaged_tokens_of_the_issuer_are_read_or_refused(
        header in edits(&PARTS_OF_KEYS),
        claims in edits(&PARTS_OF_KEYS),
        whole in (any::<bool>(), any::<bool>()),
    ) {
        let edit = |text: &str, edits: &[inputs::Edit], whole: bool| {
            let bytes = if whole { text.as_bytes().to_vec() } else { edited(text.as_bytes(), edits) };
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let body = json!({"iss": ISSUER, "aud": "keepgate", "exp": TODAY + 1, "name": "ann"});
        let head = edit(HEADER, &header, whole.0);
        let body = edit(&body.to_string(), &claims, whole.1);
        let token = sign(&head, &body);
        if let Some(Decision::Admitted(user)) = admit(access(), format!("Bearer {token}").as_bytes()) {
            let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            prop_assert_eq!(user.map(|user| user.name), expected(&read(&head), &read(&body)));
        }
    }

    #[test]
    fn damaged_keys_are_read_or_refused_and_admit_nobody_else(edits in edits(&PARTS_OF_KEYS)) {
        let keys = edited(published().as_bytes(), &edits);
        match mount(write(&keys)) {
            Ok(access) => {
                let decision = admit(&access, format!("Bearer {}", valid()).as_bytes()).unwrap();
                if let Decision::Admitted(user) = decision {
                    prop_assert_eq!(user.map(|user| user.name), Some("ann".to_owned()));
                    let ours = encoded(KEY.public_key());
                    prop_assert!(String::from_utf8_lossy(&keys).contains(&ours), "whose key is it?");
                }
            }
            Err(why) => prop_assert!(!why.contains('\n'), "{}", why),
        }
    }
}

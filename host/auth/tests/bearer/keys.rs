//! From where the keys come, how often they are asked for, and what happens when they cannot be.

use std::time::Duration;

use keepgate_auth::Decision;
use keepgate_auth::bearer::{KEEP, KeySource, Keys, PAUSE, Rules};
use serde_json::json;

use crate::issuer::{Mount, Server, Time, claims, reason, rules};
use crate::signer::{Signer, published};

const MINUTE: Duration = Duration::from_secs(60);

fn at(server: &Server, time: &Time) -> Mount {
    let source = KeySource::Url { url: server.url("/keys"), ca: None };
    Mount::new(source, rules(), time)
}

/// A valid token, whatever the time.
fn lasting(signer: &Signer) -> String {
    let mut claims = claims();
    claims["exp"] = json!(u32::MAX);
    signer.token(&claims)
}

#[tokio::test]
async fn a_rotated_key_is_fetched_once_for_all_who_need_it() {
    let (server, time) = (Server::start().await, Time::default());
    let (old, new) = (Signer::new("ES256", Some("old")), Signer::new("ES256", Some("new")));
    server.publish("/keys", "200 OK", published(&[&old]));
    let mount = at(&server, &time);
    for _ in 0..5 {
        assert_eq!(mount.user(&lasting(&old)).await.as_deref(), Ok("ann"));
    }
    assert_eq!(server.asked(), ["/keys"]);

    server.publish("/keys", "200 OK", published(&[&old, &new]));
    // Too soon after the last time: unknown keys are easily made up.
    assert!(mount.user(&lasting(&new)).await.is_err());
    assert!(server.asked().is_empty());
    time.pass(PAUSE);
    let token = lasting(&new);
    let all = (0..20).map(|_| mount.user(&token));
    for user in futures_util::future::join_all(all).await {
        assert_eq!(user.as_deref(), Ok("ann"));
    }
    assert_eq!(server.asked(), ["/keys"]);
    // The old one is still published.
    assert_eq!(mount.user(&lasting(&old)).await.as_deref(), Ok("ann"));

    // Made-up keys cost the issuer one request in ten seconds.
    for _ in 0..4 {
        time.pass(PAUSE / 2);
        for number in 0..10 {
            let unknown = Signer::new("ES256", Some(&format!("made up {number}")));
            assert!(mount.user(&lasting(&unknown)).await.is_err());
        }
    }
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn keys_without_names_rotate_too() {
    let (server, time) = (Server::start().await, Time::default());
    let (old, new) = (Signer::new("EdDSA", None), Signer::new("EdDSA", None));
    server.publish("/keys", "200 OK", published(&[&old]));
    let mount = at(&server, &time);
    assert!(mount.user(&lasting(&old)).await.is_ok());
    server.publish("/keys", "200 OK", published(&[&new]));
    time.pass(PAUSE);
    assert!(mount.user(&lasting(&new)).await.is_ok());
    let said = reason(mount.admit(&lasting(&old)).await);
    assert!(said.contains("no key of the issuer has signed it"), "{said}");
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn keys_are_fetched_again_when_they_are_old() {
    let (server, time) = (Server::start().await, Time::default());
    let (old, new) = (Signer::new("ES256", Some("a")), Signer::new("ES256", Some("b")));
    let publish = |signer: &Signer| {
        let status = "200 OK\r\ncache-control: public, max-age=300";
        server.publish("/keys", status, published(&[signer]));
    };
    publish(&old);
    let mount = at(&server, &time);
    assert!(mount.user(&lasting(&old)).await.is_ok());
    publish(&new);
    time.pass(5 * MINUTE - Duration::from_secs(1));
    assert!(mount.user(&lasting(&old)).await.is_ok());
    assert_eq!(server.asked().len(), 1);
    // Meanwhile newer ones are fetched, which this does not wait for, and the next one does.
    time.pass(Duration::from_secs(1));
    assert!(mount.user(&lasting(&old)).await.is_ok());
    assert!(mount.user(&lasting(&new)).await.is_ok());
    assert_eq!(server.asked().len(), 1);
    assert!(mount.user(&lasting(&old)).await.is_err());
    // After a long time without tokens, the first does not get in by keys of back then.
    publish(&old);
    time.pass(10 * MINUTE);
    assert!(mount.user(&lasting(&new)).await.is_err());
    assert!(mount.user(&lasting(&old)).await.is_ok());
}

#[tokio::test]
async fn the_lifetime_has_bounds() {
    for (header, minutes) in [
        ("", 10),
        ("\r\ncache-control: max-age=0", 1),
        ("\r\ncache-control: no-store", 1),
        ("\r\ncache-control: max-age=1800", 30),
        ("\r\ncache-control: max-age=99999999", 60),
    ] {
        let (server, time) = (Server::start().await, Time::default());
        let signer = Signer::new("EdDSA", None);
        server.publish("/keys", &format!("200 OK{header}"), published(&[&signer]));
        let said = at(&server, &time).keys.probe().await.unwrap();
        let seconds = format!("{}s", minutes * 60);
        assert!(said.ends_with(&format!("fetched again after {seconds}")), "{header}: {said}");
        assert!(said.starts_with("1 key (1 Ed25519) from http://127.0.0.1:"), "{said}");
    }
}

#[tokio::test]
async fn without_keys_nobody_is_told_that_their_token_is_wrong() {
    let (server, time) = (Server::start().await, Time::default());
    let signer = Signer::new("ES256", Some("a"));
    let mount = at(&server, &time);
    for _ in 0..5 {
        assert_eq!(mount.admit(&lasting(&signer)).await, Decision::NoKeys);
    }
    assert_eq!(server.asked().len(), 1);
    let status = mount.keys.status();
    assert_eq!((status.keys, status.fetched), (0, None));
    assert!(status.failing.unwrap().contains("/keys: "));
    // What no key could make right is wrong without keys, too.
    assert!(matches!(mount.admit("garbage").await, Decision::InvalidToken { .. }));
    // Once there are some, they are used.
    server.publish("/keys", "200 OK", published(&[&signer]));
    assert_eq!(mount.admit(&lasting(&signer)).await, Decision::NoKeys);
    time.pass(PAUSE);
    assert!(mount.user(&lasting(&signer)).await.is_ok());
    assert_eq!(mount.keys.status().failing, None);
}

#[tokio::test]
async fn keys_stay_for_a_day_while_the_issuer_is_away() {
    let (server, time) = (Server::start().await, Time::default());
    let signer = Signer::new("ES256", Some("a"));
    server.publish("/keys", "200 OK", published(&[&signer]));
    let mount = at(&server, &time);
    assert!(mount.user(&lasting(&signer)).await.is_ok());
    server.go_away();
    let hour = 60 * MINUTE;
    for _ in 0..23 {
        time.pass(hour);
        assert!(mount.user(&lasting(&signer)).await.is_ok());
    }
    time.pass(hour - Duration::from_secs(1));
    assert!(mount.user(&lasting(&signer)).await.is_ok());
    assert!(mount.keys.status().failing.is_some());
    time.pass(Duration::from_secs(1));
    assert!(KEEP == 24 * hour);
    assert_eq!(mount.admit(&lasting(&signer)).await, Decision::NoKeys);
    // It is back.
    server.publish("/keys", "200 OK", published(&[&signer]));
    time.pass(PAUSE);
    assert!(mount.user(&lasting(&signer)).await.is_ok());
}

#[tokio::test]
async fn an_answer_that_is_no_set_of_keys_changes_nothing() {
    let (server, time) = (Server::start().await, Time::default());
    let signer = Signer::new("ES256", Some("a"));
    let whole = published(&[&signer]);
    server.publish("/keys", "200 OK", &*whole);
    let mount = at(&server, &time);
    assert!(mount.user(&lasting(&signer)).await.is_ok());
    let long = format!("{whole}{}", " ".repeat(1024 * 1024));
    for (status, body, why) in [
        ("500 Internal Server Error", &*whole, "it answers 500"),
        ("404 Not Found", "", "it answers 404"),
        ("302 Found\r\nlocation: http://127.0.0.1/", "", "leads elsewhere"),
        ("204 No Content", "", "it answers 204"),
        ("200 OK", "<html>", "not a set of keys"),
        ("200 OK", "{\"keys\": []}", "it is empty"),
        ("200 OK", &whole[..whole.len() - 1], "not a set of keys"),
        ("200 OK", &long, "1048576"),
        ("200 OK\r\ntransfer-encoding: chunked", "zz", "/keys: "),
    ] {
        server.publish("/keys", status, body);
        time.pass(10 * MINUTE);
        assert!(mount.user(&lasting(&signer)).await.is_ok(), "{status}: {body}");
        let said = mount.keys.probe().await.unwrap_err();
        assert!(said.contains(why), "{status}: {said}");
        assert_eq!(mount.keys.status().keys, 1);
    }
}

#[tokio::test]
async fn an_issuer_says_where_its_keys_are() {
    let (server, time) = (Server::start().await, Time::default());
    let signer = Signer::new("RS256", Some("a"));
    let issuer = server.url("/realms/x");
    let description = "/realms/x/.well-known/openid-configuration";
    let describe = |issuer: &str, keys: &str| {
        let text = json!({"issuer": issuer, "jwks_uri": keys, "token_endpoint": "x"}).to_string();
        server.publish(description, "200 OK", text);
    };
    describe(&issuer, &server.url("/realms/x/certs"));
    server.publish("/realms/x/certs", "200 OK", published(&[&signer]));
    let source = KeySource::Discovery { issuer: issuer.clone(), ca: None };
    let mount = Mount::new(source, Rules { issuer: issuer.clone(), ..rules() }, &time);
    let mut claims = claims();
    claims["iss"] = json!(issuer);
    assert_eq!(mount.user(&signer.token(&claims)).await.as_deref(), Ok("ann"));
    assert_eq!(server.asked(), [description, "/realms/x/certs"]);

    for (named, keys, why) in [
        (format!("{issuer}/"), server.url("/realms/x/certs"), "it describes the issuer"),
        (issuer.clone(), "http://login.example.org/keys".to_owned(), "expected https://"),
        (issuer.clone(), "file:///etc/passwd".to_owned(), "`jwks_uri`"),
    ] {
        describe(&named, &keys);
        let said = mount.keys.probe().await.unwrap_err();
        assert!(said.contains(why), "{named} {keys}: {said}");
    }
    server.publish(description, "200 OK", "{}");
    let said = mount.keys.probe().await.unwrap_err();
    assert!(said.contains("not the description of an issuer"), "{said}");
}

#[tokio::test]
async fn a_file_of_keys_is_read_again() {
    let (folder, time) = (tempfile::tempdir().unwrap(), Time::default());
    let (old, new) = (Signer::new("ES256", Some("a")), Signer::new("ES256", Some("b")));
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, published(&[&old])).unwrap();
    let mount = Mount::new(KeySource::File(file.clone()), rules(), &time);
    // For as long as nobody changes it.
    time.pass(30 * KEEP);
    assert!(mount.user(&lasting(&old)).await.is_ok());
    std::fs::write(&file, published(&[&new])).unwrap();
    mount.keys.reload();
    assert!(mount.user(&lasting(&new)).await.is_ok());
    assert!(mount.user(&lasting(&old)).await.is_err());
    std::fs::write(&file, "rubbish").unwrap();
    mount.keys.reload();
    assert!(mount.user(&lasting(&new)).await.is_ok());
    assert!(mount.keys.status().failing.unwrap().contains("jwks.json: not a set of keys"));
    let missing = KeySource::File(folder.path().join("missing"));
    let said = Keys::open("company", missing, time.clock()).unwrap_err();
    assert!(said.starts_with("cannot read keys from ") && said.contains("missing"), "{said}");
}

#[tokio::test]
async fn keys_can_be_there_before_the_first_token() {
    let (server, time) = (Server::start().await, Time::default());
    let signer = Signer::new("EdDSA", None);
    server.publish("/keys", "200 OK", published(&[&signer]));
    let mount = at(&server, &time);
    assert!(server.asked().is_empty());
    mount.keys.prefetch();
    mount.keys.prefetch();
    assert!(mount.user(&lasting(&signer)).await.is_ok());
    mount.keys.prefetch();
    assert_eq!(server.asked().len(), 1);
}

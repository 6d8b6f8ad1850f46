//! Authentication over HTTP: challenges, passwords, and what a password check costs.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use keepgate_auth::htpasswd::Options;
use keepgate_auth::{Access, Htpasswd, Method};

use crate::support::{Response, Running, config, start_with};

const CHALLENGE: Option<&str> = Some(r#"Basic realm="keepgate", charset="UTF-8""#);

fn line(user: &str, password: &str) -> String {
    format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap())
}

fn load(folder: &Path, text: &str, options: Options) -> Arc<Htpasswd> {
    let path = folder.join(".htpasswd");
    std::fs::write(&path, text).unwrap();
    Htpasswd::load(path, options).unwrap()
}

async fn start(users: &Arc<Htpasswd>) -> Running {
    start_with(Access::Methods(vec![Method::Htpasswd(users.clone())]), config()).await
}

fn request(path: &str, user: &str, password: &str) -> String {
    let credentials =
        base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("GET {path} HTTP/1.1\r\nAuthorization: Basic {credentials}\r\n\r\n")
}

async fn login(server: &Running, user: &str, password: &str) -> Response {
    server.ask(&request("/show", user, password)).await
}

#[tokio::test]
async fn nobody_is_admitted_without_the_right_password() {
    let folder = tempfile::tempdir().unwrap();
    let users = load(folder.path(), &line("zoë", "päss"), Options::default());
    let server = start(&users).await;

    let anonymous = server.get("/show").await;
    assert_eq!((anonymous.status, anonymous.text()), (401, "Unauthorized\n"));
    assert_eq!(anonymous.header("www-authenticate"), CHALLENGE);
    for (user, password) in [("zoë", "pass"), ("zoë", ""), ("", "päss"), ("bob", "päss")] {
        let rejected = login(&server, user, password).await;
        assert_eq!((rejected.status, rejected.header("www-authenticate")), (401, CHALLENGE));
    }
    let accepted = login(&server, "zoë", "päss").await;
    assert_eq!(accepted.status, 200);
    assert!(accepted.text().starts_with(r#"GET ["show"] false [] Some("zoë")"#));
    assert!(!accepted.text().contains("authorization"));
    // A plugin's own 401 gets a challenge as well.
    let kept_out = server.ask(&request("/keep-out", "zoë", "päss")).await;
    assert_eq!((kept_out.status, kept_out.header("www-authenticate")), (401, CHALLENGE));

    let counters = server.counters();
    assert!(counters.contains("login_failures_total{mount=\"/\"} 4\n"), "{counters}");
    server.end().await;
}

#[tokio::test]
async fn a_mount_without_a_method_admits_nobody() {
    let server = start_with(Access::Methods(Vec::new()), config()).await;
    let closed = login(&server, "anybody", "anything").await;
    assert_eq!((closed.status, closed.header("www-authenticate")), (401, None));
    server.end().await;
}

#[tokio::test]
async fn a_valid_password_is_checked_once() {
    let folder = tempfile::tempdir().unwrap();
    let users = load(folder.path(), &line("alice", "secret"), Options::default());
    let server = start(&users).await;
    // Concurrent requests share one check.
    let logins = (0..8).map(|_| login(&server, "alice", "secret"));
    for response in futures_util::future::join_all(logins).await {
        assert_eq!(response.status, 200);
    }
    assert_eq!(users.bcrypt_checks(), 1);
    for _ in 0..20 {
        assert_eq!(login(&server, "alice", "secret").await.status, 200);
    }
    assert_eq!(users.bcrypt_checks(), 1);
    // Wrong passwords are checked each time and do not evict the valid one.
    for _ in 0..3 {
        assert_eq!(login(&server, "alice", "wrong").await.status, 401);
    }
    assert_eq!(users.bcrypt_checks(), 4);
    assert_eq!(login(&server, "alice", "secret").await.status, 200);
    assert_eq!(users.bcrypt_checks(), 4);
    server.end().await;
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { checks: 1, waiting: 4, waiting_per_address: 2, ..Options::default() };
    let good = format!("alice:{}\n", bcrypt::hash("secret", 4).unwrap());
    let slow = format!("slow:{}\n", bcrypt::hash("x", 9).unwrap());
    let users = load(folder.path(), &(good + &slow), options);
    let server = start(&users).await;
    assert_eq!(login(&server, "alice", "secret").await.status, 200);

    let passwords: Vec<String> = (0..12).map(|number| format!("guess{number}")).collect();
    let guesses = passwords.iter().map(|password| login(&server, "slow", password));
    let guesses = futures_util::future::join_all(guesses);
    let known = async { login(&server, "alice", "secret").await };
    let (guesses, known) = tokio::join!(guesses, known);
    assert_eq!(known.status, 200, "a remembered login does not wait");
    let count = |status| guesses.iter().filter(|guess| guess.status == status).count();
    assert!(count(401) >= 2 && count(503) >= 1, "{guesses:?}");
    assert_eq!(count(401) + count(503), 12);
    let busy = guesses.iter().find(|guess| guess.status == 503).unwrap();
    assert_eq!(busy.header("retry-after"), Some("2"));
    server.end().await;
}

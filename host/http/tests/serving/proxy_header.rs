//! Users that a proxy in front has authenticated.

use std::sync::Arc;

use keepgate_auth::htpasswd::Options;
use keepgate_auth::{Access, Htpasswd, Method, ProxyHeader};
use keepgate_http::{Address, ListenerConfig};
use tokio::net::UnixStream;

use crate::support::{Client, LONG, Native, Running, config, start_mounts, start_with, text};

fn header() -> ProxyHeader {
    "X-Forwarded-User".parse().unwrap()
}

/// Answers with the principal and the headers.
async fn start(methods: Vec<Method>, config: ListenerConfig) -> Running {
    let handler = Native::at("/", |request| async move {
        let user = request.principal.map(|principal| (principal.name, principal.method));
        text(format!("{user:?} {:?}", request.headers))
    });
    let access = Arc::new(Access::Methods(methods));
    start_mounts(vec![(handler, access)], config).await
}

fn request(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\n{headers}\r\n")
}

#[tokio::test]
async fn a_trusted_proxy_names_the_user() {
    let server = start(vec![Method::ProxyHeader(header())], config()).await;
    let ask = async |headers: &str| server.ask(&request(headers)).await;

    let alice =
        ask("x-forwarded-user: alice b\r\nX-Other: 1\r\nAuthorization: Basic eDp5\r\n").await;
    assert_eq!(alice.text(), r#"Some(("alice b", "proxy")) [("x-other", "1")]"#);
    // `a:myPassword`: this method ignores passwords.
    let nobodies = ["", "X-Forwarded-User:\r\n", "Authorization: Basic YTpteVBhc3N3b3Jk\r\n"];
    let forged = ["X-Forwarded-User: a\r\nX-Forwarded-User: b\r\n", "X-Forwarded-User: a\tb\r\n"];
    let long = format!("X-Forwarded-User: {}\r\n", "x".repeat(256));
    for headers in nobodies.into_iter().chain(forged).chain([long.as_str()]) {
        let refused = ask(headers).await;
        assert_eq!((refused.status, refused.text()), (401, "Unauthorized\n"), "{headers}");
        assert_eq!(refused.header("www-authenticate"), None);
    }
    let counters = server.counters();
    assert!(counters.contains("login_failures_total{mount=\"/\"} 3\n"), "{counters}");
    server.end().await;
}

#[tokio::test]
async fn untrusted_peers_cannot_name_a_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".htpasswd");
    std::fs::write(&path, "a:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=\n").unwrap();
    let users = Method::Htpasswd(Htpasswd::load(path, Options::default()).unwrap());
    let elsewhere = header().trusted_from(["192.0.2.0/24".parse().unwrap()]);
    let methods = vec![Method::ProxyHeader(elsewhere), users.clone()];
    let server = start(methods, config()).await;
    let forged = server.ask(&request("X-Forwarded-User: root\r\n")).await;
    assert_eq!(forged.status, 401);
    assert!(forged.header("www-authenticate").is_some(), "a password would do");
    // A password is accepted, and the plugin does not see the header.
    let both = "X-Forwarded-User: root\r\nAuthorization: Basic YTpteVBhc3N3b3Jk\r\n";
    let known = server.ask(&request(both)).await;
    assert_eq!(known.text(), r#"Some(("a", "htpasswd")) []"#);
    server.end().await;

    let here = header().trusted_from(["127.0.0.0/8".parse().unwrap()]);
    let server = start(vec![Method::ProxyHeader(here.clone()), users], config()).await;
    let known = server.ask(&request(both)).await;
    assert_eq!(known.text(), r#"Some(("root", "proxy")) []"#);
    // If a proxy sends two names, a password does not help.
    let two = format!("X-Forwarded-User: x\r\n{both}");
    assert_eq!(server.ask(&request(&two)).await.status, 401);
    server.end().await;

    // A Unix socket is local.
    let path = folder.path().join("socket");
    for (believed, status) in [(here, 200), (header(), 200), (elsewhere_too(), 401)] {
        let at = ListenerConfig { address: Address::Unix(path.clone()), ..config() };
        let server = start_with(Access::Methods(vec![Method::ProxyHeader(believed)]), at).await;
        let mut client = Client::over(UnixStream::connect(&path).await.unwrap());
        client.send(b"GET /show HTTP/1.1\r\nX-Forwarded-User: root\r\n\r\n").await;
        assert_eq!(client.response().await.status, status);
        drop(client);
        tokio::time::timeout(LONG, server.end()).await.unwrap();
    }
}

fn elsewhere_too() -> ProxyHeader {
    header().trusted_from(["192.0.2.0/24".parse().unwrap()])
}

//! Addresses that clients name: only those in the operator's list, only where they may lead, and never further.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use keepgate_upstream::{
    Address, Destination, Exchanges as _, Resolve, Resolving, Response, Upstream, UpstreamError,
    UpstreamOptions,
};

use crate::server::{Server, options, request, text};

/// Resolves every name to the next of these; to the last again and again.
#[derive(Debug)]
struct Names(Mutex<VecDeque<Vec<IpAddr>>>, Arc<Mutex<Vec<String>>>);

impl Resolve for Names {
    fn resolve(&self, name: &str) -> Resolving {
        self.1.lock().unwrap().push(name.to_owned());
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such name")) })
    }
}

struct Notifier {
    upstream: Upstream,
    asked: Arc<Mutex<Vec<String>>>,
}

fn notifier(prefixes: &[(&str, bool)], names: &[&[&str]]) -> Notifier {
    let addresses = prefixes.iter().map(|(prefix, private)| {
        let (prefix, private) = ((*prefix).to_owned(), *private);
        Address { prefix, private }
    });
    let destination = Destination::Addresses(addresses.collect());
    let defaults = UpstreamOptions::new("notify", destination);
    assert_eq!(defaults.methods, ["POST"], "what a notification is");
    let options = UpstreamOptions { timeouts: options("http://x").timeouts, ..defaults };
    let answers = names.iter().map(|all| all.iter().map(|one| one.parse().unwrap()).collect());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let resolver = Names(Mutex::new(answers.collect()), Arc::clone(&asked));
    Notifier { upstream: Upstream::with_resolver(options, Arc::new(resolver)).unwrap(), asked }
}

impl Notifier {
    async fn post(&self, url: &str) -> Result<Response, UpstreamError> {
        self.upstream.send(request("POST", url)).await
    }
}

async fn receiver() -> Server {
    Server::start(|mut connection| async move {
        let head = connection.head().await;
        connection.answer("200 OK", &head).await;
        connection.silence().await;
    })
    .await
}

#[tokio::test]
async fn a_named_address_is_reached_if_the_operator_lists_it() {
    let server = receiver().await;
    let port = server.address.port();
    let prefix = format!("http://hooks.example:{port}/keepgate");
    let notifier = notifier(&[(&prefix, true)], &[&["127.0.0.1"]]);
    for _ in 0..2 {
        let response = notifier.post(&format!("{prefix}/done?x=1")).await.unwrap();
        let head = text(response.body).await.unwrap();
        assert!(head.starts_with("POST /keepgate/done?x=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: hooks.example:{port}\r\n")), "{head}");
    }
    // Each request is looked at anew.
    assert_eq!(server.connections(), 2);
    assert_eq!(*notifier.asked.lock().unwrap(), ["hooks.example", "hooks.example"]);
    for url in [
        format!("http://hooks.example:{port}/other"),
        format!("http://other.example:{port}/keepgate/x"),
    ] {
        let result = notifier.post(&url).await;
        assert!(matches!(result, Err(UpstreamError::Denied(_))), "{url}: {result:?}");
    }
    let result = notifier.upstream.send(request("GET", &prefix)).await;
    assert!(matches!(result, Err(UpstreamError::Denied(_))), "{result:?}");
    assert_eq!(notifier.asked.lock().unwrap().len(), 2, "what is refused is not even resolved");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_before_anything_is_dialled() {
    let server = receiver().await;
    let port = server.address.port();
    let prefix = format!("http://hooks.example:{port}");
    for addresses in [
        &["127.0.0.1"][..],
        &["10.0.0.1"],
        &["169.254.169.254"],
        &["0.0.0.0"],
        &["::1"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["2002:7f00:1::"],
        &["fd00::1"],
        &["fe80::1"],
        // One good address does not excuse the other.
        &["8.8.8.8", "127.0.0.1"],
        &["127.0.0.1", "8.8.8.8"],
    ] {
        let notifier = notifier(&[(&prefix, false)], &[addresses]);
        match notifier.post(&prefix).await {
            Err(UpstreamError::Denied(why)) => {
                assert!(
                    why.contains("hooks.example leads to an address that is not allowed"),
                    "{why}"
                );
                assert!(!addresses.iter().any(|address| why.contains(address)), "{why}");
            }
            other => panic!("{addresses:?}: {other:?}"),
        }
    }
    assert_eq!(server.connections(), 0);
    // Never, whatever the operator says.
    let notifier = notifier(&[(&prefix, true)], &[&["0.0.0.0"]]);
    assert!(matches!(notifier.post(&prefix).await, Err(UpstreamError::Denied(_))));
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn the_address_that_was_looked_at_is_the_one_that_is_dialled() {
    // The first answer is harmless, the second one leads inside: it is asked for a second request, and looked at again.
    let server = receiver().await;
    let port = server.address.port();
    let prefix = format!("http://hooks.example:{port}");
    let inside = notifier(&[(&prefix, true)], &[&["127.0.0.1"], &["0.0.0.0"]]);
    assert!(inside.post(&prefix).await.is_ok());
    assert_eq!(inside.asked.lock().unwrap().len(), 1, "a name is resolved once for a request");
    let result = inside.post(&prefix).await;
    assert!(matches!(result, Err(UpstreamError::Denied(_))), "{result:?}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn addresses_in_numbers_are_looked_at_like_names() {
    let server = receiver().await;
    let port = server.address.port();
    let own = format!("http://127.0.0.1:{port}");
    let mapped = format!("http://[::ffff:127.0.0.1]:{port}");
    let refused = notifier(&[(&own, false), (&mapped, false)], &[]);
    for url in [&own, &mapped] {
        let result = refused.post(url).await;
        assert!(matches!(result, Err(UpstreamError::Denied(_))), "{url}: {result:?}");
    }
    let allowed = notifier(&[(&own, true)], &[]);
    assert!(allowed.post(&own).await.is_ok());
    // Other ways to write the same address are not in the list, or no address at all.
    for host in [
        "2130706433",
        "0x7f000001",
        "017700000001",
        "127.1",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "127.0.0.1.",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "localhost",
        "127.0.0.1.nip.example",
        "user@127.0.0.1",
        "①②⑦.0.0.1",
    ] {
        let result = allowed.post(&format!("http://{host}:{port}")).await;
        let is_refused =
            matches!(result, Err(UpstreamError::Denied(_) | UpstreamError::Invalid(_)));
        // A dot at the end is the same host, and allowed as such.
        assert!(is_refused || host == "127.0.0.1.", "{host}: {result:?}");
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_leads_nowhere() {
    let inside = receiver().await;
    let target = inside.address;
    let server = Server::start(move |mut connection| async move {
        connection.head().await;
        connection
            .send(format!(
                "HTTP/1.1 307 T\r\nlocation: http://{target}/\r\ncontent-length: 0\r\n\r\n"
            ))
            .await;
    })
    .await;
    let prefix = format!("http://hooks.example:{}", server.address.port());
    let notifier = notifier(&[(&prefix, true)], &[&["127.0.0.1"]]);
    let response = notifier.post(&prefix).await.unwrap();
    assert_eq!(response.status, 307);
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn an_empty_list_allows_nothing() {
    let nothing = notifier(&[], &[&["8.8.8.8"]]);
    let result = nothing.post("https://hooks.example/").await;
    assert!(matches!(result, Err(UpstreamError::Denied(_))), "{result:?}");
    assert!(nothing.asked.lock().unwrap().is_empty());
    assert_eq!(
        nothing.upstream.probe().await.unwrap(),
        "a list of addresses; nothing to connect to"
    );
}

#[tokio::test]
async fn all_addresses_of_a_name_are_tried() {
    let server = receiver().await;
    let prefix = format!("http://hooks.example:{}", server.address.port());
    // Nothing listens at the first.
    let elsewhere = Ipv4Addr::new(127, 0, 0, 99).to_string();
    let notifier = notifier(&[(&prefix, true)], &[&[&elsewhere, "127.0.0.1"]]);
    assert!(notifier.post(&prefix).await.is_ok());
}

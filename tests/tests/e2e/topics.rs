//! Topics: whoever follows one gets what is published, and neither a client that has left nor a reload nor a shutdown
//! waits for followers.

use std::io::Read as _;

use keepgate_tests::client::{Connection, Download};
use keepgate_tests::component::tagged;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::LONG;
use keepgate_tests::tools;
use rustix::process::Signal;

fn started() -> (Setup, Gateway) {
    let setup = Setup::new()
        .mount("/news", "follower", "limits = { calls = 4, cpu = \"300ms\" }")
        .mount("/other", "follower", "limits = { calls = 1 }");
    setup.install("follower", &tools::guest("follower"));
    let gateway = setup.start();
    (setup, gateway)
}

/// How many have got a message.
#[track_caller]
fn publish(gateway: &Gateway, mount: &str, message: &str) -> String {
    gateway.endpoint().post(&format!("{mount}/publish/topic"), message.as_bytes()).text()
}

/// Follows a topic; it has begun when this returns.
#[track_caller]
fn follow(connection: &mut Connection) -> Download<'_> {
    connection.write_head("GET", "/news/follow/topic", &[]).unwrap();
    let mut reply = connection.download("GET").unwrap();
    assert_eq!(reply.head.status, 200);
    assert_eq!(line(&mut reply), "open");
    reply
}

/// The next line; empty at the end of a reply that does not break off.
#[track_caller]
fn line(reply: &mut Download<'_>) -> String {
    let mut line = String::new();
    let mut byte = [0];
    while reply.read(&mut byte).unwrap() > 0 && byte != *b"\n" {
        line.push(char::from(byte[0]));
    }
    line
}

#[test]
fn followers_get_what_is_published_until_they_leave() {
    let (_setup, gateway) = started();
    let client = gateway.endpoint();
    assert_eq!(publish(&gateway, "/news", "nobody hears"), "0");
    let (mut one, mut two) = (client.connect(), client.connect());
    let (mut first, mut second) = (follow(&mut one), follow(&mut two));
    for message in ["one", "two"] {
        assert_eq!(publish(&gateway, "/news", message), "2");
        assert_eq!(line(&mut first), message);
    }
    assert_eq!((line(&mut second), line(&mut second)), ("one".to_owned(), "two".to_owned()));
    assert_eq!(publish(&gateway, "/other", "another mount"), "0");
    // Half of the calls may follow, so that there is always somebody who can publish.
    for mount in ["/news", "/other"] {
        let refused = client.get(&format!("{mount}/follow/topic"));
        assert_eq!(refused.status, 503);
        assert!(refused.text().contains("limits.calls"), "{}", refused.text());
    }
    // One is asked to close, and one is gone; both are noticed by writing.
    drop(one);
    two.reset();
    gateway.eventually("the subscriptions are gone", |gateway| {
        publish(gateway, "/news", "is anybody there?") == "0"
    });
    let (mut one, mut two) = (client.connect(), client.connect());
    let _both = (follow(&mut one), follow(&mut two));
    assert_eq!(publish(&gateway, "/news", "again"), "2");
    gateway.stop();
}

#[test]
fn a_reload_ends_what_follows_a_mount_that_it_replaces() {
    let (setup, gateway) = started();
    let client = gateway.endpoint();
    let mut connection = client.connect();
    let mut reply = follow(&mut connection);
    let install = |name: &str, component: &[u8]| {
        let from = gateway.program.stderr.count();
        setup.install(name, component);
        gateway.program.stderr.wait_for(from, &["serving", "generation="]);
    };
    install("restic", &tagged(&tools::plugin("restic"), 1));
    assert_eq!(publish(&gateway, "/news", "still here"), "1");
    assert_eq!(line(&mut reply), "still here");
    install("follower", &tagged(&tools::guest("follower"), 1));
    assert_eq!((line(&mut reply), line(&mut reply)), ("closed".to_owned(), String::new()));
    assert_eq!(publish(&gateway, "/news", "nobody hears"), "0");
    let mut connection = client.connect();
    let mut reply = follow(&mut connection);
    gateway.reload();
    assert_eq!((line(&mut reply), line(&mut reply)), ("closed".to_owned(), String::new()));
    gateway.stop();
}

#[test]
fn a_shutdown_does_not_wait_for_followers() {
    let (_setup, mut gateway) = started();
    let client = gateway.endpoint();
    let (mut following, mut deaf) = (client.connect(), client.connect());
    let mut reply = follow(&mut following);
    // A plugin that goes on waiting although nothing will come.
    deaf.write_head("GET", "/news/deaf/topic", &[]).unwrap();
    gateway.eventually("both wait", |gateway| publish(gateway, "/news", "?") == "2");
    gateway.program.signal(Signal::TERM);
    let mut said = Vec::new();
    while said.last().is_none_or(|line| line != "closed") {
        said.push(line(&mut reply));
    }
    assert!(said.iter().rev().skip(1).all(|line| line == "?"), "{said:?}");
    assert_eq!(line(&mut reply), "", "the reply is whole");
    assert_eq!(deaf.reply("GET").unwrap().status, 503);
    assert_eq!(gateway.program.wait(LONG).code(), Some(0));
}

//! Clients that close their side of the connection, or leave, with their request: the end of the connection
//! arrives together with head and body. Every one of them gets its backup, and its answer if it waits.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpStream};

use keepgate_tests::client::Reply;
use keepgate_tests::connection::Connection;
use keepgate_tests::etcd::{Etcd, Member};
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::LONG;
use rustix::process::Signal;
use serde_json::Value;

use super::{LIST, assert_store_has, assert_whole, list, name, setup, taken};

/// How many clients of each kind.
const CLIENTS: usize = 20;

fn started(check: &str) -> Option<(Member, Setup, Gateway)> {
    let member = Etcd::debian(check)?.start();
    member.fill(0, 100, 1_000);
    let setup = setup(&[member.url()], "settings = { rotate = 100 }");
    let gateway = setup.start();
    Some((member, setup, gateway))
}

/// Lets a client act while the gateway stands still, so that it finds all of it at once.
fn at_once<T>(gateway: &Gateway, act: impl FnOnce() -> T) -> T {
    gateway.program.signal(Signal::STOP);
    let done = act();
    gateway.program.signal(Signal::CONT);
    done
}

/// Sends the request for a backup, with a body that is not asked for, and nothing more.
fn ask(gateway: &Gateway, headers: &[(&str, &str)]) -> Connection {
    let mut connection = gateway.endpoint().connect();
    let headers = [headers, &[("content-length", "2")]].concat();
    connection.write_head("POST", LIST, &headers).unwrap();
    connection.write(b"{}").unwrap();
    connection
}

#[test]
fn a_request_with_the_end_of_its_connection_is_answered() {
    let Some((_member, setup, gateway)) = started("etcd backups whose clients close their side")
    else {
        return;
    };
    let mut names = BTreeSet::new();
    for client in 0..CLIENTS {
        let headers: &[_] = if client % 2 == 0 { &[] } else { &[("connection", "close")] };
        let mut connection = at_once(&gateway, || {
            let connection = ask(&gateway, headers);
            connection.finish_writing();
            connection
        });
        let reply: Reply = connection.reply("POST").unwrap();
        names.insert(name(&taken(&reply)));
    }
    assert_eq!(names.len(), CLIENTS, "{names:?}");
    let names: Vec<_> = names.into_iter().collect();
    assert_eq!(list(&gateway), names);
    assert_store_has(&setup, &names);
    gateway.stop();
}

#[test]
fn a_request_whose_client_leaves_with_it_is_worked_on() {
    let Some((_member, setup, gateway)) = started("etcd backups whose clients leave at once")
    else {
        return;
    };
    for _ in 0..CLIENTS {
        at_once(&gateway, || drop(ask(&gateway, &[])));
    }
    gateway.eventually("the backups", |gateway| list(gateway).len() == CLIENTS);
    let names = list(&gateway);
    for name in &names {
        assert_whole(&gateway, name);
    }
    assert_store_has(&setup, &names);
    gateway.stop();
}

/// What `printf … | nc -N` does: sends its input, closes its side, and prints what comes until the end.
#[test]
fn a_client_that_half_closes_reads_the_answer_to_its_end() {
    let Some((_member, setup, gateway)) = started("etcd backups by `nc -N`") else { return };
    let address = SocketAddr::from(([127, 0, 0, 1], gateway.port()));
    for version in ["1.0", "1.1"] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let head = format!("POST {LIST} HTTP/{version}\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{said:?}"));
        assert!(head.starts_with(&format!("HTTP/{version} 200 ")), "{head}");
        let answer: Value = serde_json::from_str(body).unwrap();
        assert_eq!(answer["message"], "backup successfully", "{answer}");
    }
    assert_eq!(list(&gateway).len(), 2);
    assert_store_has(&setup, &list(&gateway));
    gateway.stop();
}

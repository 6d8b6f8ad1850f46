//! Cases over a socket: a server whose answer was lost in a reset, what is skipped and why, what a surface gives.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use keepgate_harness::case::{CaseFile, Surface};
use keepgate_harness::socket::{Server, Trust};
use keepgate_harness::{Differences, Report, RunOptions, Target, report, run_against};

/// A server that answers each connection's request with the next of these; an empty one resets the connection. Returns
/// its URL, and what it was sent when it has answered all.
fn server(replies: &[&'static str]) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://ann:secret@{}/deep", listener.local_addr().unwrap());
    let replies = replies.to_vec();
    let served = thread::spawn(move || {
        let mut requests = Vec::new();
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 64 * 1024];
            let size = stream.read(&mut request).unwrap();
            requests.push(String::from_utf8_lossy(&request[..size]).into_owned());
            if reply.is_empty() {
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            } else {
                stream.write_all(reply.as_bytes()).unwrap();
            }
        }
        requests
    });
    (url, served)
}

fn play(text: &str, url: &str, repeats: usize) -> Report {
    let surface = "apart = true\n[given.\"{kind}/{name}\"]\n\
                   step = [{ send = \"PUT /{kind}/{name}\", expect.status = 201 }]\n";
    let surface = Arc::new(Surface::parse(surface, Path::new("surface.toml")).unwrap());
    let file = CaseFile::parse(text, Path::new("x.toml")).unwrap();
    let differences = Differences { repeats_after_a_reset: repeats, ..Differences::default() };
    let options = RunOptions { differences: Some(differences), ..RunOptions::default() };
    let server = Server::at(url, &Trust::Machine).unwrap();
    run_against(&Target::Running(&server), &[file.with_surface(surface)], &options)
}

const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
const CREATED: &str = "HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n";
const GET: &str =
    "[[case]]\nname = \"a\"\n[[case.step]]\nsend = \"GET /b?c\"\nexpect.status = 404\n";

#[test]
fn a_request_is_repeated_if_the_server_is_known_to_reset_connections() {
    let (url, served) = server(&["", "", NOT_FOUND]);
    let report = play(GET, &url, 3);
    assert_eq!((report.right(), report.repeated), (1, 2), "{}", report::text(&report));
    assert!(report::sum(&report).contains("2 requests repeated"), "{}", report::sum(&report));
    served.join().unwrap();
}

#[test]
fn a_reset_fails_the_case_of_any_other_server() {
    let (url, served) = server(&[""]);
    let report = play(GET, &url, 0);
    assert_eq!((report.wrong(), report.repeated), (1, 0));
    assert!(report::text(&report).contains("the connection ended without a reply"));
    served.join().unwrap();
}

#[test]
fn each_case_is_asked_below_a_folder_of_its_own() {
    let (url, served) = server(&[CREATED, NOT_FOUND]);
    let report =
        play(&GET.replace("\n[[case.step", "\ngiven = [\"data/x\"]\n[[case.step"), &url, 0);
    assert_eq!(report.right(), 1, "{}", report::text(&report));
    let requests = served.join().unwrap();
    assert!(requests[0].starts_with("PUT /deep/conformance-"), "{requests:?}");
    assert!(requests[0].contains("/data/x HTTP/1.1\r\n"), "{requests:?}");
    assert!(requests[1].contains("/b?c HTTP/1.1\r\n"), "{requests:?}");
    assert!(requests[1].contains("authorization: Basic YW5uOnNlY3JldA==\r\n"), "{requests:?}");
}

#[test]
fn cases_that_need_an_inside_view_are_skipped_with_the_reason() {
    let case = |name: &str, rest: &str| {
        format!(
            "[[case]]\nname = \"{name}\"\n{rest}[[case.step]]\nsend = \"GET /\"\nexpect.status = 1\n"
        )
    };
    let text = [
        case("a", "world.fault = [{ on = \"get\", fails = \"io\" }]\n"),
        case("b", "world.cluster.main = [{ endpoint = \"http://a\" }]\n"),
        case("c", "world.user = \"bob\"\n"),
        case("d", "world.blobs.x = \"y\"\n"),
        case("e", "server.flags = [\"--x\"]\n"),
        case("f", "").replace("expect.status", "advance = \"1s\"\nexpect.status"),
        case("g", "").replace("expect.status", "expect.calls = []\nexpect.status"),
    ];
    let report = play(&text.concat(), "http://127.0.0.1:9/", 0);
    let whys: Vec<_> = report.skipped.iter().map(|skipped| skipped.why.as_str()).collect();
    assert_eq!(
        whys,
        [
            "needs faults",
            "needs the test double `cluster`",
            "needs the login of bob",
            "needs the server's data folder",
            "needs a server of its own",
            "moves the clock",
            "looks at the plugin's calls",
        ]
    );
    assert!(report::text(&report).contains("skipped 1 case: moves the clock"));
}

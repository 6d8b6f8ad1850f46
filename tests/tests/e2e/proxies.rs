//! Which client a request comes from, if a proxy is in front: behind HAProxy, in each way that it can say so, and only if
//! it is one that the operator trusts.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use keepgate_tests::etcd::free_port;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::Program;
use keepgate_tests::tools;

/// Three wrong passwords from an address are the last ones.
const LIMIT: &str = "[mount.rate_limit.logins]\nby = \"address\"\nrequests = 3\nper = \"24h\"\ncount = \"failed\"\n";

/// A gateway that asks for passwords, whose listener has this line.
fn behind(setup: Setup, line: &str) -> (Setup, Gateway) {
    let log = setup.path("access.log");
    let setup = setup.user("alice", "secret").mount("/", "restic", LIMIT);
    let setup = setup.table(&format!("[log]\naccess = \"{}\"", log.display()));
    setup.write();
    setup.edit(|text| text.replace("[[listener]]\n", &format!("[[listener]]\n{line}\n")));
    let gateway = setup.start();
    (setup, gateway)
}

/// Addresses at the beginning of the lines of the access log.
fn logged(setup: &Setup) -> Vec<String> {
    let text = fs::read_to_string(setup.path("access.log")).unwrap();
    text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn a_trusted_proxys_header_says_who_failed_to_log_in() {
    let line = "proxies = { from = [\"127.0.0.1\"], client_address = \"x-forwarded-for\" }";
    let (setup, gateway) = behind(Setup::new(), line);
    let client = gateway.as_user("alice", "guess");
    let guess =
        |from: &str| client.send("GET", "/r/config", &[("x-forwarded-for", from)], b"").status;
    for _ in 0..3 {
        assert_eq!(guess("192.0.2.1, 198.51.100.7"), 401);
    }
    assert_eq!(guess("198.51.100.7"), 429);
    assert_eq!(guess("198.51.100.8"), 401, "another client of the same proxy");
    let right = gateway.as_user("alice", "secret");
    assert_eq!(right.status("GET", "/r/config"), 404, "the proxy itself");
    let (_, line) = gateway.program.stderr.wait_for(0, &["login failed"]);
    assert!(line.contains("peer=198.51.100.7"), "{line}");
    gateway.stop();
    let expected = ["198.51.100.7"; 4].into_iter().chain(["198.51.100.8", "127.0.0.1"]);
    assert_eq!(logged(&setup), expected.collect::<Vec<_>>());
}

#[test]
fn nobody_else_is_believed() {
    for line in [
        "",
        "proxies = { from = [\"10.0.0.0/8\"], client_address = \"x-forwarded-for\" }",
        "proxies = { from = [\"127.0.0.1\"], client_address = \"forwarded\" }",
        "proxies = { from = [\"10.0.0.0/8\"], client_address = \"proxy-protocol\" }",
    ] {
        let (setup, gateway) = behind(Setup::new(), line);
        let client = gateway.as_user("alice", "secret");
        let headers = [("x-forwarded-for", "198.51.100.7")];
        assert_eq!(client.send("GET", "/r/config", &headers, b"").status, 404);
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
        stream
            .write_all(b"PROXY TCP4 198.51.100.7 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{line}: {answer}");
        gateway.stop();
        assert_eq!(logged(&setup), ["127.0.0.1"], "{line}");
    }
}

#[test]
fn a_trusted_proxy_must_begin_with_the_header_of_the_protocol() {
    let line = "proxies = { from = [\"127.0.0.1\"], client_address = \"proxy-protocol\" }";
    let (setup, gateway) = behind(Setup::new(), line);
    let mut answers = Vec::new();
    for begin in [
        "",
        "PROXY TCP4 198.51.100.7 127.0.0.1 1 2\r\n",
        "PROXY UNKNOWN\r\n",
        "PROXY TCP4 a b 1 2\r\n",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
        let request = "GET /r/config HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(format!("{begin}{request}").as_bytes()).unwrap();
        let mut answer = Vec::new();
        // It may be reset.
        let _ = stream.read_to_end(&mut answer);
        answers.push(String::from_utf8_lossy(&answer).chars().take(12).collect::<String>());
    }
    assert_eq!(answers, ["", "HTTP/1.1 401", "HTTP/1.1 401", ""]);
    let text = gateway.program.stderr.text();
    assert!(text.contains("no PROXY header") && text.contains("peer=127.0.0.1"), "{text}");
    gateway.stop();
    assert_eq!(logged(&setup), ["198.51.100.7", "127.0.0.1"]);
}

/// HAProxy, in front of a gateway.
struct HaProxy {
    program: Program,
    port: u16,
}

impl HaProxy {
    fn start(binary: PathBuf, setup: &Setup, gateway: &Gateway, mode: &str, server: &str) -> Self {
        let port = free_port();
        let file = setup.path("haproxy.cfg");
        let backend = mode.lines().next().unwrap();
        let text = format!(
            "defaults\n  timeout connect 10s\n  timeout client 30s\n  timeout server 30s\n\
             frontend clients\n  mode {mode}\n  bind 127.0.0.1:{port}\n  default_backend gateway\n\
             backend gateway\n  mode {backend}\n  server one 127.0.0.1:{} {server}\n",
            gateway.port()
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new(binary);
        command.args(["-db", "-f"]).arg(&file);
        let program = Program::start(command);
        gateway.eventually("HAProxy listens", |_| TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { program, port }
    }
}

#[test]
fn haproxy_passes_the_client_on_in_each_of_its_ways() {
    let check = "a gateway behind HAProxy";
    let (Some(haproxy), Some(curl)) =
        (tools::find_for("haproxy", check), tools::find_for("curl", check))
    else {
        return;
    };
    for (says, tls, mode, server) in [
        ("proxy-protocol", false, "tcp", "send-proxy"),
        ("proxy-protocol", true, "tcp", "send-proxy-v2"),
        ("x-forwarded-for", false, "http\n  option forwardfor", ""),
        ("forwarded", false, "http\n  http-request set-header Forwarded for=%[src]", ""),
    ] {
        let (setup, scheme) =
            if tls { (Setup::new().tls(), "https") } else { (Setup::new(), "http") };
        let line = format!("proxies = {{ from = [\"127.0.0.1\"], client_address = \"{says}\" }}");
        let (setup, gateway) = behind(setup, &line);
        let proxy = HaProxy::start(haproxy.clone(), &setup, &gateway, mode, server);
        let mut command = Command::new(&curl);
        command.args(["--silent", "--user", "alice:secret", "--interface", "127.0.0.2"]);
        if tls {
            command.arg("--cacert").arg(setup.certificate());
        }
        command.args(["--header", "X-Forwarded-For: 203.0.113.99", "--write-out", "%{http_code}"]);
        command.arg(format!("{scheme}://localhost:{}/r/config", proxy.port));
        let said = tools::run(command).success();
        assert!(said.trim_end().ends_with("404"), "{says} {server}: {said}");
        drop(proxy.program);
        gateway.stop();
        // curl's own header is not believed, since HAProxy adds its own after it.
        assert_eq!(logged(&setup), ["127.0.0.2"], "{says} {server}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_its_place() {
    for (line, message) in [
        ("proxies = { from = [], client_address = \"forwarded\" }", "`from` is empty"),
        ("proxies = { from = [\"10.0.0.0/40\"], client_address = \"forwarded\" }", "10.0.0.0/40"),
        ("proxies = { from = [\"10.0.0.1\"] }", "client_address"),
        ("proxies = { from = [\"10.0.0.1\"], client_address = \"x-real-ip\" }", "x-real-ip"),
    ] {
        let setup = Setup::restic();
        setup.write();
        setup.edit(|text| text.replace("[[listener]]\n", &format!("[[listener]]\n{line}\n")));
        let said = tools::run(setup.check_command()).fails_with(1);
        assert!(said.contains(message) && said.contains("keepgate.toml:"), "{line}: {said}");
    }
}

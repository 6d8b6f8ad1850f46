//! Sockets that systemd hands over. A process finds them at the descriptors 3 and up, described by its
//! environment. So each test starts a child process, this program with one of the tests `in_child_…`,
//! through a shell that sets things up as systemd does.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use arc_swap::ArcSwap;
use keepgate_auth::Access;
use keepgate_http::{
    Gateway, Handler, ListenerConfig, LocalAddress, Metrics, Server, Shutdown, Site,
};
use prometheus::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Native, soon, stock};

/// Runs one of the tests below with these two sockets and names.
fn child(case: &str, sockets: (OwnedFd, OwnedFd), count: usize, names: &str) -> Command {
    // The sockets arrive as 0 and 1 and are passed on as 3 and 4.
    let script = "exec 3<&0 4<&1 </dev/null >&2; export LISTEN_PID=$$; exec \"$@\"";
    let (first, second) = sockets;
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("handed_over::{case}"), "--ignored", "--nocapture"])
        .env("LISTEN_FDS", count.to_string())
        .env("LISTEN_FDNAMES", names)
        .stdin(first)
        .stdout(second)
        .stderr(Stdio::piped());
    command
}

fn succeeded(output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn tcp() -> std::net::TcpListener {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap()
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

async fn bind(address: &str) -> Result<Server, String> {
    let config = ListenerConfig::new(address.parse().unwrap());
    Server::bind(config).await.map_err(|error| error.to_string())
}

/// Serves a single request.
async fn serve_one(server: Server) {
    let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
    let shutdown = Shutdown::new();
    let handler = {
        let shutdown = shutdown.clone();
        Native::at("/", move |request| {
            shutdown.begin();
            stock(request)
        })
    };
    let mounts: Vec<(Arc<dyn Handler>, _)> = vec![(handler, Arc::new(Access::Open))];
    let site = Arc::new(ArcSwap::from_pointee(Site::new(mounts, &metrics).unwrap()));
    let gateway = Arc::new(Gateway::new(site, metrics, Default::default()));
    soon(server.serve(gateway, &shutdown)).await;
}

const REQUEST: &[u8] = b"GET /source/3 HTTP/1.1\r\n\r\n";

async fn is_answered(mut client: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    client.write_all(REQUEST).await.unwrap();
    let mut reply = String::new();
    soon(client.read_to_string(&mut reply)).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("\r\n\r\nxxx"), "{reply}");
}

fn folder_of(server: &Server) -> &Path {
    match server.local_addresses().first().unwrap() {
        LocalAddress::Unix(Some(path)) => path.parent().unwrap(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn tcp_and_unix_sockets_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (web, unix) = (tcp(), UnixListener::bind(&path).unwrap());
    // Clients that connect before the service starts wait for it.
    let early = TcpStream::connect(web.local_addr().unwrap()).unwrap();
    early.set_nonblocking(true).unwrap();
    let early = tokio::net::TcpStream::from_std(early).unwrap();
    let local = UnixStream::connect(&path).unwrap();
    local.set_nonblocking(true).unwrap();
    let local = tokio::net::UnixStream::from_std(local).unwrap();
    let mut child = child("in_child_two_are_served", (web.into(), unix.into()), 2, "web:local");
    let child = tokio::task::spawn_blocking(move || child.output().unwrap());
    is_answered(early).await;
    is_answered(local).await;
    succeeded(&soon(child).await.unwrap());
    assert!(path.exists(), "the socket's file is systemd's");
}

#[tokio::test]
#[ignore = "started by another test"]
async fn in_child_two_are_served() {
    // The address must name one of several sockets.
    let error = bind("systemd").await.unwrap_err();
    assert!(error.starts_with("cannot listen on systemd: more than one socket"), "{error}");
    assert!(error.contains("(web, local)") && error.contains("systemd:web"), "{error}");
    let error = bind("systemd:other").await.unwrap_err();
    assert!(error.starts_with("cannot listen on systemd:other: ") && error.contains("web, local"));
    // Child processes must not take the sockets for theirs.
    let web = bind("systemd:web").await.unwrap();
    assert_eq!(std::env::var_os("LISTEN_FDS").or(std::env::var_os("LISTEN_PID")), None);
    assert!(matches!(web.local_addresses(), [LocalAddress::Tcp(address)] if address.port() > 0));
    let error = bind("systemd:web").await.unwrap_err();
    assert!(error.contains("already uses this socket"), "{error}");
    let local = bind("systemd:local").await.unwrap();
    assert!(folder_of(&local).is_dir());
    serve_one(web).await;
    serve_one(local).await;
}

#[tokio::test]
async fn a_single_socket_needs_no_name() {
    let web = tcp();
    let client = tokio::net::TcpStream::connect(web.local_addr().unwrap()).await.unwrap();
    let mut child = child("in_child_one_is_served", (web.into(), null()), 1, "");
    let child = tokio::task::spawn_blocking(move || child.output().unwrap());
    is_answered(client).await;
    succeeded(&soon(child).await.unwrap());
}

#[tokio::test]
#[ignore = "started by another test"]
async fn in_child_one_is_served() {
    let server = bind("systemd").await.unwrap();
    serve_one(server).await;
}

#[tokio::test]
async fn sockets_that_are_not_listening_streams_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let datagrams = UnixDatagram::bind(folder.path().join("socket")).unwrap();
    let (connection, _other) = UnixStream::pair().unwrap();
    let sockets = (datagrams.into(), connection.into());
    succeeded(&child("in_child_both_are_wrong", sockets, 2, "log:one").output().unwrap());
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let sockets = (udp.into(), null());
    succeeded(&child("in_child_both_are_wrong", sockets, 2, "log:file").output().unwrap());
    let sockets = (tcp().into(), tcp().into());
    succeeded(&child("in_child_both_are_wrong", sockets, 2, "same:same").output().unwrap());
}

#[tokio::test]
#[ignore = "started by another test"]
async fn in_child_both_are_wrong() {
    let names = std::env::var("LISTEN_FDNAMES").unwrap();
    for name in names.split(':') {
        let error = bind(&format!("systemd:{name}")).await.unwrap_err();
        let expected = match name {
            "log" => "it is a datagram socket; write ListenStream=",
            "one" => "it is a connection, not a listening socket; write Accept=no",
            "file" => "it is not a TCP or Unix stream socket",
            _ => "2 sockets with this name were handed over",
        };
        assert!(error.starts_with(&format!("cannot listen on systemd:{name}: ")), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn sockets_for_another_process_are_not_taken() {
    let mut child = child("in_child_nothing_is_there", (tcp().into(), null()), 1, "web");
    // Because of `exec`, the test has the shell's process id: so another one is set.
    let script = "exec 3<&0 4<&1 </dev/null >&2; export LISTEN_PID=1; exec \"$@\"";
    let program = std::env::current_exe().unwrap();
    let case = "handed_over::in_child_nothing_is_there";
    let mut other = Command::new("sh");
    other.args(["-c", script, "sh"]).arg(program);
    other.args(["--exact", case, "--ignored", "--nocapture"]);
    other.env("LISTEN_FDS", "1").stdin(OwnedFd::from(tcp())).stdout(null()).stderr(Stdio::piped());
    succeeded(&other.output().unwrap());
    succeeded(&child.env("LISTEN_FDS", "0").output().unwrap());
}

#[tokio::test]
#[ignore = "started by another test"]
async fn in_child_nothing_is_there() {
    let other = std::env::var("LISTEN_PID").unwrap() == "1";
    let error = bind("systemd").await.unwrap_err();
    let expected = if other { "handed over to process \"1\"" } else { "no socket was handed over" };
    assert!(error.contains(expected), "{error}");
}

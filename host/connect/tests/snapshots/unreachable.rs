//! Clusters with no reachable member.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use keepgate_connect::etcd::{Cluster, ClusterOptions};
use keepgate_connect::{ConnectError, Snapshots as _};
use rustix::net::{AddressFamily, SocketType};

use crate::member::{LONG, cluster, free_port, options};

/// An address whose host drops all packets, as a firewall does: for as long as this exists, its queue
/// of connections is full.
struct BlackHole {
    address: SocketAddr,
    _held: (TcpListener, Vec<TcpStream>),
}

impl BlackHole {
    fn new() -> Self {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        rustix::net::bind(&socket, &any).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            held.push(stream);
        }
        Self { address, _held: (listener, held) }
    }
}

async fn text(cluster: &Cluster) -> String {
    let taken = tokio::time::timeout(LONG, cluster.take(&[])).await.unwrap();
    match taken.unwrap_err() {
        ConnectError::Unavailable(text) => text,
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn each_endpoint_is_named_with_its_error() {
    let refused = format!("http://127.0.0.1:{}", free_port());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    let hole = BlackHole::new();
    let hole_url = format!("http://{}", hole.address);
    let options = ClusterOptions {
        timeout: Some(Duration::from_millis(500)),
        stall_timeout: Duration::from_secs(1),
        ..options(&[&refused, &silent_url, &hole_url, "http://no-such-host.invalid:2379"])
    };
    let cluster = Cluster::new(options).unwrap();
    let told = text(&cluster).await;
    let expected = format!(
        "no snapshot of etcd cluster \"main\": {refused}: connection refused; \
         {silent_url}: no answer within 500ms; {hole_url}: no connection within 500ms; \
         http://no-such-host.invalid:2379: the name no-such-host.invalid cannot be resolved ("
    );
    assert!(told.starts_with(&expected), "{told}");
    assert!(!told.contains('\n'), "{told}");
    let statuses = cluster.status().await;
    assert_eq!(statuses.len(), 4);
    assert!(statuses.iter().all(|status| status.outcome.is_err()), "{statuses:?}");
}

#[tokio::test]
async fn a_server_that_is_not_etcd_is_reported_as_such() {
    use std::io::{Read as _, Write as _};

    // Speaks only HTTP/1.1, like most servers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let told = text(&cluster(&[&url])).await;
    assert!(told.contains("it does not appear to speak HTTP/2 without TLS"), "{told}");
}

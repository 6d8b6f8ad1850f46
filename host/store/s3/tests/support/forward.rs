//! An HTTP proxy that wants a user and a password: tunnels, and requests that name their server. Each connection is
//! one or the other, and is copied from its first request on.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Debug)]
pub struct Forward {
    pub address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Forward {
    pub async fn start(user: &str, password: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let forward = Self { address, seen: Arc::default() };
        let expected = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let this = forward.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (this, expected) = (this.clone(), expected.clone());
                tokio::spawn(async move { this.serve(stream, &expected).await });
            }
        });
        forward
    }

    /// First lines of the connections since the last call.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    async fn serve(&self, mut client: TcpStream, expected: &str) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let first = text.lines().next().unwrap().to_owned();
        self.seen.lock().unwrap().push(first.clone());
        if !text.to_ascii_lowercase().contains(&format!("basic {expected}").to_ascii_lowercase()) {
            let refusal = "HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n";
            return client.write_all(refusal.as_bytes()).await;
        }
        let target = first.split(' ').nth(1).unwrap();
        let mut server = if first.starts_with("CONNECT ") {
            let server = TcpStream::connect(target).await?;
            client.write_all(b"HTTP/1.1 200 Here you are\r\n\r\n").await?;
            server
        } else {
            // The server takes the long form of the target too, so that the rest can be copied.
            let host = target.strip_prefix("http://").unwrap().split('/').next().unwrap();
            let mut server = TcpStream::connect(host).await?;
            server.write_all(&head).await?;
            server
        };
        tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
    }
}

//! The load generator: sends requests over several connections for some time, and measures the cost.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::blobs::Blob;
use crate::client::{Client, Target};
use crate::machine::Usage;
use crate::measure::Round;
use crate::servers::Server;

const HEADERS: &str = "Host: localhost\r\nUser-Agent: keepgate-bench\r\n\
                       Accept: application/vnd.x.restic.rest.v2\r\n";

/// A prepared request.
pub(crate) struct Request {
    head: Vec<u8>,
    body: Option<Blob>,
    is_head: bool,
    /// The expected size of the response body.
    answer: Option<u64>,
}

impl Request {
    /// A GET with the expected size of the response body, if it is known.
    pub(crate) fn get(path: &str, answer: Option<u64>) -> Self {
        let head = format!("GET {path} HTTP/1.1\r\n{HEADERS}\r\n").into_bytes();
        Self { head, body: None, is_head: false, answer }
    }

    /// A GET of a surface other than restic's, in whatever media type it sends.
    pub(crate) fn get_any(path: &str) -> Self {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
        Self { head: head.into_bytes(), body: None, is_head: false, answer: None }
    }

    /// A HEAD.
    pub(crate) fn head(path: &str) -> Self {
        let head = format!("HEAD {path} HTTP/1.1\r\n{HEADERS}\r\n").into_bytes();
        Self { head, body: None, is_head: true, answer: None }
    }

    /// A POST of a blob to a repository.
    pub(crate) fn upload(repository: &str, blob: &Blob) -> Self {
        let (id, length) = (&blob.id, blob.length());
        let head = format!(
            "POST /{repository}/data/{id} HTTP/1.1\r\n{HEADERS}\
             Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
        );
        Self { head: head.into_bytes(), body: Some(blob.clone()), is_head: false, answer: Some(0) }
    }

    /// The same request with another header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.truncate(self.head.len() - b"\r\n".len());
        self.head.extend_from_slice(format!("{name}: {value}\r\n\r\n").as_bytes());
        self
    }

    /// A PUT of a blob.
    pub(crate) fn put(path: &str, blob: &Blob) -> Self {
        let length = blob.length();
        let head = format!("PUT {path} HTTP/1.1\r\n{HEADERS}Content-Length: {length}\r\n\r\n");
        Self { head: head.into_bytes(), body: Some(blob.clone()), is_head: false, answer: None }
    }

    /// Sends the request and reads the response, which must be a success. Returns the number of bytes in both
    /// directions, and the time of the first byte of the response body.
    async fn exchange(&self, client: &mut Client) -> Result<(u64, Option<Instant>)> {
        let [one, two] = self.body.as_ref().map_or([&[][..]; 2], Blob::parts);
        client.send([&self.head, one, two]).await?;
        let (status, framing) = client.head(self.is_head).await?;
        ensure!(matches!(status, 200 | 201), "unexpected status {status} for {}", self.line());
        let mut first = None;
        let received = client.body(framing, |_| _ = first.get_or_insert_with(Instant::now)).await?;
        if let Some(expected) = self.answer.filter(|_| !self.is_head) {
            ensure!(
                received == expected,
                "unexpected size of {received} bytes for {}",
                self.line()
            );
        }
        Ok((received + self.body.as_ref().map_or(0, Blob::length), first))
    }

    /// Sends the request on a connection of its own and passes the response to `observe`.
    pub(crate) async fn once(&self, target: &Target, on: impl FnMut(&[u8])) -> Result<u16> {
        let mut client = Client::connect(target).await?;
        let [one, two] = self.body.as_ref().map_or([&[][..]; 2], Blob::parts);
        client.send([&self.head, one, two]).await?;
        let (status, framing) = client.head(self.is_head).await?;
        client.body(framing, on).await?;
        Ok(status)
    }

    /// Sends the head and this many bytes of the body; the caller sends the rest.
    pub(crate) async fn begin(&self, client: &mut Client, bytes: usize) -> Result<()> {
        let [one, two] = self.body.as_ref().map_or([&[][..]; 2], Blob::parts);
        let part = two.get(..bytes.min(two.len())).unwrap_or_default();
        client.send([&self.head, one, part]).await
    }

    fn line(&self) -> String {
        let line = self.head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line).into_owned()
    }
}

/// The load to generate.
pub(crate) struct Plan<'a> {
    /// The requests, in order.
    pub(crate) requests: &'a [Request],
    /// Whether each request is sent only once; otherwise they are repeated.
    pub(crate) once: bool,
    /// The number of connections.
    pub(crate) clients: usize,
    /// No request starts after this time.
    pub(crate) time: Duration,
}

impl Plan<'_> {
    /// Runs the load against a server. Connections are opened before the measurement starts.
    pub(crate) async fn run(&self, server: &Server) -> Result<Round> {
        self.run_against(&server.target, Some(server.pid()))
            .await
            .with_context(|| format!("{}", server.peer))
    }

    /// Like [`run`](Self::run), for a server in this process.
    pub(crate) async fn run_against(&self, target: &Target, pid: Option<u32>) -> Result<Round> {
        let mut clients = Vec::new();
        for _ in 0..self.clients {
            clients.push(Client::connect(target).await?);
        }
        let (next, first) = (Cell::new(0), Cell::new(None));
        let before = Usage::now(pid)?;
        let begun = Instant::now();
        let lanes = clients.iter_mut().map(|client| self.lane(client, begun, &next, &first));
        let mut lanes: FuturesUnordered<_> = lanes.collect();
        let (mut requests, mut bytes) = (0, 0);
        while let Some(done) = lanes.next().await {
            let (some, of) = done?;
            requests += some;
            bytes += of;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let usage = Usage::now(pid)?.since(&before, seconds);
        ensure!(requests > 0, "no request ended in time");
        Ok(Round { seconds, requests, bytes, first_byte: first.get(), usage })
    }

    async fn lane(
        &self,
        client: &mut Client,
        begun: Instant,
        next: &Cell<usize>,
        first: &Cell<Option<f64>>,
    ) -> Result<(u64, u64)> {
        let (mut requests, mut bytes) = (0, 0);
        while begun.elapsed() < self.time || next.get() == 0 {
            let index = next.get();
            next.set(index + 1);
            let index = if self.once { index } else { index % self.requests.len().max(1) };
            let Some(request) = self.requests.get(index) else { break };
            let sent = Instant::now();
            let (moved, came) = request.exchange(client).await?;
            if let Some(came) = came {
                first.set(first.get().or(Some((came - sent).as_secs_f64())));
            }
            requests += 1;
            bytes += moved;
        }
        Ok((requests, bytes))
    }
}

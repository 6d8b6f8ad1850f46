//! Malicious or broken HTTP/2 clients: each test sends hand-made frames, and the cost must stay limited to
//! the connection that sends them.

use std::collections::HashSet;
use std::time::Duration;

use keepgate_http::Timeouts;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::support::{Running, TlsClient, Trust, hasty, soon, start_tls};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// `:status: 431` in HPACK.
const STATUS_431: &[u8] = &[0x48, 0x83, 0x69, 0x90, 0xff];

#[derive(Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(*self.payload.get(at..).unwrap().first_chunk().unwrap())
    }
}

pub(crate) struct Raw {
    reader: ReadHalf<TlsClient>,
    writer: WriteHalf<TlsClient>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length.into_iter().skip(1).collect::<Vec<u8>>();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// An uncompressed head: method (by its index in HPACK's table), scheme, path, authority.
fn head(method: u8, path: &str) -> Vec<u8> {
    let mut block = vec![method, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block.extend([0x01, 9]);
    block.extend(b"localhost");
    block
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(0x82, path))
}

/// A POST whose body follows.
pub(crate) fn post(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head(0x83, path))
}

/// The whole body of a POST.
pub(crate) fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, bytes)
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// A client's streams have odd ids.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

impl Raw {
    pub(crate) async fn connect(server: &Running, trust: &Trust) -> Self {
        let stream = trust.connect(server.tcp(), "h2").await.unwrap();
        let (reader, writer) = tokio::io::split(stream);
        let mut raw = Self { reader, writer };
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.send(&frame(SETTINGS, 0, 0, &[])).await;
        while raw.next().await.unwrap().kind != SETTINGS {}
        raw.send(&frame(SETTINGS, ACK, 0, &[])).await;
        raw
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        soon(self.writer.write_all(bytes)).await?;
        soon(self.writer.flush()).await
    }

    /// `None` when the connection has ended, however that happened.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        soon(self.reader.read_exact(&mut head)).await.ok()?;
        let [a, b, c, kind, _flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        soon(self.reader.read_exact(&mut payload)).await.ok()?;
        Some(Frame { kind, stream: u32::from_be_bytes(stream), payload })
    }

    /// The server's reason for closing the connection; `None` if a reset discarded it.
    async fn goodbye(&mut self) -> Option<u32> {
        loop {
            let frame = self.next().await?;
            if frame.kind == GOAWAY {
                return Some(frame.code());
            }
        }
    }

    async fn is_answered(&mut self, stream: u32) {
        self.send(&get(stream, "/source/3")).await;
        loop {
            let frame = self.next().await.unwrap();
            if frame.kind == DATA && frame.stream == stream {
                assert_eq!(frame.payload, b"xxx");
                return;
            }
        }
    }
}

pub(crate) async fn in_flight(server: &Running, requests: u32) {
    let expected = format!("requests_in_flight{{mount=\"/\"}} {requests}\n");
    let reached = async {
        while !server.counters().contains(&expected) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(reached).await;
}

/// Earlier and new clients are still served. Both disconnect, because a shutdown waits for clients that
/// do not answer pings.
async fn others_are_served(server: &Running, trust: &Trust, mut other: Raw) {
    other.is_answered(1).await;
    Raw::connect(server, trust).await.is_answered(1).await;
}

#[tokio::test]
async fn more_requests_than_allowed_at_once_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _, trust) = start_tls(folder.path(), Timeouts::default()).await;
    let other = Raw::connect(&server, &trust).await;
    let mut raw = Raw::connect(&server, &trust).await;
    for stream in streams(300) {
        raw.send(&post(stream, "/sink")).await;
    }
    let mut refused = HashSet::new();
    while refused.len() < 50 {
        let frame = raw.next().await.unwrap();
        if frame.kind == RST_STREAM {
            assert_eq!(frame.code(), REFUSED_STREAM);
            assert!(frame.stream > 500 && refused.insert(frame.stream));
        }
    }
    in_flight(&server, 250).await;
    others_are_served(&server, &trust, other).await;
    // As many new streams are accepted as have ended.
    for stream in streams(100) {
        raw.send(&reset(stream)).await;
    }
    in_flight(&server, 150).await;
    raw.is_answered(601).await;
    drop(raw);
    in_flight(&server, 0).await;
    server.end().await;
}

#[tokio::test]
async fn rapid_resets_end_their_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _, trust) = start_tls(folder.path(), Timeouts::default()).await;
    let other = Raw::connect(&server, &trust).await;
    let mut raw = Raw::connect(&server, &trust).await;
    let burst: Vec<u8> =
        streams(1000).flat_map(|stream| [post(stream, "/sink"), reset(stream)].concat()).collect();
    // The server may close before all is sent.
    let _ = raw.try_send(&burst).await;
    assert!(matches!(raw.goodbye().await, Some(ENHANCE_YOUR_CALM) | None));
    in_flight(&server, 0).await;
    others_are_served(&server, &trust, other).await;
    server.end().await;
}

#[tokio::test]
async fn heads_that_do_not_end_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _, trust) = start_tls(folder.path(), hasty()).await;
    // A client that sends nothing after the handshake.
    let mut silent = trust.connect(server.tcp(), "h2").await.unwrap();
    // A client that stops in the middle of a head.
    let mut stopped = Raw::connect(&server, &trust).await;
    stopped.send(&frame(HEADERS, END_STREAM, 1, &head(0x82, "/source/3"))).await;
    // A client that sends single bytes.
    let mut slow = Raw::connect(&server, &trust).await;
    slow.send(&frame(HEADERS, END_STREAM, 1, &[])).await;
    let mut drip = head(0x82, "/source/3").into_iter();
    let drip = async {
        while let Some(byte) = drip.next()
            && slow.try_send(&frame(CONTINUATION, 0, 1, &[byte])).await.is_ok()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon(drip).await;
    let mut rest = Vec::new();
    let _ = soon(silent.read_to_end(&mut rest)).await;
    stopped.goodbye().await;
    while stopped.next().await.is_some() {}
    slow.goodbye().await;
    while slow.next().await.is_some() {}
    assert!(!server.counters().contains("keepgate_http_requests_total{"), "no request has begun");
    server.end().await;
}

#[tokio::test]
async fn heads_that_are_too_long_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _, trust) = start_tls(folder.path(), Timeouts::default()).await;
    let mut raw = Raw::connect(&server, &trust).await;
    // The same header of 120 bytes, repeated: 90 KiB where 64 KiB are allowed.
    let mut block = head(0x82, "/source/3");
    for _ in 0..750 {
        block.extend([0, 1, b'x', 117]);
        block.extend([b'y'; 117]);
    }
    let (first, rest) = block.split_at(16_000);
    raw.send(&frame(HEADERS, END_STREAM, 1, first)).await;
    let parts: Vec<_> = rest.chunks(16_000).collect();
    for (number, part) in parts.iter().enumerate() {
        let flags = if number + 1 == parts.len() { END_HEADERS } else { 0 };
        raw.send(&frame(CONTINUATION, flags, 1, part)).await;
    }
    let refusal = loop {
        let frame = raw.next().await.unwrap();
        if frame.stream == 1 {
            break frame;
        }
    };
    assert_eq!((refusal.kind, refusal.payload.as_slice()), (HEADERS, STATUS_431));
    raw.is_answered(3).await;
    // An endless head ends the connection.
    raw.send(&frame(HEADERS, END_STREAM, 5, &head(0x82, "/source/3"))).await;
    let part = frame(CONTINUATION, 0, 5, &[0, 1, b'x', 1, b'y'].repeat(3000));
    let mut sent = 0;
    while sent < 64 * 1024 * 1024 && raw.try_send(&part).await.is_ok() {
        sent += part.len();
    }
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes of a head were taken");
    server.end().await;
}

#[tokio::test]
async fn tiny_pieces_of_bodies_that_nobody_reads_end_their_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _, trust) = start_tls(folder.path(), Timeouts::default()).await;
    let other = Raw::connect(&server, &trust).await;
    for piece in [&b""[..], b"x"] {
        let mut raw = Raw::connect(&server, &trust).await;
        raw.send(&post(1, "/hang")).await;
        in_flight(&server, 1).await;
        // Within the windows, but each frame costs far more memory than its one byte.
        let burst = frame(DATA, 0, 1, piece).repeat(1000);
        let mut bursts = 0;
        while bursts < 1000 && raw.try_send(&burst).await.is_ok() {
            bursts += 1;
        }
        assert!(bursts < 1000, "a million pieces of {} bytes were taken", piece.len());
        in_flight(&server, 0).await;
    }
    others_are_served(&server, &trust, other).await;
    server.end().await;
}

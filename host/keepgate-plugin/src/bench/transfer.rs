//! Transfers through a plugin and the requests that move them, compared with the store alone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::stream;
use keepgate_core::Request;
use keepgate_runtime::Mount;
use keepgate_store::memory::MemoryStore;
use keepgate_store::{BlobStore, Body, Key, PutOptions};
use serde::Serialize;

use super::FEW;

/// As much as the gateway reads from a socket at once.
const CHUNK: usize = 64 * 1024;

/// A transfer through a plugin, compared with the same transfer without it.
#[derive(Debug, Serialize)]
pub(super) struct Moved {
    pub(super) bytes_per_second: f64,
    /// The share of bytes that entered the plugin: 0 if the host moved them all.
    pub(super) guest_share: f64,
    /// The rate as a share of the store's own.
    pub(super) of_the_store: f64,
}

/// Uploads and downloads several times.
pub(super) async fn transfers(
    mount: &Mount,
    method: &str,
    target: &str,
    bytes: u64,
) -> Result<(Moved, Moved)> {
    let (mut up, mut down) = (Sum::default(), Sum::default());
    let alone = alone(bytes).await?;
    for round in 0..FEW {
        let target = target.replace("{n}", &round.to_string());
        let upload = Transfer::begin(mount);
        let reply = mount.call(request(method, &target, body(bytes))).await;
        let reply = reply.with_context(|| format!("{method} {target}"))?;
        ensure!(reply.status < 300, "{method} {target} is answered with {}", reply.status);
        drain(reply.body).await?;
        up.add(&upload, bytes);

        let download = Transfer::begin(mount);
        let reply = mount.call(request("GET", &target, Body::empty())).await;
        let reply = reply.with_context(|| format!("GET {target}"))?;
        let got = drain(reply.body).await?;
        ensure!(got >= bytes, "GET {target} gives {got} of the {bytes} bytes that were uploaded");
        down.add(&download, got);
    }
    Ok((up.moved(alone.0), down.moved(alone.1)))
}

/// Bytes per second into and out of such a store without a plugin.
async fn alone(bytes: u64) -> Result<(f64, f64)> {
    let (mut put, mut got) = (Sum::default(), Sum::default());
    let store = MemoryStore::new();
    let key = Key::new("bench".to_owned())?;
    for _ in 0..FEW {
        let begun = Instant::now();
        store.put(&key, body(bytes), PutOptions::default()).await?;
        put.time += begun.elapsed();
        let begun = Instant::now();
        let download = store.get(&key, keepgate_store::Part::Whole).await?;
        drain(download.body).await?;
        got.time += begun.elapsed();
        put.bytes += bytes;
        got.bytes += bytes;
    }
    Ok((put.rate(), got.rate()))
}

/// A running transfer: when it started, and what the plugin had moved before.
struct Transfer<'a> {
    mount: &'a Mount,
    begun: Instant,
    before: u64,
}

impl<'a> Transfer<'a> {
    fn begin(mount: &'a Mount) -> Self {
        Self { mount, before: mount.counts().guest_bytes, begun: Instant::now() }
    }
}

#[derive(Default)]
struct Sum {
    bytes: u64,
    guest: u64,
    time: Duration,
}

impl Sum {
    fn add(&mut self, transfer: &Transfer<'_>, bytes: u64) {
        self.time += transfer.begun.elapsed();
        self.bytes += bytes;
        self.guest += transfer.mount.counts().guest_bytes - transfer.before;
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn rate(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64().max(1e-9)
    }

    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    fn moved(&self, alone: f64) -> Moved {
        Moved {
            bytes_per_second: self.rate(),
            guest_share: self.guest as f64 / (self.bytes.max(1)) as f64,
            of_the_store: self.rate() / alone,
        }
    }
}

pub(super) fn request(method: &str, target: &str, body: Body) -> Request {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let segments = path.strip_prefix('/').unwrap_or(path);
    let mut path: Vec<String> = segments.split('/').map(str::to_owned).collect();
    let trailing_slash = path.last().is_some_and(String::is_empty);
    if trailing_slash {
        path.pop();
    }
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    Request {
        method: method.to_owned(),
        base: "http://localhost".to_owned(),
        target: target.to_owned(),
        address: None,
        id: "bench".to_owned(),
        path,
        trailing_slash,
        query: query.split('&').filter(|text| !text.is_empty()).map(pair).collect(),
        headers: Vec::new(),
        principal: None,
        body,
        interim: None,
    }
}

/// A body of this many bytes, in chunks that share their memory.
fn body(bytes: u64) -> Body {
    let chunk = Bytes::from(vec![0x5a; CHUNK]);
    let chunks = stream::unfold(bytes, move |left| {
        let chunk = chunk.clone();
        async move {
            let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            (left > 0).then(|| (Ok(chunk.slice(..size)), left - size as u64))
        }
    });
    Body::from_stream(Some(bytes), Box::pin(chunks))
}

/// Reads a body to its end and copies it as a socket would, since a memory store returns its bytes
/// without touching them.
pub(super) async fn drain(mut body: Body) -> Result<u64> {
    let mut read = 0;
    let mut socket = Vec::with_capacity(CHUNK);
    while let Some(chunk) = body.chunk().await {
        let chunk = chunk?;
        read += chunk.len() as u64;
        for piece in chunk.chunks(CHUNK) {
            socket.clear();
            socket.extend_from_slice(std::hint::black_box(piece));
            std::hint::black_box(&socket);
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_segments_and_queries() {
        let request = request("PUT", "/a/b/?x=1&y", Body::empty());
        assert_eq!(request.path, ["a", "b"]);
        assert!(request.trailing_slash);
        assert_eq!(request.query.len(), 2);
    }

    #[tokio::test]
    async fn a_body_has_its_declared_length() {
        for bytes in [0, 1, 65536, 65537, 1_000_000] {
            assert_eq!(drain(body(bytes)).await.unwrap(), bytes);
        }
    }
}

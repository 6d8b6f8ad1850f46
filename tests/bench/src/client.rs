//! An HTTP/1.1 connection with as little overhead as possible: heads are prepared beforehand, bodies are
//! written without copying and read into one reused buffer.
//!
//! It is not a general client, but made for servers that this program has started.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The size of reads.
const BUFFER: usize = 256 * 1024;
/// rustls asks for a few KiB at a time.
const TLS_BUFFER: usize = 128 * 1024;

/// The address and protocol of a server.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// `None` for plain HTTP.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

/// A connection.
pub(crate) struct Client {
    io: Box<dyn Io>,
    /// The negotiated cipher suite.
    pub(crate) cipher: Option<String>,
    buffer: Box<[u8]>,
    /// The part of the buffer that has been read from the socket but not used.
    start: usize,
    end: usize,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// How the end of a body is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

impl Client {
    /// Connects, with a TLS handshake if the target uses TLS.
    pub(crate) async fn connect(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(target.address)
            .await
            .with_context(|| format!("connecting to {}", target.address))?;
        stream.set_nodelay(true)?;
        let mut cipher = None;
        let io: Box<dyn Io> = match &target.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::IpAddress(target.address.ip().into());
                let stream = BufReader::with_capacity(TLS_BUFFER, stream);
                let tls = TlsConnector::from(config.clone()).connect(name, stream);
                let tls = tls.await.context("the TLS handshake")?;
                let suite = tls.get_ref().1.negotiated_cipher_suite();
                cipher = suite.map(|suite| format!("{:?}", suite.suite()));
                Box::new(tls)
            }
        };
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Ok(Self { io, cipher, buffer, start: 0, end: 0 })
    }

    /// Sends a head and a body in as few writes as possible.
    pub(crate) async fn send(&mut self, parts: [&[u8]; 3]) -> Result<()> {
        let [mut first, mut second, mut third] = parts;
        while !(first.is_empty() && second.is_empty() && third.is_empty()) {
            let slices = [first, second, third].map(std::io::IoSlice::new);
            let mut written = self.io.write_vectored(&slices).await.context("sending")?;
            ensure!(written > 0, "the server accepts no more bytes");
            for part in [&mut first, &mut second, &mut third] {
                let step = written.min(part.len());
                *part = part.get(step..).unwrap_or_default();
                written -= step;
            }
        }
        self.io.flush().await.context("sending")
    }

    /// Reads the head of a response: its status and the framing of its body.
    pub(crate) async fn head(&mut self, without_body: bool) -> Result<(u16, Framing)> {
        loop {
            if self.start < self.end
                && let Some((length, status, framing)) = parse(self.unused(), without_body)?
            {
                self.start += length;
                return Ok((status, framing));
            }
            self.more().await?;
        }
    }

    /// Reads a body to its end, passes its pieces to `observe`, and returns its length.
    pub(crate) async fn body(
        &mut self,
        framing: Framing,
        mut on: impl FnMut(&[u8]),
    ) -> Result<u64> {
        match framing {
            Framing::Length(length) => self.exactly(length, &mut on).await.map(|()| length),
            Framing::Chunked => {
                let mut total = 0;
                loop {
                    let line = self.line().await?;
                    let size = line.split(';').next().unwrap_or_default().trim();
                    let size = u64::from_str_radix(size, 16)
                        .with_context(|| format!("invalid chunk length {size:?}"))?;
                    if size == 0 {
                        while !self.line().await?.is_empty() {}
                        return Ok(total);
                    }
                    self.exactly(size, &mut on).await?;
                    total += size;
                    ensure!(self.line().await?.is_empty(), "a chunk is longer than declared");
                }
            }
        }
    }

    /// Reads at most this many bytes of a body, slowly on purpose.
    pub(crate) async fn sip(&mut self, most: usize) -> Result<usize> {
        if self.start == self.end {
            let most = most.min(self.buffer.len());
            let space = self.buffer.get_mut(..most).unwrap_or_default();
            let read = self.io.read(space).await.context("receiving")?;
            ensure!(read > 0, "the server closed the connection");
            return Ok(read);
        }
        let rest = self.end - self.start;
        self.start = self.end;
        Ok(rest)
    }

    async fn exactly(&mut self, mut left: u64, on: &mut impl FnMut(&[u8])) -> Result<()> {
        while left > 0 {
            if self.start == self.end {
                self.more().await?;
            }
            let unused = self.unused();
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(unused.len());
            on(unused.get(..step).unwrap_or_default());
            self.start += step;
            left -= step as u64;
        }
        Ok(())
    }

    /// The next line, without its terminator.
    async fn line(&mut self) -> Result<String> {
        loop {
            let unused = self.unused();
            if let Some(end) = unused.iter().position(|byte| *byte == b'\n') {
                let line = unused.get(..end).unwrap_or_default();
                let line = String::from_utf8_lossy(line).trim_end().to_owned();
                self.start += end + 1;
                return Ok(line);
            }
            ensure!(unused.len() < 1024, "a line in a body is too long");
            self.more().await?;
        }
    }

    fn unused(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    async fn more(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        let read = self.io.read(space).await.context("receiving")?;
        ensure!(read > 0, "the server closed the connection");
        self.end += read;
        Ok(())
    }
}

/// Length, status and framing of a head, if it is complete.
fn parse(bytes: &[u8], without_body: bool) -> Result<Option<(usize, u16, Framing)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or(0);
    let value = |name: &str| {
        let mut headers = response.headers.iter();
        let header = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let framing = if without_body {
        Framing::Length(0)
    } else if let Some(length) = value("content-length") {
        Framing::Length(length.parse()?)
    } else if value("transfer-encoding") == Some("chunked") {
        Framing::Chunked
    } else {
        bail!("the response {status} has no length");
    };
    Ok(Some((length, status, framing)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn heads_tell_how_long_bodies_are() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(parse(whole, false).unwrap(), Some((38, 200, Framing::Length(5))));
        assert_eq!(parse(whole, true).unwrap(), Some((38, 200, Framing::Length(0))));
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(parse(chunked, false).unwrap().unwrap().2, Framing::Chunked);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Le", false).unwrap(), None);
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n", false).is_err());
    }

    /// Responds to one request with these pieces, each in a packet of its own.
    async fn answered(pieces: &'static [&'static str]) -> Client {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut request = [0; 6];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"abcdef");
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut client = Client::connect(&Target { address, tls: None }).await.unwrap();
        client.send([b"ab", b"cd", b"ef"]).await.unwrap();
        client
    }

    #[tokio::test]
    async fn chunks_are_joined_wherever_they_are_cut() {
        let mut client = answered(&[
            "HTTP/1.1 200 OK\r\nTransfer-Enc",
            "oding: chunked\r\n\r\n5",
            "\r\nhel",
            "lo\r\n",
            "a;x=y\r\n, wide wor\r\n0\r\nTrailer: no\r",
            "\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        ])
        .await;
        let (status, framing) = client.head(false).await.unwrap();
        assert_eq!((status, framing), (200, Framing::Chunked));
        let mut body = Vec::new();
        let length = client.body(framing, |piece| body.extend_from_slice(piece)).await.unwrap();
        assert_eq!((length, body.as_slice()), (15, b"hello, wide wor".as_slice()));
        assert_eq!(client.head(true).await.unwrap().0, 204);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error() {
        let mut client = answered(&["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"]).await;
        let (_, framing) = client.head(false).await.unwrap();
        assert!(client.body(framing, |_| ()).await.is_err());
    }
}

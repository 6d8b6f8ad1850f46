//! An HTTP/1.1 client without a library, so that a case decides each byte that is sent and sees each byte that
//! comes back. It follows no redirects and repeats nothing.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub use super::reply::Reply;

/// A connection for reading and writing, with or without TLS.
pub trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

/// The socket below a connection.
#[derive(Debug)]
pub enum Socket {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Socket {
    fn shutdown(&self, how: Shutdown) {
        let shut = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
        // The server may have closed it already.
        let _ = shut;
    }
}

/// Writes to a connection while something else reads from it.
#[derive(Debug)]
pub struct Writer(Socket);

impl Writer {
    /// Tells the server that nothing more will be sent.
    pub fn finish_writing(&self) {
        self.0.shutdown(Shutdown::Write);
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection to a server.
pub struct Connection {
    stream: BufReader<Box<dyn Duplex>>,
    socket: Socket,
    /// Whether the connection has no TLS.
    plain: bool,
    authorization: Option<String>,
}

impl Connection {
    /// A connection over `stream`, which uses `socket`. [`write_head`](Self::write_head) adds `authorization` to
    /// each head.
    pub fn new(
        stream: Box<dyn Duplex>,
        socket: Socket,
        plain: bool,
        authorization: Option<String>,
    ) -> Self {
        let stream = BufReader::with_capacity(256 * 1024, stream);
        Self { stream, socket, plain, authorization }
    }

    /// Returns a second handle for writing, so that a reply can be read while its request is being sent; `None`
    /// over TLS.
    pub fn writer(&self) -> Option<Writer> {
        let socket = match &self.socket {
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone().ok()?),
            Socket::Unix(stream) => Socket::Unix(stream.try_clone().ok()?),
        };
        self.plain.then_some(Writer(socket))
    }

    /// Shuts the connection down in both directions. Later writes fail.
    pub fn abandon(&self) {
        self.socket.shutdown(Shutdown::Both);
    }

    /// Sends these bytes.
    ///
    /// # Errors
    ///
    /// If the socket cannot be written to.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    /// Sends the head of a request; adds `Host` and the authorization of the connection.
    ///
    /// # Errors
    ///
    /// If the socket cannot be written to.
    pub fn write_head(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        if let Some(authorization) = &self.authorization {
            head += &format!("authorization: {authorization}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        self.write(format!("{head}\r\n").as_bytes())
    }

    /// Tells the server that nothing more will be sent.
    pub fn finish_writing(&self) {
        self.socket.shutdown(Shutdown::Write);
    }

    /// Closes the connection with a reset (RST), as if the client had died.
    ///
    /// # Panics
    ///
    /// If the socket option cannot be set.
    pub fn reset(self) {
        if let Socket::Tcp(stream) = &self.socket {
            let set = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
            assert!(set.is_ok(), "{set:?}");
        }
    }

    /// Sends a request and reads the whole reply. If there is a body, its length is announced.
    ///
    /// # Errors
    ///
    /// If the socket fails, or the server sends something that is not an HTTP reply.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        self.send_from(method, path, headers, body.len() as u64, body)
    }

    /// Like [`send`](Self::send), with a body of `length` bytes from a reader.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_from(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        length: u64,
        mut body: impl Read,
    ) -> io::Result<Reply> {
        let length_text = length.to_string();
        let mut all = headers.to_vec();
        if length > 0 || method == "POST" {
            all.push(("content-length", &length_text));
        }
        self.write_head(method, path, &all)?;
        let size = usize::try_from(length.clamp(1, 256 * 1024)).map_err(io::Error::other)?;
        let mut buffer = vec![0; size];
        loop {
            match body.read(&mut buffer)? {
                0 => break,
                read => self.write(buffer.get(..read).unwrap_or_default())?,
            }
        }
        self.reply(method)
    }

    /// Like [`send`](Self::send), with the body in chunks of `size` bytes. The server may reply before it has read
    /// them all.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_in_chunks(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
        size: usize,
    ) -> io::Result<Reply> {
        self.write_head(method, path, &[("transfer-encoding", "chunked")])?;
        for chunk in body.chunks(size) {
            self.write(format!("{:x}\r\n", chunk.len()).as_bytes())?;
            self.write(chunk)?;
            self.write(b"\r\n")?;
        }
        self.write(b"0\r\n\r\n")?;
        self.reply(method)
    }

    /// Reads the whole reply to a request with this method.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn reply(&mut self, method: &str) -> io::Result<Reply> {
        let mut download = self.download(method)?;
        let mut body = Vec::new();
        download.read_to_end(&mut body)?;
        Ok(Reply { body, ..download.head })
    }

    /// Reads the head of a reply and leaves its body to be read. Skips interim replies.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn download(&mut self, method: &str) -> io::Result<Download<'_>> {
        let mut head = self.read_head()?;
        while (100..200).contains(&head.status) {
            head = self.read_head()?;
        }
        let chunked = head.single("transfer-encoding")?.is_some_and(|value| value == "chunked");
        let left = if method == "HEAD" || matches!(head.status, 204 | 304) {
            Left::Bytes(0)
        } else if chunked {
            Left::Chunks(0)
        } else if let Some(length) = head.single("content-length")? {
            Left::Bytes(length.parse().map_err(io::Error::other)?)
        } else {
            Left::UntilClose
        };
        Ok(Download { connection: self, head, left })
    }

    /// Reads one head, which may be that of an interim reply.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn read_head(&mut self) -> io::Result<Reply> {
        let first = self.line()?;
        let mut words = first.splitn(3, ' ');
        let (version, status) = (words.next().unwrap_or_default(), words.next());
        let status = status.and_then(|status| status.parse().ok());
        let bad = || io::Error::other(format!("not HTTP: {first:?}"));
        let mut head = Reply {
            version: version.strip_prefix("HTTP/").ok_or_else(bad)?.to_owned(),
            status: status.ok_or_else(bad)?,
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(head);
            }
            let (name, value) = line.split_once(':').ok_or_else(bad)?;
            head.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Waits for the server, and returns whether it closed the connection without sending another byte.
    pub fn is_closed_by_server(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            // A reset ends the connection too; silence does not.
            Err(error) => {
                !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.by_ref().take(1 << 20).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

enum Left {
    Bytes(u64),
    /// Bytes left in this chunk; at 0, the size of the next one follows.
    Chunks(u64),
    UntilClose,
}

/// The body of a reply, as it arrives. Reading fails if it ends too early.
pub struct Download<'a> {
    connection: &'a mut Connection,
    /// The reply's head; its body is empty.
    pub head: Reply,
    left: Left,
}

impl fmt::Debug for Download<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stream = &mut self.connection.stream;
        let left = match &mut self.left {
            Left::UntilClose => return stream.read(buffer),
            Left::Bytes(left) => left,
            Left::Chunks(left) => {
                if *left == 0 {
                    let line = self.connection.line()?;
                    *left = u64::from_str_radix(&line, 16).map_err(io::Error::other)?;
                    if *left == 0 {
                        self.connection.line()?;
                        self.left = Left::Bytes(0);
                        return Ok(0);
                    }
                }
                left
            }
        };
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let read = self.connection.stream.read(buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= read as u64;
        if matches!(self.left, Left::Chunks(0)) && !self.connection.line()?.is_empty() {
            return Err(io::Error::other("expected a line break after a chunk"));
        }
        Ok(read)
    }
}

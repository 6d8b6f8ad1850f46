//! HTTP/1.1 by hand, so a test decides what is sent and sees what comes back, down to the byte. No
//! redirects, no retries.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(crate) trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn shutdown(&self, how: Shutdown) {
        let shut = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
        // The server may have disconnected already.
        let _ = shut;
    }
}

/// Writes to a connection while another thread reads from it.
pub struct Writer(Socket);

impl Writer {
    /// Shuts down writing: nothing more will be sent.
    pub fn finish_writing(&self) {
        self.0.shutdown(Shutdown::Write);
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
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
    /// Whether there is no TLS between us and the socket.
    plain: bool,
    authorization: Option<String>,
}

impl Connection {
    pub(crate) fn new(
        stream: Box<dyn Duplex>,
        socket: Socket,
        plain: bool,
        authorization: Option<String>,
    ) -> Self {
        let stream = BufReader::with_capacity(256 * 1024, stream);
        Self { stream, socket, plain, authorization }
    }

    /// A second handle for writing, for a body whose response is read meanwhile. None over TLS.
    pub fn writer(&self) -> Option<Writer> {
        let socket = match &self.socket {
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone().ok()?),
            Socket::Unix(stream) => Socket::Unix(stream.try_clone().ok()?),
        };
        self.plain.then_some(Writer(socket))
    }

    /// Shuts down the connection in both directions, which wakes a thread that writes to it.
    pub fn abandon(&self) {
        self.socket.shutdown(Shutdown::Both);
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    /// Sends the head of a request, with `Host` and `Authorization` added.
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

    /// Shuts down writing: nothing more will be sent.
    pub fn finish_writing(&self) {
        self.socket.shutdown(Shutdown::Write);
    }

    /// Closes the connection with a reset (RST), as if the client had died.
    pub fn reset(self) {
        if let Socket::Tcp(stream) = &self.socket {
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
        }
    }

    /// Sends one request and reads the whole response. A body is sent with its length.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        self.send_from(method, path, headers, body.len() as u64, body)
    }

    /// The same, with the body from a reader.
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
        let mut buffer = vec![0; usize::try_from(length.clamp(1, 256 * 1024)).unwrap()];
        loop {
            match body.read(&mut buffer)? {
                0 => break,
                read => self.write(&buffer[..read])?,
            }
        }
        self.reply(method)
    }

    /// The same, in chunks of `size` bytes. A server may respond before it has read everything.
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

    /// Reads the whole response to a request with this method.
    pub fn reply(&mut self, method: &str) -> io::Result<Reply> {
        let mut download = self.download(method)?;
        let mut body = Vec::new();
        download.read_to_end(&mut body)?;
        Ok(Reply { body, ..download.head })
    }

    /// Reads the head of a response and leaves its body to be read. Skips interim responses.
    pub fn download(&mut self, method: &str) -> io::Result<Download<'_>> {
        let mut head = self.read_head()?;
        while (100..200).contains(&head.status) {
            head = self.read_head()?;
        }
        let chunked = head.header("transfer-encoding").is_some_and(|value| value == "chunked");
        let left = if method == "HEAD" || matches!(head.status, 204 | 304) {
            Left::Bytes(0)
        } else if chunked {
            Left::Chunks(0)
        } else if let Some(length) = head.header("content-length") {
            Left::Bytes(length.parse().map_err(io::Error::other)?)
        } else {
            Left::UntilClose
        };
        Ok(Download { connection: self, head, left })
    }

    /// Reads one head, including that of an interim response.
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

    /// Whether the server closes the connection without another byte.
    pub fn is_closed_by_server(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            // A reset counts as an end; silence does not.
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

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// `1.1` or `1.0`.
    pub version: String,
    /// Such as 200.
    pub status: u16,
    /// Names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    /// Without the framing of chunks.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header. Panics if it occurs twice.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} occurs twice: {:?}", self.headers);
        value
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }
}

enum Left {
    Bytes(u64),
    /// Bytes left in this chunk; at 0, the next one's size follows.
    Chunks(u64),
    UntilClose,
}

/// The body of a response as it arrives. Reading fails if it ends too early.
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
        if most == 0 {
            return Ok(0);
        }
        let read = self.connection.stream.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= read as u64;
        if matches!(self.left, Left::Chunks(0)) && !self.connection.line()?.is_empty() {
            return Err(io::Error::other("a chunk does not end with a line break"));
        }
        Ok(read)
    }
}

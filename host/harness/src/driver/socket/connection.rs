//! HTTP/1.1 by hand, so that a case says what goes over the wire and sees what comes back, down to the
//! byte. It follows no redirects and repeats nothing.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Both ways of a connection, with or without TLS.
pub trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

/// The socket below a connection.
#[derive(Debug)]
pub enum Socket {
    /// Of TCP.
    Tcp(TcpStream),
    /// Of the machine itself.
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
    /// Says that nothing more will be sent.
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
    /// There is no TLS between the client and the socket.
    plain: bool,
    authorization: Option<String>,
}

impl Connection {
    /// A connection over a stream, whose socket is `socket`. `authorization` is added to every head that
    /// [`write_head`](Self::write_head) sends.
    pub fn new(
        stream: Box<dyn Duplex>,
        socket: Socket,
        plain: bool,
        authorization: Option<String>,
    ) -> Self {
        let stream = BufReader::with_capacity(256 * 1024, stream);
        Self { stream, socket, plain, authorization }
    }

    /// A second way to write, for a body whose reply is read meanwhile. None over TLS.
    pub fn writer(&self) -> Option<Writer> {
        let socket = match &self.socket {
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone().ok()?),
            Socket::Unix(stream) => Socket::Unix(stream.try_clone().ok()?),
        };
        self.plain.then_some(Writer(socket))
    }

    /// Ends the connection both ways; whoever writes to it gets an error.
    pub fn abandon(&self) {
        self.socket.shutdown(Shutdown::Both);
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    /// Sends the head of a request; adds `Host` and the authorization of the connection.
    ///
    /// # Errors
    ///
    /// Those of the socket.
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

    /// Says that nothing more will be sent.
    pub fn finish_writing(&self) {
        self.socket.shutdown(Shutdown::Write);
    }

    /// Closes it so that the server gets an error (RST), as if the client had died.
    ///
    /// # Panics
    ///
    /// If the socket cannot be told so.
    pub fn reset(self) {
        if let Socket::Tcp(stream) = &self.socket {
            let set = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
            assert!(set.is_ok(), "{set:?}");
        }
    }

    /// One request and its whole reply. The length of a body is announced, if there is one.
    ///
    /// # Errors
    ///
    /// Those of the socket; if what comes is no reply.
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

    /// The same, in chunks of this many bytes. A server may answer before it has read everything.
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

    /// Reads a whole reply to a request with this method.
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

    /// Reads a reply's head, and leaves its body to be read. Interim replies are passed over.
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

    /// Reads one head, an interim reply's too.
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

    /// Whether the server closes the connection without another byte.
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

/// A reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// `1.1` or `1.0`.
    pub version: String,
    /// As in 200.
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// Without the framing of chunks.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header.
    ///
    /// # Panics
    ///
    /// If it came twice: tests that ask for the value of a header do not expect several.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} occurs twice: {:?}", self.headers);
        value
    }

    /// The body as text.
    ///
    /// # Panics
    ///
    /// If it is none.
    #[track_caller]
    pub fn text(&self) -> String {
        let text = String::from_utf8(self.body.clone());
        assert!(text.is_ok(), "{text:?}");
        text.unwrap_or_default()
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// If it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let json = serde_json::from_slice(&self.body);
        assert!(json.is_ok(), "{json:?}: {} {}", self.status, self.text());
        json.unwrap_or_default()
    }

    /// The value of a header that the framing depends on: twice is an error.
    fn single(&self, name: &str) -> io::Result<Option<&str>> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().map(|(_, value)| value.as_str());
        match values.next() {
            Some(_) => Err(io::Error::other(format!("{name} occurs twice: {:?}", self.headers))),
            None => Ok(value),
        }
    }
}

enum Left {
    Bytes(u64),
    /// Of this chunk; the next one's size comes at 0.
    Chunks(u64),
    UntilClose,
}

/// A reply's body, as it comes. Reading fails if it ends too early.
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
            return Err(io::Error::other("a chunk has no end"));
        }
        Ok(read)
    }
}

//! Replies: complete ones, and ones that are written piece by piece.

use crate::capability::http::{self, Writer};
use crate::{Body, Download, Failure, Part, json, media, range};

/// Pieces of a streamed reply are collected up to this size before they are passed to the host, because a
/// call costs more than a copy.
const PIECE: usize = 64 * 1024;

/// A plugin's reply.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status, from 200 to 599.
    pub status: u16,
    /// Headers, as pairs of name and value.
    pub headers: Vec<(String, String)>,
    /// What follows the head.
    pub content: Content,
}

/// What follows the head of a reply.
#[derive(Debug)]
pub enum Content {
    /// Nothing.
    Empty,
    /// Bytes that the plugin has made.
    Bytes(Vec<u8>),
    /// Bytes that the host holds, usually a blob.
    Body(Body),
    /// Head and content were sent through [`Reply::stream`].
    Streamed,
}

impl Reply {
    /// An empty reply.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), content: Content::Empty }
    }

    /// An empty 200.
    pub fn ok() -> Self {
        Self::new(200)
    }

    /// An empty 405 that lists the allowed methods, such as `GET, HEAD`.
    pub fn method_not_allowed(allow: &str) -> Self {
        Self::new(405).header("allow", allow)
    }

    /// Adds a header.
    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts alike, without `&`")]
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sets the content to bytes that the plugin has made.
    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.content = Content::Bytes(bytes.into());
        self
    }

    /// Sets the content to a body that the host holds.
    pub fn body(mut self, body: Body) -> Self {
        self.content = Content::Body(body);
        self
    }

    /// A blob, or the requested part of it: 200, or 206 with `Content-Range`. For conditional requests, use
    /// [`BlobAnswer`](crate::BlobAnswer).
    pub fn download(found: Download, asked: Part) -> Self {
        let reply = match asked {
            Part::Whole => Self::ok(),
            Part::Slice(_) | Part::Suffix(_) => {
                Self::new(206).header("content-range", range::content_range(&found))
            }
        };
        reply.header("accept-ranges", "bytes").body(found.data)
    }

    /// Sets the content to plain text.
    pub fn text(self, text: impl Into<String>) -> Self {
        self.header("content-type", "text/plain; charset=utf-8").bytes(text.into())
    }

    /// Sets the content to a value as JSON. Fails with [`Failure::Internal`] if JSON cannot express it.
    pub fn json(self, value: &impl serde::Serialize) -> Result<Self, Failure> {
        Ok(self.json_bytes(json::to_vec(value)?))
    }

    /// Sets the content to bytes that are already JSON, such as the output of a job.
    pub fn json_bytes(self, json: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", media::JSON).bytes(json)
    }

    /// Sends status and headers as an interim response, before the reply itself: a 104, say, that tells the client where
    /// its upload can go on. The status is 102 to 199. Clients of HTTP/1.0 and HTTP/2 are sent none, and one that does not
    /// reach the client before the reply is dropped.
    pub fn send_interim(self) -> Result<(), Failure> {
        http::inform(self.status, &self.headers)
    }

    /// Sends the head now, and then what `make` writes, as it writes it. This is for replies that are too
    /// long for memory. If `make` fails, the client's connection is cut, so that the client sees an
    /// incomplete reply and not a short one.
    pub fn stream(
        self,
        make: impl FnOnce(&mut StreamWriter) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let writer = Writer::start(&self.status, &self.headers)?;
        let mut writer = StreamWriter { writer, piece: Vec::with_capacity(PIECE) };
        make(&mut writer)?;
        writer.flush()?;
        Ok(Self { content: Content::Streamed, ..self })
    }

    /// The reply to a failure in the plugin's own form, if there is one. A 405 keeps its status and `Allow`.
    pub(crate) fn of_failure(own: Option<Self>, failure: Failure) -> Result<Self, Failure> {
        match (own, failure.allowed()) {
            (Some(reply), None) => Ok(reply),
            (Some(reply), Some(allow)) => Ok(Self { status: 405, ..reply }.header("allow", allow)),
            (None, Some(allow)) => Ok(Self::method_not_allowed(allow)),
            (None, None) => Err(failure),
        }
    }

    /// The head of this reply, with the length of the content that GET would have.
    pub(crate) fn without_content(self) -> Self {
        let length = match &self.content {
            Content::Bytes(bytes) => Some(bytes.len() as u64),
            Content::Body(body) => body.length(),
            // A streamed reply has been sent already. The host sends only its head to a client that sent
            // HEAD.
            Content::Empty | Content::Streamed => return self,
        };
        let reply = Self { content: Content::Empty, ..self };
        match length {
            Some(length) => reply.header("content-length", length),
            None => reply,
        }
    }
}

/// Writes a streamed reply.
#[derive(Debug)]
pub struct StreamWriter {
    writer: Writer,
    piece: Vec<u8>,
}

impl StreamWriter {
    /// Writes bytes, and waits for the client if it is slow. Fails if the client has disconnected.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    /// Sends what has been written so far.
    pub fn flush(&mut self) -> Result<(), Failure> {
        if !self.piece.is_empty() {
            self.writer.write(&self.piece)?;
            self.piece.clear();
        }
        Ok(())
    }
}

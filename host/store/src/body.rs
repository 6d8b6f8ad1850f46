//! Streams of bytes, from a socket to a disk or back.
//!
//! A [`Body`] is read once, chunk by chunk. Its reader need not know where the bytes come from.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The sender stopped before the announced length, or the connection broke.
    #[error("the sender stopped before the end of the body")]
    Truncated,
    /// The sender sent nothing for too long.
    #[error("the sender sent nothing for too long")]
    TimedOut,
    /// More bytes than allowed.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// A quota has no room for the bytes read so far; the text names the quota.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The source failed. Whoever sees the error logs it.
    #[error("cannot read the body: {0}")]
    Io(#[from] io::Error),
    /// The bytes are malformed; the text says how.
    #[error("{0}")]
    Invalid(String),
    /// The bytes do not have the checksum that they must have, a SHA-256 or XXH3; both in lower-case hexadecimal
    /// digits.
    #[error("the bytes have the checksum {actual} and should have {expected}")]
    Mismatch {
        /// The one that they must have.
        expected: String,
        /// The one that they have.
        actual: String,
    },
    /// A system behind the gateway stopped sending; the text is meant for the client.
    #[error("{0}")]
    Unavailable(String),
    /// The code that produces the body failed; the text says how.
    #[error("{0}")]
    Failed(String),
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// Bytes that are read once, chunk by chunk.
pub struct Body {
    length: Option<u64>,
    source: Source,
}

enum Source {
    /// Taken by the first read.
    Bytes(Bytes),
    Chunks(Chunks),
}

impl Body {
    /// A body without bytes.
    pub fn empty() -> Self {
        Self::from_bytes(Bytes::new())
    }

    /// A body whose bytes are in memory.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { length: Some(bytes.len() as u64), source: Source::Bytes(bytes) }
    }

    /// A body that arrives in chunks; `length` in bytes if it is known. The stream itself must fail
    /// with [`BodyError::Truncated`] if it ends before that length.
    pub fn from_stream(
        length: Option<u64>,
        chunks: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
    ) -> Self {
        Self { length, source: Source::Chunks(Box::pin(chunks)) }
    }

    /// The whole body's length in bytes, if it was known before reading.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Takes the whole body if it is in memory and has at most `limit` bytes. Nothing is left to
    /// read then.
    pub fn take_at_hand(&mut self, limit: usize) -> Option<Bytes> {
        match &mut self.source {
            Source::Bytes(bytes) if bytes.len() <= limit => Some(std::mem::take(bytes)),
            _ => None,
        }
    }

    /// The next chunk; none at the end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        self.next().await
    }

    /// Reads the whole body; [`BodyError::TooLarge`] if it has more than `limit` bytes.
    pub async fn collect(mut self, limit: u64) -> Result<Bytes, BodyError> {
        if self.length.is_some_and(|length| length > limit) {
            return Err(BodyError::TooLarge { limit });
        }
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await {
            let chunk = chunk?;
            if (all.len() + chunk.len()) as u64 > limit {
                return Err(BodyError::TooLarge { limit });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.into())
    }
}

impl Stream for Body {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.source {
            Source::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Source::Chunks(chunks) => chunks.poll_next_unpin(context),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("length", &self.length).finish_non_exhaustive()
    }
}

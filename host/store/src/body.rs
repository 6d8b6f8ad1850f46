//! Bytes on their way: from a socket to a disk, or back.
//!
//! A [`Body`] is read once, chunk by chunk. Who makes one decides where its bytes come from; who
//! reads one need not know.

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
    /// The sender stopped before the announced length, or broke off.
    #[error("the sender stopped before the end of the body")]
    Truncated,
    /// The sender sent nothing for too long.
    #[error("the sender sent nothing for too long")]
    TimedOut,
    /// More bytes than allowed.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// A quota has no room for what came so far; the text says which.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The source failed; it has been logged or will be.
    #[error("reading the body: {0}")]
    Io(#[from] io::Error),
    /// The bytes are not what they must be; the text says what is wrong with them.
    #[error("{0}")]
    Invalid(String),
    /// The source is a system behind the gateway, which broke off; the text is for whoever asked.
    #[error("{0}")]
    Unavailable(String),
    /// Who made the body failed; the text says how.
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
    /// Taken at the first read.
    Bytes(Bytes),
    Chunks(Chunks),
}

impl Body {
    /// A body without bytes.
    pub fn empty() -> Self {
        Self::from_bytes(Bytes::new())
    }

    /// A body of bytes at hand.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { length: Some(bytes.len() as u64), source: Source::Bytes(bytes) }
    }

    /// A body that comes piece by piece; `length` in bytes where it is known. The stream must
    /// itself fail with [`BodyError::Truncated`] where it ends before that length.
    pub fn from_stream(
        length: Option<u64>,
        chunks: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
    ) -> Self {
        Self { length, source: Source::Chunks(Box::pin(chunks)) }
    }

    /// Length in bytes from the first byte on, where it was known before reading.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// All of it, where it needs no waiting for and has at most `limit` bytes; then nothing is
    /// left to read.
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

    /// All of it, where it is at most `limit` bytes long; else [`BodyError::TooLarge`].
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

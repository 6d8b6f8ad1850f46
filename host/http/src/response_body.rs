//! Response bodies. If a body fails, or is shorter or longer than announced, the connection (HTTP/1) or
//! stream (HTTP/2) is aborted, so that no client mistakes a part for the whole.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};
use keepgate_store::{Body as Bytestream, BodyError};

use crate::connection::Exchange;
use crate::request_record::RequestRecord;

/// The body of a response.
pub struct ResponseBody {
    content: Content,
    /// How much of the announced length is left.
    left: Option<u64>,
    /// Completed when the body is dropped, which is the end of the request.
    record: Option<RequestRecord>,
    /// Reset if the body breaks off and nothing else would tell the client.
    unframed: Option<Arc<Exchange>>,
}

enum Content {
    Bytes(Bytes),
    Stream(Bytestream),
}

/// Why a body breaks off. Clients never see it; hyper needs an error to abort with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Aborted(String);

impl ResponseBody {
    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self::bytes(Bytes::new())
    }

    /// These bytes.
    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let left = Some(bytes.len() as u64);
        Self { content: Content::Bytes(bytes), left, record: None, unframed: None }
    }

    /// Bytes as they come; `length` in total, if that has been announced.
    pub(crate) fn stream(body: Bytestream, length: Option<u64>) -> Self {
        Self { content: Content::Stream(body), left: length, record: None, unframed: None }
    }

    /// Marks a body that ends with its connection: HTTP/1.0 has no other way.
    pub(crate) fn unframed(mut self, exchange: &Arc<Exchange>) -> Self {
        self.unframed = Some(exchange.clone());
        self
    }

    /// Completes the request's record when this body ends.
    pub(crate) fn recorded(mut self, mut record: RequestRecord) -> Self {
        if self.left == Some(0) {
            record.sent_all();
        }
        self.record = Some(record);
        self
    }

    fn abort(&mut self, error: &dyn fmt::Display) -> Aborted {
        if let Some(exchange) = &self.unframed {
            exchange.reset();
        }
        if let Some(record) = &mut self.record {
            record.aborted(error);
        }
        Aborted(error.to_string())
    }

    /// Checks a chunk, or the end, against the announced length.
    fn count(&mut self, chunk: Option<&Bytes>) -> Result<(), BodyError> {
        let length = chunk.map_or(0, Bytes::len) as u64;
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(length)
                .ok_or_else(|| BodyError::Failed("the body is longer than announced".to_owned()))?;
            if chunk.is_none() && *left > 0 {
                return Err(BodyError::Failed(format!(
                    "the body is {left} bytes shorter than announced"
                )));
            }
        }
        if let Some(record) = &mut self.record {
            if let Some(chunk) = chunk {
                record.sent(chunk);
            }
            // A reader that knows the length need not poll for the end.
            if chunk.is_none() || self.left == Some(0) {
                record.sent_all();
            }
        }
        Ok(())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let this = &mut *self;
        let chunk = match &mut this.content {
            Content::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then_some(Ok(bytes))
            }
            Content::Stream(body) => ready!(Pin::new(body).poll_next(context)),
        };
        let chunk = chunk.transpose().and_then(|chunk| {
            this.count(chunk.as_ref())?;
            Ok(chunk)
        });
        Poll::Ready(match chunk {
            Ok(chunk) => chunk.map(|chunk| Ok(Frame::data(chunk))),
            Err(error) => Some(Err(this.abort(&error))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("left", &self.left).finish_non_exhaustive()
    }
}

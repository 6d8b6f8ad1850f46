//! The bytes of a service's reply.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http_body::Body as _;
use keepgate_store::BodyError;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// The bytes of a service's reply.
pub(crate) struct ServiceBody(pub(super) HyperOutgoingBody);

impl Stream for ServiceBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let frame = match std::task::ready!(Pin::new(&mut self.0).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    let why = format!("the service's reply broke off: {error:?}");
                    return Poll::Ready(Some(Err(BodyError::Failed(why))));
                }
                None => return Poll::Ready(None),
            };
            // Trailers are not passed on.
            if let Ok(bytes) = frame.into_data()
                && !bytes.is_empty()
            {
                return Poll::Ready(Some(Ok(bytes)));
            }
        }
    }
}

impl std::fmt::Debug for ServiceBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServiceBody")
    }
}

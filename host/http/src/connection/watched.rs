//! The transport below HTTP. It notes in [`Connection`] when bytes arrive and when the client stops
//! accepting them, adapts the size of reads to the client's pace, and lingers at the end so that the
//! client can read the last response.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::Connection;
use super::pace::Pace;
use crate::transport::Transport;

/// A lingering connection reads at most this many bytes.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// A transport that records its activity.
pub(crate) struct Watched {
    transport: Transport,
    connection: Arc<Connection>,
    /// Set once our side is closed: how many more bytes are read.
    lingering: Option<usize>,
    /// The client's end, and who waits for it, until what is being written has been sent.
    end: Option<(io::Result<()>, Waker)>,
    pace: Pace,
    /// What is left of interim responses that are being written.
    interim: Bytes,
}

impl Watched {
    pub(crate) fn new(transport: Transport, connection: Arc<Connection>) -> Self {
        let (pace, interim) = (Pace::default(), Bytes::new());
        Self { transport, connection, lingering: None, end: None, pace, interim }
    }

    /// Writes the interim responses that have begun. Nothing else may come between their bytes.
    fn poll_interim(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let poll = Pin::new(&mut self.transport).poll_write(context, &self.interim);
            match ready!(self.note(poll))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.interim.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Notes whether the client accepts what it is sent.
    fn note<T>(&self, poll: Poll<T>) -> Poll<T> {
        match poll {
            Poll::Pending => self.connection.blocked.set_if_none(),
            Poll::Ready(_) if self.connection.blocked.is_set() => {
                self.connection.blocked.clear();
                if let Some((_, reader)) = &self.end {
                    reader.wake_by_ref();
                }
            }
            Poll::Ready(_) => {}
        }
        poll
    }

    /// Notes that the client has closed its side. hyper closes an idle HTTP/1 connection at once, and it
    /// counts one as idle whose last response it still has to send, so it learns of the end afterwards.
    fn end(&mut self, end: io::Result<()>, reader: &Waker) -> Poll<io::Result<()>> {
        self.connection.hung_up.store(true, Ordering::Relaxed);
        if self.connection.http2 || !self.connection.blocked.is_set() {
            return Poll::Ready(end);
        }
        self.end = Some((end, reader.clone()));
        Poll::Pending
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.connection.reset.load(Ordering::Relaxed) {
            self.transport.socket().reset_on_close();
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some((end, _)) = self.end.take() {
            return self.end(end, context.waker());
        }
        let before = buffer.filled().len();
        let room = buffer.remaining();
        let limit = self.pace.read_size();
        let mut transport = (&mut self.transport).take(limit);
        let poll = Pin::new(&mut transport).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        match poll {
            Poll::Pending => self.pace.wait(Instant::now),
            Poll::Ready(_) => self.pace.read(read as u64, Instant::now),
        }
        if read > 0 && !self.connection.is_busy() && !self.connection.http2 {
            self.connection.head.set_if_none();
            self.connection.head_begun.store(true, Ordering::Relaxed);
        }
        match poll {
            Poll::Ready(end) if end.is_err() || (read == 0 && room > 0) => {
                self.end(end, context.waker())
            }
            poll => poll,
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(context))?;
        let poll = Pin::new(&mut self.transport).poll_write(context, bytes);
        self.note(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(context))?;
        let poll = Pin::new(&mut self.transport).poll_write_vectored(context, slices);
        self.note(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    /// hyper flushes when it has nothing left to write, so this is where interim responses begin.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(context))?;
        self.interim = self.connection.interim.take(context.waker());
        if !self.interim.is_empty() {
            ready!(self.poll_interim(context))?;
        }
        let poll = Pin::new(&mut self.transport).poll_flush(context);
        self.note(poll)
    }

    /// Closes our side. If the client may still be sending, waits until it closes too: closing a
    /// socket with unread bytes resets the connection, and the response would be lost.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut left = match this.lingering {
            Some(left) => left,
            None => {
                let poll = Pin::new(&mut this.transport).poll_shutdown(context);
                ready!(this.note(poll))?;
                if !this.connection.must_linger() {
                    return Poll::Ready(Ok(()));
                }
                this.connection.lingering.set();
                LINGER_BYTES
            }
        };
        let mut bytes = [0; 8 * 1024];
        while left > 0 {
            this.lingering = Some(left);
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut this.transport).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    left = left.saturating_sub(buffer.filled().len());
                }
                _ => break,
            }
        }
        this.lingering = Some(0);
        Poll::Ready(Ok(()))
    }
}

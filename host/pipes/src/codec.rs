//! Runs a compressor in the task that reads the body, in pieces of a fraction of a millisecond; the
//! other tasks of the thread have their turn after each.
//!
//! The other way, batches on threads that may block while the next batch is read, was measured too
//! (`examples/compress.rs`): 261 instead of 287 MB/s at level 1, and 112 instead of 123 MB/s at
//! level 6, between a meter and a disk store on two cores. The disk writes, and connections are
//! read, on other threads anyway; the way to yet another one and back costs more than it brings.

use bytes::Bytes;
use futures_util::stream;
use keepgate_store::{Body, BodyError};
use tokio::task::yield_now;

use crate::gather::{Batch, Gather};

/// Bytes of input between two turns: 50 µs of work at level 1, 150 µs at level 6.
const PIECE: usize = 16 * 1024;
/// Bytes of a chunk of output; only the last may be shorter.
pub(crate) const CHUNK: usize = 64 * 1024;

/// Something that turns bytes into others.
pub(crate) trait Codec: Send + 'static {
    /// Takes from `input`, and adds to `output` until that has [`CHUNK`] bytes, within its capacity.
    /// Goes on until there is no room for output, or no input; where it is the `last`, until all
    /// has come out.
    fn step(
        &mut self,
        input: &mut &[u8],
        last: bool,
        output: &mut Vec<u8>,
    ) -> Result<Progress, BodyError>;
}

/// How a step ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// The chunk of output is full.
    Full,
    /// The input is used up.
    Hungry,
    /// All of the output has come.
    Done,
}

/// A body that went through a codec.
pub(crate) fn piped(body: Body, codec: impl Codec) -> Body {
    let source = Gather::new(body, PIECE);
    let piped = Piped { source, codec, piece: None, used: 0, done: false };
    Body::from_stream(None, stream::try_unfold(piped, Piped::next))
}

struct Piped<C> {
    source: Gather,
    codec: C,
    piece: Option<Batch>,
    /// Bytes of the piece that were worked on.
    used: usize,
    done: bool,
}

impl<C: Codec> Piped<C> {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BodyError> {
        let mut output = Vec::new();
        while !self.done {
            let piece = match &self.piece {
                Some(piece) => piece,
                None => {
                    self.used = 0;
                    self.piece.insert(self.source.next().await?)
                }
            };
            output.reserve_exact(CHUNK.saturating_sub(output.len()));
            let mut left = piece.bytes.get(self.used..).unwrap_or_default();
            let progress = self.codec.step(&mut left, piece.last, &mut output)?;
            self.used = piece.bytes.len() - left.len();
            yield_now().await;
            match progress {
                Progress::Full => break,
                Progress::Hungry => self.piece = None,
                Progress::Done => self.done = true,
            }
        }
        // The last one may be small in a large memory.
        output.shrink_to_fit();
        Ok((!output.is_empty()).then(|| (output.into(), self)))
    }
}

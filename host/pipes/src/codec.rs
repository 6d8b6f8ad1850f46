//! Runs a compressor in the task that reads the body, in steps of a fraction of a millisecond, and
//! yields to the thread's other tasks after each step.
//!
//! The alternative, batches on blocking threads while the next batch is read, was measured too
//! (`benches/compress.rs`): 261 instead of 287 MB/s at level 1, and 112 instead of 123 MB/s at
//! level 6, between a meter and a disk store on two cores. The disk writes and connections are read
//! on other threads anyway; going to yet another thread and back costs more than it gains.

use bytes::Bytes;
use futures_util::stream;
use keepgate_store::{Body, BodyError};
use tokio::task::yield_now;

use crate::batch_reader::{Batch, BatchReader};

/// Bytes of input between two yields: 50 µs of work at level 1, 150 µs at level 6.
const PIECE: usize = 16 * 1024;
/// Bytes in a chunk of output; only the last one may be shorter.
pub(crate) const CHUNK: usize = 64 * 1024;

/// Transforms bytes, such as a compressor.
pub(crate) trait Codec: Send + 'static {
    /// Consumes `input` and appends to `output` until that has [`CHUNK`] bytes, within its capacity.
    /// Continues until the output is full or the input is used up; with the `last` input, until all
    /// output has been produced.
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
    /// The output chunk is full.
    Full,
    /// The input is used up.
    Hungry,
    /// All output has been produced.
    Done,
}

/// Passes a body through a codec.
pub(crate) fn through(body: Body, codec: impl Codec) -> Body {
    let source = BatchReader::new(body, PIECE);
    let piped = CodecStream { source, codec, piece: None, used: 0, done: false };
    Body::from_stream(None, stream::try_unfold(piped, CodecStream::next))
}

struct CodecStream<C> {
    source: BatchReader,
    codec: C,
    piece: Option<Batch>,
    /// Bytes of the piece that have been consumed.
    used: usize,
    done: bool,
}

impl<C: Codec> CodecStream<C> {
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
        // The last chunk may be much smaller than its buffer.
        output.shrink_to_fit();
        Ok((!output.is_empty()).then(|| (output.into(), self)))
    }
}

//! Compresses in gzip's format. The same bytes and level always give the same output.

use flate2::{Compress, Compression, FlushCompress, Status};
use keepgate_store::{Body, BodyError};

use crate::PipeError;
use crate::codec::{self, CHUNK, Codec, Progress};
use crate::fastest::Fastest;

/// Binary logarithm of the window size; the largest that gzip allows.
const WINDOW: u8 = 15;

/// Compresses a body, without a name or a time in the header. Levels are 0 (stored) to 9 (smallest).
///
/// # Errors
///
/// [`PipeError::Invalid`] for any other level. Reading the result fails as reading the body does.
pub fn gzip(body: Body, level: u8) -> Result<Body, PipeError> {
    if level > 9 {
        return Err(PipeError::Invalid(format!("gzip level {level} does not exist; use 0 to 9")));
    }
    Ok(match level {
        1 => codec::through(body, Fastest::default()),
        _ => codec::through(body, Gzip { level, state: None }),
    })
}

struct Gzip {
    level: u8,
    /// Some 300 KiB, allocated when the first bytes arrive.
    state: Option<Compress>,
}

impl Codec for Gzip {
    fn step(
        &mut self,
        input: &mut &[u8],
        last: bool,
        output: &mut Vec<u8>,
    ) -> Result<Progress, BodyError> {
        let level = Compression::new(self.level.into());
        let state = self.state.get_or_insert_with(|| Compress::new_gzip(level, WINDOW));
        let flush = if last { FlushCompress::Finish } else { FlushCompress::None };
        while last || !input.is_empty() {
            if output.len() >= CHUNK {
                return Ok(Progress::Full);
            }
            let (taken, given) = (state.total_in(), output.len());
            let status =
                state.compress_vec(input, output, flush).map_err(|error| broken(&error))?;
            let taken = usize::try_from(state.total_in() - taken).unwrap_or(usize::MAX);
            *input = input.get(taken..).unwrap_or_default();
            if status == Status::StreamEnd {
                return Ok(Progress::Done);
            }
            if taken == 0 && output.len() == given {
                return Err(broken("no progress"));
            }
        }
        Ok(Progress::Hungry)
    }
}

/// An error of the compressor itself, which no input causes.
pub(crate) fn broken(error: &(impl ToString + ?Sized)) -> BodyError {
    BodyError::Failed(format!("cannot compress: {}", error.to_string()))
}

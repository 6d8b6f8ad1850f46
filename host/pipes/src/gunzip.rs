//! Decompressing gzip: all members, one behind the other, and nothing else behind them.

use flate2::{Decompress, FlushDecompress, Status};
use keepgate_store::{Body, BodyError};

use crate::codec::{self, CHUNK, Codec, Progress};

/// Binary logarithm of how far back repetitions may lie; the most that gzip allows.
const WINDOW: u8 = 15;

/// Decompresses a body, all members where there are several. How much comes out is for whoever
/// reads it to limit; what is held meanwhile does not depend on it.
///
/// Reading the result fails with [`BodyError::Invalid`] where the bytes are no gzip or their check
/// sum is wrong, with [`BodyError::Truncated`] where they end too early (no bytes at all do), and
/// else as reading the body does.
pub fn gunzip(body: Body) -> Body {
    codec::piped(body, Gunzip { member: None, offset: 0, members: 0 })
}

struct Gunzip {
    /// The member that has begun, some 40 KiB.
    member: Option<Decompress>,
    /// Bytes before it.
    offset: u64,
    /// Members that are complete.
    members: u64,
}

impl Codec for Gunzip {
    fn step(
        &mut self,
        input: &mut &[u8],
        last: bool,
        output: &mut Vec<u8>,
    ) -> Result<Progress, BodyError> {
        loop {
            if output.len() >= CHUNK {
                return Ok(Progress::Full);
            }
            // Within a member more may come out without more input.
            if self.member.is_none() && input.is_empty() {
                break;
            }
            let member = self.member.get_or_insert_with(|| Decompress::new_gzip(WINDOW));
            let (before, given) = (member.total_in(), output.len());
            let status = member.decompress_vec(input, output, FlushDecompress::None);
            let read = member.total_in();
            let taken = usize::try_from(read - before).unwrap_or(usize::MAX);
            let status = status.map_err(|error| {
                invalid(self.offset + read, self.members, error.message().unwrap_or("it is broken"))
            })?;
            *input = input.get(taken..).unwrap_or_default();
            if status == Status::StreamEnd {
                self.offset += read;
                self.members += 1;
                self.member = None;
            } else if taken == 0 && output.len() == given {
                break;
            }
        }
        match (last, &self.member) {
            _ if !input.is_empty() => Err(invalid(self.offset, self.members, "it stands still")),
            (false, _) => Ok(Progress::Hungry),
            (true, None) if self.members > 0 => Ok(Progress::Done),
            (true, _) => Err(BodyError::Truncated),
        }
    }
}

fn invalid(offset: u64, members: u64, what: &str) -> BodyError {
    let which = if members == 0 { "no gzip data" } else { "no gzip data behind the first member" };
    BodyError::Invalid(format!("{which}, or it is damaged, about byte {offset}: {what}"))
}

//! Decompresses gzip: all members, one after the other, and nothing after them.

use flate2::{Decompress, FlushDecompress, Status};
use keepgate_store::{Body, BodyError};

use crate::codec::{self, CHUNK, Codec, Progress};

/// Binary logarithm of the window size; the largest that gzip allows.
const WINDOW: u8 = 15;

/// Decompresses a body, including all of its members. The reader has to limit the size of the
/// result; the memory in use does not depend on it.
///
/// Reading the result fails with [`BodyError::Invalid`] if the bytes are not gzip or their checksum is
/// wrong, with [`BodyError::Truncated`] if they end too early (or there are none at all), and otherwise
/// as reading the body does.
pub fn gunzip(body: Body) -> Body {
    codec::through(body, Gunzip { member: None, offset: 0, members: 0 })
}

struct Gunzip {
    /// The member in progress, some 40 KiB.
    member: Option<Decompress>,
    /// Bytes before it.
    offset: u64,
    /// Complete members.
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
            // Within a member, there may be more output without more input.
            if self.member.is_none() && input.is_empty() {
                break;
            }
            let member = self.member.get_or_insert_with(|| Decompress::new_gzip(WINDOW));
            let (before, given) = (member.total_in(), output.len());
            let status = member.decompress_vec(input, output, FlushDecompress::None);
            let read = member.total_in();
            let taken = usize::try_from(read - before).unwrap_or(usize::MAX);
            let status = status.map_err(|error| {
                invalid(
                    self.offset + read,
                    self.members,
                    error.message().unwrap_or("it is damaged"),
                )
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
            _ if !input.is_empty() => Err(invalid(self.offset, self.members, "no progress")),
            (false, _) => Ok(Progress::Hungry),
            (true, None) if self.members > 0 => Ok(Progress::Done),
            (true, _) => Err(BodyError::Truncated),
        }
    }
}

fn invalid(offset: u64, members: u64, what: &str) -> BodyError {
    let which = if members == 0 { "gzip data" } else { "data after the first gzip member" };
    BodyError::Invalid(format!("invalid or damaged {which}, near byte {offset}: {what}"))
}

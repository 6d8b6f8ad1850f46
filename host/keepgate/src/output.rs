//! What commands print. Nothing else writes to standard output or error: std's macros panic where a
//! reader has gone, and a list of which somebody wants the `head` is no reason to break down.

use std::fmt::Arguments;
use std::io::{self, Write as _};

use anyhow::{Context as _, Result};

/// Prints a line, as `println!` does. A reader that has gone is no error: it has what it wanted, and
/// the command's exit code stays what it is.
macro_rules! say {
    () => {
        $crate::output::print(format_args!("\n"))
    };
    ($($text:tt)+) => {
        $crate::output::print(format_args!("{}\n", format_args!($($text)+)))
    };
}
pub(crate) use say;

/// Says a line on standard error, as `eprintln!` does. Where that fails there is nobody to tell.
macro_rules! note {
    ($($text:tt)+) => {
        $crate::output::tell(format_args!("{}\n", format_args!($($text)+)))
    };
}
pub(crate) use note;

/// Writes to standard output. Fails where the text is lost though somebody may want it: on a full
/// disk, say.
pub(crate) fn print(text: Arguments<'_>) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_fmt(text).and_then(|()| out.flush());
    heard(written).context("cannot write to standard output")
}

/// Writes to standard error, as far as that is possible.
pub(crate) fn tell(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}

fn heard(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reader_that_has_gone_is_no_error() {
        let of = |kind: io::ErrorKind| heard(Err(kind.into())).is_ok();
        assert!(of(io::ErrorKind::BrokenPipe));
        assert!(!of(io::ErrorKind::StorageFull));
    }
}

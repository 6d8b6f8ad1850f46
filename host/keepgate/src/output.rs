//! Printing. All output of commands goes through [`say`] and [`note`]: the macros of std panic when the
//! reader has closed the pipe, and `keepgate … | head` must not end in a panic.

use std::fmt::Arguments;
use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
pub use keepgate_core::one_line;

/// Prints a line, like `println!`. A closed pipe is not an error: the reader has what it wanted, and
/// the exit code of the command stays the same.
#[macro_export]
macro_rules! say {
    () => {
        $crate::output::print(format_args!("\n"))
    };
    ($($text:tt)+) => {
        $crate::output::print(format_args!("{}\n", format_args!($($text)+)))
    };
}
pub use crate::say;

/// Prints a line to standard error, like `eprintln!`, and ignores failures.
#[macro_export]
macro_rules! note {
    ($($text:tt)+) => {
        $crate::output::tell(format_args!("{}\n", format_args!($($text)+)))
    };
}
pub use crate::note;

/// Writes to standard output. Fails if a reader may miss the text, for example on a full disk, but not
/// if the pipe is closed.
pub fn print(text: Arguments<'_>) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_fmt(text).and_then(|()| out.flush());
    unless_closed(written).context("cannot write to standard output")
}

/// Writes to standard error and ignores failures.
pub fn tell(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}

fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// An error with its causes on one line. Each cause is named once: some errors already contain the
/// text of theirs.
pub fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_closed_pipe_is_ignored() {
        let of = |kind: io::ErrorKind| unless_closed(Err(kind.into())).is_ok();
        assert!(of(io::ErrorKind::BrokenPipe));
        assert!(!of(io::ErrorKind::StorageFull));
    }
}

//! Printing. All output of commands goes through [`say`] and [`note`]: the macros of std panic when the
//! reader has closed the pipe, and `keepgate … | head` must not end in a panic.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::{self, Write as _};

use anyhow::{Context as _, Result};

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

/// A text by others, such as a plugin's or the name of a file, for a line of output: control characters are escaped as in
/// Rust, because a line break would begin a line that looks like one of ours.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped =
        |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escaped).collect())
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

    #[test]
    fn a_text_cannot_begin_a_line() {
        assert_eq!(one_line("ä b"), "ä b");
        assert_eq!(one_line("a\nwrong: \u{1b}[2J"), "a\\nwrong: \\u{1b}[2J");
    }
}

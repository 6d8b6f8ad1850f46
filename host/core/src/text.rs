//! Texts by others, such as plugins, clients or the names of files, in messages and logs.

use std::borrow::Cow;

/// A text on one line. Control characters are escaped as in Rust, because a line break would begin a line that looks like
/// one of the gateway's.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut line = String::new();
    for character in text.chars() {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_begin_a_line() {
        assert_eq!(one_line("ä b"), "ä b");
        assert_eq!(one_line("a\nwrong: \u{1b}[2J"), "a\\nwrong: \\u{1b}[2J");
    }
}

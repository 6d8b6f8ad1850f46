//! Where something is in a text, for people: line and column, both from 1.

use serde_json::value::RawValue;

use crate::problem::Problem;

/// The text of a manifest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a>(pub(super) &'a str);

impl<'a> Text<'a> {
    /// Refuses what is not UTF-8.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Problem> {
        std::str::from_utf8(bytes).map(Self).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let before = String::from_utf8_lossy(before);
            let (line, column) = line_and_column(&before, before.len());
            problem("bad_json", "this is not UTF-8".to_owned(), line, column)
        })
    }

    /// Where a part of this very text begins.
    pub(super) fn offset(self, value: &RawValue) -> usize {
        let (whole, part) = (self.0.as_ptr() as usize, value.get().as_ptr() as usize);
        part.saturating_sub(whole)
    }

    /// A refusal of what is at an offset.
    pub(super) fn problem(
        self,
        code: &'static str,
        offset: usize,
        why: impl Into<String>,
    ) -> Problem {
        let (line, column) = line_and_column(self.0, offset);
        problem(code, why.into(), line, column)
    }

    /// Refuses objects and lists in each other beyond so many levels.
    pub(super) fn check_depth(self, most: usize) -> Result<(), Problem> {
        let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
        for (offset, byte) in self.0.bytes().enumerate() {
            if in_text {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => in_text = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => in_text = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > most {
                let why = format!("more than {most} levels of objects and lists");
                return Err(self.problem("bad_json", offset, why));
            }
        }
        Ok(())
    }
}

/// A refusal of what is in a line and a column.
pub(super) fn problem(code: &'static str, why: String, line: usize, column: usize) -> Problem {
    Problem::new(400, code, format!("line {line}, column {column}: {why}"))
        .with("line", line)
        .with("column", column)
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

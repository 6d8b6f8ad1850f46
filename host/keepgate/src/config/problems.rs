//! Collects everything that is wrong with a configuration file, so that one run reports all of it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is wrong with a configuration, in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

/// One thing that is wrong, and the bytes of the file that it is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    span: Range<usize>,
    message: String,
}

impl Problem {
    /// `message` names the key and says what to write instead. An empty span stands for a key that
    /// is missing from the file altogether.
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into() }
    }

    /// Without its place in the file.
    pub(crate) fn into_message(self) -> String {
        self.message
    }
}

impl Problems {
    /// Adds a problem at a place in the file.
    pub(crate) fn add(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.0.push(Problem::new(span, message));
    }

    /// Adds the error of a result, if it is one.
    pub(crate) fn add_error<T>(&mut self, result: Result<T, Problem>) {
        self.0.extend(result.err());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The problems with lines and columns in `text`, in its order.
    pub(super) fn located(mut self, text: &str, file: &Path) -> Vec<LocatedProblem> {
        self.0.sort_by_key(|problem| (problem.span.start, problem.span.end));
        self.0.dedup();
        let locate = |problem: Problem| {
            let (line, column) = position(text, problem.span.start);
            LocatedProblem { file: file.to_owned(), line, column, message: problem.message }
        };
        self.0.into_iter().map(locate).collect()
    }
}

/// A problem as it is shown: `FILE:LINE:COLUMN: MESSAGE`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LocatedProblem {
    pub(crate) file: PathBuf,
    /// From 1.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    pub(crate) message: String,
}

impl fmt::Display for LocatedProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message } = self;
        write!(f, "{}:{line}:{column}: {message}", file.display())
    }
}

/// Line and column, from 1, of a byte; columns count characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

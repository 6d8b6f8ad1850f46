//! The conformance suite of restic's REST backend: cases as data (`tests/conformance`), and what
//! runs them against any server. `tests/conformance/README.md` says how cases are written.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`case`] | the form of the data |
//! | [`suite`] | the cases, read and spread out |
//! | [`fill`] | placeholders |
//! | [`exchange`] | one step over a socket |
//! | [`expect`] | what a reply must be |
//! | [`disk`] | what must be on disk |
//! | [`server`] | a server started for its flags, or one that runs already |
//! | [`play`] | one case from its beginning to its end |
//! | [`run`] | all of them, and the report |
//! | [`differences`] | where a server is known to differ |

pub mod case;
pub mod differences;
pub mod disk;
pub mod exchange;
pub mod expect;
pub mod fill;
pub mod play;
pub mod run;
pub mod server;
pub mod suite;

/// Why a case failed, in words for one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The request, or the check, and which step it was.
    pub sent: String,
    /// What would have been right.
    pub expected: String,
    /// What came instead. A difference's pattern is held against this.
    pub got: String,
}

impl Failure {
    /// One whose `sent` is filled in by whoever knows the step.
    pub fn new(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self { sent: String::new(), expected: expected.into(), got: got.into() }
    }

    /// The same, at this place, where it has none yet.
    #[must_use]
    pub fn at(mut self, sent: &str) -> Self {
        if self.sent.is_empty() {
            sent.clone_into(&mut self.sent);
        }
        self
    }
}

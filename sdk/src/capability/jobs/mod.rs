//! Work that outlives a request: stored by the host, run one at a time for each kind and key, and retried.
//! [`Jobs`](crate::Jobs) runs a plugin's jobs; [`job_api`](crate::job_api) is an HTTP API for them.

#[cfg(not(target_family = "wasm"))]
mod native;
mod options;

pub use crate::bindings::keepgate::plugin::jobs::{Job, Options, Progress, State, WhenBusy};
#[cfg(target_family = "wasm")]
pub use crate::bindings::keepgate::plugin::jobs::{
    cancel, get, list, report, start, start_on_mismatch, wait, withdraw,
};
#[cfg(not(target_family = "wasm"))]
pub use native::{cancel, get, list, report, start, start_on_mismatch, wait, withdraw};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Description, Failure, Level, environment, json};

/// Starts a job whose input is a value, as JSON; otherwise as [`start`].
///
/// ```
/// use keepgate_sdk::jobs::{self, Job, Options};
/// use keepgate_sdk::Failure;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Export {
///     folder: String,
/// }
///
/// fn export(folder: &str) -> Result<String, Failure> {
///     jobs::start_with("export", &Export { folder: folder.to_owned() }, &Options::new(folder))
/// }
///
/// fn run(job: &Job) -> Result<Vec<u8>, Failure> {
///     let Export { folder } = jobs::input("export", &job.input)?;
///     Ok(folder.into_bytes())
/// }
/// ```
pub fn start_with(
    kind: &str,
    input: &impl Serialize,
    options: &Options,
) -> Result<String, Failure> {
    start(kind, &json::to_vec(input)?, options)
}

/// Reads the input of a job of this kind, a JSON object. A job without input has the empty object, so a
/// schedule need not write defaults. Fails with [`Failure::Invalid`], which names the wrong member.
pub fn input<T: DeserializeOwned>(kind: &str, input: &[u8]) -> Result<T, Failure> {
    let input = if input.is_empty() { b"{}" } else { input };
    json::parse(&format!("the input of a {kind} job"), input)
}

/// Reports progress to operators. Errors are ignored, because a job must not fail because of them. `phase` is
/// one or two words; `done` and `total` may have any unit, usually bytes.
pub fn report_progress(phase: &str, done: u64, total: Option<u64>) {
    if let Err(failure) = report(&Progress { done, total, phase: phase.to_owned() }) {
        let why = failure.message();
        let fields: environment::Fields<'_> = &[("phase", &phase), ("error", &why)];
        environment::log_with(Level::Debug, "progress not reported", fields);
    }
}

impl Description {
    /// Names a kind of job that the plugin runs; see [`Jobs`](crate::Jobs).
    #[must_use]
    pub fn job(mut self, kind: &str) -> Self {
        self.0.jobs.push(kind.to_owned());
        self
    }
}

/// The Rust of the capability's page in the book.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/src/contract/jobs.md")]
#[derive(Debug)]
struct Book;

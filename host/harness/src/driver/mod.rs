//! What cases run against, behind one trait: a plugin in this process, or a server over a socket. A driver
//! carries steps out and reports their results. It does not know what is right.

mod in_process;
mod needs;
pub mod socket;

use keepgate_jobs::Job;

use crate::case::{Case, Disk, Step, World};
use crate::compare::Known;
use crate::fixture::Response;
use crate::mismatch::{Mismatch, Place};

pub(crate) use in_process::InProcess;
pub(crate) use needs::{Abilities, in_process_lacks, socket_lacks};

/// The result of a request.
#[derive(Debug)]
pub(crate) enum Received {
    /// A reply.
    Response(Response),
    /// The connection ended before there was a reply. The text says why.
    Closed(String),
    /// Something else went wrong.
    Failed {
        /// What was expected.
        expected: String,
        /// What happened.
        got: String,
    },
    /// The step does not wait for a reply.
    Nothing,
}

/// What cases run against. Methods return `Err` if the case is invalid.
pub(crate) trait Driver {
    /// Sets up what a case's world has besides its preconditions. A plugin in this process has that from the
    /// start.
    fn furnish(&mut self, _world: &World, _known: Known<'_>) -> Result<(), String> {
        Ok(())
    }

    /// Does what comes before a step's request: lets time pass, places files and blobs.
    fn prepare(&mut self, step: &Step, known: Known<'_>) -> Result<(), String>;

    /// Sends a step's request.
    fn send(&mut self, step: &Step, known: Known<'_>) -> Result<Received, String>;

    /// Runs a job to its end; `Err` if it is refused.
    fn run_job(&mut self, kind: &str, input: &[u8]) -> Result<Job, String>;

    /// Waits until no job is queued or running.
    fn settle(&mut self) -> Result<(), String>;

    /// All calls that the plugin has made to its host so far, if they are visible.
    fn calls(&self) -> Vec<String>;

    /// Compares the disk with a rule, or only with the surface's layout. A `patient` comparison is repeated
    /// until it succeeds, for up to ten seconds.
    fn disk(
        &mut self,
        disk: Option<&Disk>,
        patient: bool,
        known: Known<'_>,
    ) -> Result<Option<Mismatch>, String>;

    /// Compares the state after the last step with the case's expectations.
    fn final_state(
        &mut self,
        case: &Case,
        known: Known<'_>,
        place: &Place,
    ) -> Result<Vec<Mismatch>, String>;

    /// The trace of the case, line by line, for people who want to know why it failed.
    fn trace(&self) -> Vec<String>;
}

//! What cases are played against, behind one trait: a plugin in this process, or a server over a socket.
//! A driver carries out steps and reports what came of them; it does not know what is right.

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

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Received {
    /// A reply.
    Response(Response),
    /// The connection ended before there was a reply: why.
    Closed(String),
    /// Something else went wrong on the way.
    Failed {
        /// What would have been right.
        expected: String,
        /// What came.
        got: String,
    },
    /// The step does not wait for a reply.
    Nothing,
}

/// Something that cases are played against. An `Err` means that the case makes no sense.
pub(crate) trait Driver {
    /// Puts in place what a case's world has besides what it is given. A plugin in this process has that from
    /// its beginning.
    fn furnish(&mut self, _world: &World, _known: Known<'_>) -> Result<(), String> {
        Ok(())
    }

    /// What happens before the request of a step: time passes, files and blobs are put in place.
    fn prepare(&mut self, step: &Step, known: Known<'_>) -> Result<(), String>;

    /// Sends the request of a step.
    fn send(&mut self, step: &Step, known: Known<'_>) -> Result<Received, String>;

    /// Runs a job to its end; `Err` if it is refused.
    fn run_job(&mut self, kind: &str, input: &[u8]) -> Result<Job, String>;

    /// Waits until no job is queued or running.
    fn settle(&mut self) -> Result<(), String>;

    /// Everything that the plugin has asked of its host so far, if that can be seen.
    fn calls(&self) -> Vec<String>;

    /// Compares the disk with a rule, or only with the surface's layout. A `patient` comparison is repeated
    /// until it holds, for ten seconds at most.
    fn disk(
        &mut self,
        disk: Option<&Disk>,
        patient: bool,
        known: Known<'_>,
    ) -> Result<Option<Mismatch>, String>;

    /// Compares what there is after the last step with what the case expects in the end.
    fn final_state(
        &mut self,
        case: &Case,
        known: Known<'_>,
        place: &Place,
    ) -> Result<Vec<Mismatch>, String>;

    /// What happened, line by line, for whoever wants to know why a case failed.
    fn trace(&self) -> Vec<String>;
}

//! What webhooks are told of.

use keepgate_sdk::Failure;
use keepgate_sdk::records::Commit;

use crate::instance::Instance;
use crate::run::Run;

/// Adds to the commit with which a run ends for the first time what follows from that.
pub(crate) fn run_ended(commit: Commit, instance: &Instance, run: &Run) -> Result<Commit, Failure> {
    // Nothing yet.
    let _ = (instance, run);
    Ok(commit)
}

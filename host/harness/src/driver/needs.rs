//! Which cases a driver cannot run, and why. A case that needs something that the driver does not have is
//! skipped, and the report says so.

use crate::case::{Case, Expect, ServerNeeds, Step, World};

/// What can be done with a server besides sending requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Abilities {
    /// Whether it is started for the case.
    pub(crate) starts: bool,
    /// Whether its data folder is accessible.
    pub(crate) has_folder: bool,
    /// The name of the user whose password is known.
    pub(crate) user: Option<String>,
}

/// The text of the first entry that is true.
fn first(needs: &[(bool, &str)]) -> Option<String> {
    needs.iter().find(|(needed, _)| *needed).map(|(_, what)| (*what).to_owned())
}

/// Why a case cannot run with the plugin in this process.
pub(crate) fn in_process_lacks(case: &Case, world: &World) -> Option<String> {
    let ServerNeeds { flags, users, fresh, files, says } = &case.server;
    let server = [
        (!flags.is_empty(), "needs a server with flags"),
        (users.is_some() || world.login.is_some(), "needs a server with logins"),
        (*fresh || !files.is_empty() || !says.is_empty(), "needs a server of its own"),
        (case.after.disk.is_some(), "looks at a server's disk"),
    ];
    first(&server).or_else(|| case.steps.iter().find_map(step_needs_socket))
}

fn step_needs_socket(step: &Step) -> Option<String> {
    let expect = step.expect.clone().unwrap_or_default();
    let Expect { closed, or_closed, metrics, disk, .. } = &expect;
    first(&[
        (step.raw.is_some(), "sends raw bytes"),
        (step.login.is_some(), "needs a server with logins"),
        (step.length.is_some(), "announces another length"),
        (step.interim.is_some(), "asks for `100 Continue`"),
        (step.on.is_some() || step.resume || step.close, "uses connections"),
        (step.signal.is_some() || !step.write.is_empty(), "needs a server's process"),
        (step.eventually, "waits for a server"),
        (*closed || *or_closed, "looks at connections"),
        (!metrics.is_empty(), "looks at a server's metrics"),
        (disk.is_some(), "looks at a server's disk"),
    ])
}

/// Why a case cannot run against a server over a socket.
pub(crate) fn socket_lacks(case: &Case, world: &World, abilities: &Abilities) -> Option<String> {
    let ServerNeeds { flags, users, fresh, files, says } = &case.server;
    let own = *fresh || !files.is_empty();
    let started = !flags.is_empty() || users.is_some() || !says.is_empty();
    let World { settings, clock, seed, policy, store, fault, limits, warm, spool, jobs, .. } =
        world;
    let told = settings.as_ref().is_some_and(|settings| !settings.is_empty());
    let touches_files = !(world.blobs.is_empty() && world.folders.is_empty())
        || case.steps.iter().any(|step| !step.place.is_empty());
    if let Some(double) = world.doubles.used() {
        return Some(format!("needs the test double `{double}`"));
    }
    let server = [
        (case.refuses.is_some() && !abilities.starts, "is about how a server starts"),
        ((own || started) && !abilities.starts, "needs a server of its own"),
        (touches_files && !abilities.has_folder, "needs the server's data folder"),
        (told, "needs settings"),
        (clock.is_some() || seed.is_some(), "needs its own clock or randomness"),
        (policy.is_some() || !store.is_empty(), "needs stores of its own"),
        (!fault.is_empty(), "needs faults"),
        (limits.is_some() || warm.is_some() || spool.is_some(), "needs its own limits"),
        (jobs.is_some(), "needs a mount with or without jobs"),
    ];
    let user = world.user.as_ref().map(|user| &user.0);
    first(&server)
        .or_else(|| user.and_then(|user| user_needs(&user.name, abilities)))
        .or_else(|| case.steps.iter().find_map(|step| step_needs_inside(step, abilities)))
}

fn user_needs(name: &str, abilities: &Abilities) -> Option<String> {
    let known = name.is_empty() || abilities.user.as_deref() == Some(name);
    (!known).then(|| format!("needs the login of {name}"))
}

fn step_needs_inside(step: &Step, abilities: &Abilities) -> Option<String> {
    let expect = step.expect.clone().unwrap_or_default();
    let Expect { reason, calls, no_calls, job, broken, .. } = &expect;
    let leaves = step.leaves.clone().unwrap_or_default();
    let by_itself = leaves.received.is_some() || leaves.after.is_some();
    let user = step.user.as_ref().map(|user| &user.0);
    first(&[
        (step.advance.is_some(), "moves the clock"),
        (step.run.is_some() || step.settle || job.is_some(), "runs jobs"),
        (step.base.is_some() || step.address.is_some(), "chooses the client's address"),
        (step.stall.is_some(), "falls silent for a minute"),
        (by_itself, "leaves in the middle of a reply"),
        (calls.is_some() || !no_calls.is_empty(), "looks at the plugin's calls"),
        (reason.is_some() || broken.is_some(), "looks at why the plugin failed"),
        (
            (step.signal.is_some() || !step.write.is_empty()) && !abilities.starts,
            "needs the server's process",
        ),
    ])
    .or_else(|| user.and_then(|user| user_needs(&user.name, abilities)))
}

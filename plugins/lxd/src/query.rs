//! Parameters of requests that several handlers share.

use keepgate_sdk::{Call, Failure};

use crate::names::{self, DEFAULT_PROJECT, Instance};
use crate::settings::Settings;

/// Requests need no body. One of up to this many bytes is ignored.
pub(crate) const LARGEST_BODY: u64 = 64 * 1024;

/// The project of a request.
pub(crate) fn project(call: &Call<Settings>) -> Result<&str, Failure> {
    let project = call.request.query("project").filter(|name| !name.is_empty());
    let project = project.unwrap_or(DEFAULT_PROJECT);
    names::check_project(project)?;
    Ok(project)
}

/// The instance in the path, if this user may have to do with it.
pub(crate) fn instance(call: &Call<Settings>) -> Result<Instance, Failure> {
    let name = call.segment("instance").unwrap_or_default();
    let instance = Instance::new(project(call)?, name)?;
    call.settings.check_user(call.request.user(), &instance.name)?;
    Ok(instance)
}

/// The backup in the path, without its suffix.
pub(crate) fn base(call: &Call<Settings>) -> Result<String, Failure> {
    names::base(call.segment("backup").unwrap_or_default()).map(str::to_owned)
}

/// A parameter that is on or off. Without a value it is off, as lxmin has it.
pub(crate) fn flag(call: &Call<Settings>, name: &str, default: bool) -> Result<bool, Failure> {
    match call.request.query(name) {
        None => Ok(default),
        Some("true" | "1") => Ok(true),
        Some("false" | "0" | "") => Ok(false),
        Some(other) => {
            Err(Failure::Invalid(format!("{name}: {other:?} is neither true nor false")))
        }
    }
}

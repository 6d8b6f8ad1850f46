//! `keepgate plugin build`: builds the component of a folder of sources with the tools of its language,
//! and checks at once whether a gateway could load it.

use anyhow::{Result, bail};
use keepgate_runtime::Inspection;

use crate::arguments::Build;
use crate::files::size;
use keepgate::output::say;

/// Builds a plugin and prints where the component is.
pub(crate) fn run(arguments: &Build) -> Result<()> {
    let component = keepgate_builder::plugin::build(&arguments.folder, arguments.install)?;
    let (component, bytes) = crate::files::read(&component)?;
    let seen = Inspection::of(&bytes);
    say!("{}: {}", component.display(), size(seen.size))?;
    if let Some(why) = seen.refusal {
        bail!("{}: {why}", component.display());
    }
    match seen.differences.first() {
        Some(difference) => bail!("{}: {difference}", component.display()),
        None => Ok(()),
    }
}

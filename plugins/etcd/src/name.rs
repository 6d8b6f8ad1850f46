//! Names of backups: `snapshot-YYYYMMDD_HHMMSS.tar.gz`, in UTC. They distinguish backups from other files and
//! say how old they are. A file whose name has another form does not belong to this plugin.

use keepgate_sdk::{Call, Failure, TimeName, TimeNames};

use crate::settings::{Format, Settings};

/// A second backup within a second is `…_02`, up to `…_99`; both formats share these numbers.
pub(crate) const FORM: TimeNames = TimeNames::new("snapshot-%Y%m%d_%H%M%S")
    .numbered("_", 2, 99)
    .suffixes(&[Format::TarGz.extension(), Format::DbGz.extension()]);

/// The name in a path.
pub(crate) fn of(call: &Call<Settings>) -> Result<TimeName, Failure> {
    call.segment("name").and_then(|name| FORM.parse(name)).ok_or(Failure::NotFound)
}

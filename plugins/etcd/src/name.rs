//! Names of backups: `snapshot-YYYYMMDD_HHMMSS.tar.gz`, in UTC. They tell a backup from other files and say how
//! old it is; a file whose name has another form belongs to somebody else.

use keepgate_sdk::TimeNames;

use crate::settings::Format;

/// A second backup within a second is `…_02`, up to `…_99`; both formats share these numbers.
pub(crate) const FORM: TimeNames = TimeNames::new("snapshot-%Y%m%d_%H%M%S")
    .numbered("_", 2, 99)
    .suffixes(&[Format::TarGz.extension(), Format::DbGz.extension()]);

//! Removes what the policy keeps no more. It runs after a success only, when the new backup is
//! durable; what goes wrong here leaves backups, and never takes one too many.

use keepgate_sdk::{Failure, Level, Store, environment};

use crate::metrics;
use crate::name::{Name, moment};
use crate::place::{Contents, Place};
use crate::retain::{Backup, Policy, superfluous};

/// How far a backup's time may be ahead of the clock before somebody should hear of it, in seconds.
const AHEAD: i64 = 60;

/// Removes superfluous backups and orphaned sidecars; `made` stays, and the newest good one. The
/// texts are warnings for whoever asked for the backup.
pub(crate) fn rotate(store: &Store, place: &Place, policy: &Policy, made: &Name) -> Vec<String> {
    let contents = match place.contents(store) {
        Ok(contents) => contents,
        Err(failure) => return vec![format!("old backups stay: {}", failure.message())],
    };
    let mut warnings = Vec::new();
    if let Err(failure) = remove_superfluous(store, place, policy, made, &contents) {
        warnings.push(failure);
    }
    if let Err(failure) = sweep(store, place, &contents) {
        warnings.push(format!("index of removed backups: {}", failure.message()));
    }
    let now = moment(environment::now());
    let newest = contents.files.last().map(|file| &file.name);
    if let Some(name) = newest.filter(|name| (name.at() - now).whole_seconds() > AHEAD) {
        warnings.push(format!("the clock says that {name} is from the future"));
    }
    warnings
}

fn remove_superfluous(
    store: &Store,
    place: &Place,
    policy: &Policy,
    made: &Name,
    contents: &Contents,
) -> Result<(), String> {
    let good = place.newest_good(store, contents);
    let good = good.map_err(|failure| format!("old backups stay: {}", failure.message()))?;
    let backup =
        |name: &Name| Backup { spared: name == made || good == Some(name), name: name.clone() };
    let backups: Vec<_> = contents.files.iter().map(|file| backup(&file.name)).collect();
    let gone = superfluous(&backups, policy, moment(environment::now()));
    for (done, name) in gone.iter().enumerate() {
        // The file first: a sidecar without its file is swept, the other way round the backup
        // would be there with less known of it.
        let removed = store.delete(&place.file(name)).and_then(|removed| {
            store.delete(&place.sidecar(name))?;
            Ok(removed)
        });
        match removed {
            Ok(None) => {}
            Ok(Some(_)) => {
                metrics::removed(place.cluster(), "rotation");
                let message = format!("{} removed by rotation", place.file(name));
                environment::log(Level::Info, &message);
            }
            // Others would fail likewise: the mount is append-only, or the store is down.
            Err(failure) => {
                let left = gone.len() - done;
                return Err(format!(
                    "{left} old backups stay: {name} cannot be removed: {}",
                    failure.message()
                ));
            }
        }
    }
    Ok(())
}

/// Removes sidecars whose backup has gone.
fn sweep(store: &Store, place: &Place, contents: &Contents) -> Result<(), Failure> {
    for name in &contents.index {
        // Looked at one by one, since another gateway may have made the backup meanwhile.
        let listed = contents.files.binary_search_by(|file| file.name.cmp(name)).is_ok();
        if !listed && matches!(store.head(&place.file(name)), Err(Failure::NotFound)) {
            store.delete(&place.sidecar(name))?;
        }
    }
    Ok(())
}

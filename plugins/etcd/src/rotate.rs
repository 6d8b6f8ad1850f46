//! Removes what the policy keeps no more. It runs after a success only, when the new backup is
//! durable; what goes wrong here leaves backups, and never takes one too many.

use keepgate_sdk::{Failure, Level, Store, environment};

use crate::metrics;
use crate::name::{Name, moment};
use crate::place::{Contents, File, Place};
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
    let names = superfluous(&backups, policy, moment(environment::now()));
    let is_gone = |file: &&File| names.binary_search(&&file.name).is_ok();
    let gone: Vec<_> = contents.files.iter().filter(is_gone).collect();
    for (done, file) in gone.iter().enumerate() {
        let name = &file.name;
        match remove(store, place, file) {
            // Another gateway was faster, or put another file there: that one was not judged.
            Err(Failure::PreconditionFailed) => {}
            Ok(()) => {
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

/// Removes the very file that was judged, and what is known of it.
fn remove(store: &Store, place: &Place, file: &File) -> Result<(), Failure> {
    // The file first: a sidecar without its file is swept, the other way round the backup would be
    // there with less known of it.
    store.delete_matching(&place.file(&file.name), &file.etag)?;
    store.delete(&place.sidecar(&file.name))?;
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

#[cfg(test)]
mod tests {
    use keepgate_sdk::testing::Host;

    use super::*;

    #[test]
    fn what_took_the_name_of_a_judged_file_stays() {
        let host = Host::new();
        let names = ["20260101_000000", "20260102_000000", "20260103_000000", "20260104_000000"]
            .map(|stamp| format!("snapshot-{stamp}.tar.gz"));
        for name in &names {
            host.put(name, b"old");
        }
        let (store, place) = (Store::open("main").unwrap(), Place::main());
        let contents = place.contents(&store).unwrap();
        // Meanwhile another program puts the first one there anew, and another gateway is faster.
        host.put(&names[0], b"new");
        store.delete(&names[1]).unwrap();
        let policy = Policy { last: 1, ..Policy::default() };
        let made = Name::parse(&names[3]).unwrap();
        remove_superfluous(&store, &place, &policy, &made, &contents).unwrap();
        assert_eq!(host.keys(), [&*names[0], &*names[3]]);
        assert_eq!(host.blob(&names[0]).unwrap(), b"new");
        assert_eq!(host.count("etcd_backups_removed_total main rotation"), 1);
    }
}

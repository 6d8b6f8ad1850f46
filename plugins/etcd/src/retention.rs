//! Removes what the policy no longer keeps. It runs only after a success, when the new backup is durable. If
//! it fails, it leaves too many backups, never too few.

use keepgate_sdk::retention::{Policy, remove_each};
use keepgate_sdk::{Failure, Store, TimeName, Timestamp, environment};

use crate::layout::{Cluster, Contents, File};
use crate::metrics;

/// A backup whose name is further ahead of the clock than this, in seconds, is worth a warning.
const AHEAD: u64 = 60;

/// Removes expired backups and orphaned sidecars, but neither `made` nor the newest good backup. Returns
/// warnings for the response.
pub(crate) fn apply(
    store: &Store,
    cluster: &Cluster,
    policy: &Policy,
    made: &TimeName,
) -> Vec<String> {
    let contents = match cluster.contents(store) {
        Ok(contents) => contents,
        Err(failure) => return vec![format!("old backups stay: {}", failure.message())],
    };
    let mut warnings = Vec::new();
    warnings.extend(remove_expired(store, cluster, policy, made, &contents).err());
    if let Err(failure) = remove_orphans(store, cluster, &contents) {
        warnings.push(format!("index of removed backups: {}", failure.message()));
    }
    let newest = contents.files.last().map(|file| &file.name);
    if let Some(name) = newest.filter(|n| n.time().since(Timestamp::now()).as_secs() > AHEAD) {
        warnings.push(format!("the clock says that {name} is from the future"));
    }
    warnings
}

fn remove_expired(
    store: &Store,
    cluster: &Cluster,
    policy: &Policy,
    made: &TimeName,
    contents: &Contents,
) -> Result<(), String> {
    let good = cluster.newest_good(store, contents);
    let good = good.map_err(|failure| format!("old backups stay: {}", failure.message()))?;
    let is_spared = |file: &File| file.name == *made || good == Some(&file.name);
    let expired = policy.expired(&contents.files, Timestamp::now(), is_spared);
    remove_each(&expired, |file| remove(store, cluster, file)).map_err(|unfinished| {
        let (left, name) = (unfinished.left, &unfinished.item.name);
        let why = unfinished.failure.message();
        format!("{left} old backups stay: {name} cannot be removed: {why}")
    })
}

/// Removes exactly the file that was judged, and its sidecar.
fn remove(store: &Store, cluster: &Cluster, file: &File) -> Result<(), Failure> {
    let key = cluster.file(&file.name);
    // The file first: a sidecar without its file is removed by the next rotation, but a backup without its
    // sidecar would have lost what is known of it.
    store.delete_matching(&key, &file.etag)?;
    environment::count(metrics::REMOVED, &[cluster.name(), "rotation"], 1);
    environment::info("backup removed by rotation", &[("file", &key)]);
    store.delete(&cluster.sidecar(&file.name))?;
    Ok(())
}

/// Removes sidecars whose backup is gone.
fn remove_orphans(store: &Store, cluster: &Cluster, contents: &Contents) -> Result<(), Failure> {
    for name in &contents.index {
        // Each is checked again, because another gateway may have made the backup after the listing.
        let listed = contents.files.binary_search_by(|file| file.name.cmp(name)).is_ok();
        if !listed && matches!(store.head(&cluster.file(name)), Err(Failure::NotFound)) {
            store.delete(&cluster.sidecar(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keepgate_sdk::testing::Host;

    use super::*;
    use crate::name;

    #[test]
    fn a_file_that_took_the_name_of_an_expired_one_stays() {
        let host = Host::new();
        let names = ["20260101_000000", "20260102_000000", "20260103_000000", "20260104_000000"]
            .map(|stamp| format!("snapshot-{stamp}.tar.gz"));
        for name in &names {
            host.put(name, b"old");
        }
        let (store, cluster) = (Store::open("main").unwrap(), Cluster::default());
        let contents = cluster.contents(&store).unwrap();
        // Meanwhile another program puts the first one there anew, and another gateway is faster.
        host.put(&names[0], b"new");
        store.delete(&names[1]).unwrap();
        let made = name::FORM.parse(&names[3]).unwrap();
        remove_expired(&store, &cluster, &Policy::last(1), &made, &contents).unwrap();
        assert_eq!(host.keys(), [&*names[0], &*names[3]]);
        assert_eq!(host.blob(&names[0]).unwrap(), b"new");
        assert_eq!(host.count("etcd_backups_removed_total main rotation"), 1);
    }
}

//! Lists of stored backups, of one instance or of all.

use keepgate_sdk::{Call, Failure, Reply, Store};

use crate::info::{self, Info};
use crate::layout::Folder;
use crate::names::Instance;
use crate::settings::Settings;
use crate::{query, reply};

/// The name that stands for all instances.
const ALL: &str = "*";
/// Backups that the store is asked for in one call.
const AT_ONCE: usize = 1000;

/// The stored backups. An instance that does not exist may have some, so it is no error if there are none.
pub(crate) fn get(call: Call<Settings>) -> Result<Reply, Failure> {
    let store = Store::open("main")?;
    let mut infos = Vec::new();
    if call.segment("instance") == Some(ALL) {
        let project = query::project(&call)?;
        for entry in store.entries("", false)? {
            let entry = entry?;
            let instance = entry.folder.then(|| Folder::instance(entry.name())).flatten();
            let user = call.request.user();
            let is_shown = |instance: &Instance| {
                instance.project == project && call.settings.allows(user, &instance.name)
            };
            if let Some(instance) = instance.filter(is_shown) {
                of_instance(&store, &instance, &mut infos)?;
            }
        }
    } else {
        of_instance(&store, &query::instance(&call)?, &mut infos)?;
    }
    reply::sync(Some(infos))
}

fn of_instance(store: &Store, instance: &Instance, infos: &mut Vec<Info>) -> Result<(), Failure> {
    let folder = Folder::of(instance);
    for bases in folder.backups(store)?.chunks(AT_ONCE) {
        let keys: Vec<_> = bases.iter().map(|base| folder.object(base)).collect();
        for (base, blob) in bases.iter().zip(store.heads(&keys)?) {
            // None if it was removed since it was listed.
            if let Some(blob) = blob {
                // As lxmin, which has tags for single backups only.
                infos.push(Info { tags: None, ..info::of_blob(instance, base, blob) });
            }
        }
    }
    Ok(())
}

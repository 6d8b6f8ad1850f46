//! Lists of stored backups, of one instance or of all.

use keepgate_sdk::{Call, Failure, Reply, Store};

use crate::info::{self, Info};
use crate::layout::Folder;
use crate::names::Instance;
use crate::settings::Settings;
use crate::{query, reply};

/// The name that stands for all instances.
const ALL: &str = "*";

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
    for base in Folder::of(instance).backups(store)? {
        match info::stored(store, instance, &base) {
            // As lxmin, which has them for single backups only.
            Ok(info) => infos.push(Info { tags: None, ..info }),
            // Removed since it was listed.
            Err(Failure::NotFound) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

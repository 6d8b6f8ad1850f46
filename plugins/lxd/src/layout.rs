//! Where objects are in the store. This is lxmin's layout, which others read and write in the same bucket:
//!
//! - `INSTANCE/BASE_instance.tar.gz`: the instance as LXD exports it. It is stored last; with it, a backup exists.
//! - `INSTANCE/BASE_profile_NNN_PROFILE.yaml`: its profiles, in the order in which the instance has them.
//! - `PROJECT_INSTANCE/…` for instances of other projects than `default`. No instance has an underscore in its name.
//!
//! Beside them, only while a job works: `BASE_claim.json`, by which a name is claimed, and `BASE_restore_ID.json`, which
//! says what a restore has made in LXD. lxmin does not see them.

use std::collections::BTreeSet;

use keepgate_sdk::{Body, Failure, PutOptions, Store, TimeName, Timestamp, join_key, json};
use serde::Serialize;

use crate::names::{self, DEFAULT_PROJECT, FORM, Instance, SUFFIX};

/// What the key of a backup's instance ends with.
const INSTANCE: &str = "_instance.tar.gz";
const PROFILE: &str = "_profile_";
const CLAIM: &str = "_claim.json";
/// The number of names that are tried before the client is asked to come back later.
const TRIES: usize = 10;

/// The objects of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Folder(String);

/// A profile's object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProfileObject {
    pub(crate) key: String,
    pub(crate) name: String,
}

impl Folder {
    pub(crate) fn of(instance: &Instance) -> Self {
        Self(match instance.project.as_str() {
            DEFAULT_PROJECT => instance.name.clone(),
            project => format!("{project}_{}", instance.name),
        })
    }

    /// The instance whose folder has this name; `None` for other folders.
    pub(crate) fn instance(name: &str) -> Option<Instance> {
        let (project, name) = name.rsplit_once('_').unwrap_or((DEFAULT_PROJECT, name));
        Instance::new(project, name).ok()
    }

    /// The key of a backup's instance.
    pub(crate) fn object(&self, base: &str) -> String {
        join_key(&self.0, &format!("{base}{INSTANCE}"))
    }

    /// The key of a backup's profile.
    pub(crate) fn profile(&self, base: &str, number: usize, name: &str) -> String {
        join_key(&self.0, &format!("{base}{PROFILE}{number:03}_{name}.yaml"))
    }

    fn claim(&self, base: &str) -> String {
        join_key(&self.0, &format!("{base}{CLAIM}"))
    }

    /// The key of what a restore has made.
    pub(crate) fn record(&self, base: &str, job: &str) -> String {
        join_key(&self.0, &format!("{base}_restore_{job}.json"))
    }

    /// The names of all objects.
    fn names(&self, store: &Store) -> Result<Vec<String>, Failure> {
        let entries = store.entries(&self.0, false)?;
        let files = entries.filter(|entry| entry.as_ref().map_or(true, |entry| !entry.folder));
        files.map(|entry| entry.map(|entry| entry.name().to_owned())).collect()
    }

    /// The stored backups, oldest first as far as names tell.
    pub(crate) fn backups(&self, store: &Store) -> Result<Vec<String>, Failure> {
        let names = self.names(store)?;
        let bases = names.iter().filter_map(|name| name.strip_suffix(INSTANCE));
        Ok(bases.filter(|base| names::base(base).is_ok()).map(str::to_owned).collect())
    }

    /// The profiles of a backup, in their order.
    pub(crate) fn profiles(
        &self,
        store: &Store,
        base: &str,
    ) -> Result<Vec<ProfileObject>, Failure> {
        let names = self.names(store)?;
        Ok(names.iter().filter_map(|name| self.profile_of(base, name)).collect())
    }

    /// Exactly `BASE_profile_NNN_NAME.yaml`.
    fn profile_of(&self, base: &str, name: &str) -> Option<ProfileObject> {
        let rest = name.strip_prefix(base)?.strip_prefix(PROFILE)?;
        let (number, profile) = rest.strip_suffix(".yaml")?.split_once('_')?;
        let is_number = number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit());
        (is_number && !profile.is_empty())
            .then(|| ProfileObject { key: join_key(&self.0, name), name: profile.to_owned() })
    }

    /// Claims a name that no backup of this instance has, also if another gateway does the same.
    pub(crate) fn claim_name(&self, store: &Store, by: &impl Serialize) -> Result<String, Failure> {
        let claim = json::to_vec(by)?;
        let mut taken: BTreeSet<TimeName> = BTreeSet::new();
        for _ in 0..TRIES {
            let names = self.names(store)?;
            let bases = names.iter().filter_map(|name| {
                let base = name.strip_suffix(INSTANCE).or_else(|| name.strip_suffix(CLAIM));
                FORM.parse(base?)
            });
            taken.extend(bases);
            let Some(name) = FORM.next(Timestamp::now(), "", &taken) else { break };
            let options = PutOptions::absent().content_type("application/json");
            match store.put(&self.claim(name.as_str()), Body::from_bytes(&claim), &options) {
                Ok(_) => return Ok(name.to_string()),
                Err(Failure::AlreadyExists) => {
                    taken.insert(name);
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Busy("all names of this second are taken; try again later".to_owned()))
    }

    /// Gives up the claim of a name: it has a backup now, or nobody wants it any more.
    pub(crate) fn release_name(&self, store: &Store, base: &str) -> Result<(), Failure> {
        store.delete(&self.claim(base)).map(|_| ())
    }
}

/// A backup's name in answers.
pub(crate) fn shown(base: &str) -> String {
    format!("{base}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_those_of_lxmin_and_of_lxds_own_storage() {
        for (project, name, folder) in
            [("default", "u2", "u2"), ("web", "u2", "web_u2"), ("a-b", "c-d", "a-b_c-d")]
        {
            let instance = Instance::new(project, name).unwrap();
            assert_eq!(Folder::of(&instance).0, folder);
            assert_eq!(Folder::instance(folder), Some(instance));
        }
        for other in ["", "2x", "a_", "_a", ".hidden"] {
            assert_eq!(Folder::instance(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_profile_belongs_to_one_backup_only() {
        let folder = Folder("u2".to_owned());
        let name = |object: &str| folder.profile_of("b", object).map(|profile| profile.name);
        assert_eq!(name("b_profile_000_default.yaml"), Some("default".to_owned()));
        assert_eq!(name("b_profile_012_a_b.yaml"), Some("a_b".to_owned()));
        for other in [
            "b2_profile_000_default.yaml",
            "b_profile_00_x.yaml",
            "b_profile_0000_x.yaml",
            "b_profile_000_.yaml",
            "b_profile_000_x.yml",
            "b_instance.tar.gz",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}

//! `[auto_mount]`: mounts for plugins that no `[[mount]]` names, at the paths that they propose.
//!
//! Whoever writes a plugin chooses the path that it proposes, so a proposal never takes anything from somebody else: paths
//! are given to those that have them first, then to plugins whose file has the path's name, then in the order of files.
//! What cannot be mounted is reported and harms nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepgate_auth::Access;
use keepgate_http::is_mount_path;
use keepgate_runtime::capability;
use keepgate_runtime::capability::blobs::{self, StoreGrant, Stores};
use keepgate_runtime::generation::Refused;
use keepgate_runtime::{Grants, Limits, MountSpec, Plugin};
use keepgate_store::Folder;

use crate::assemble::MountPlan;
use crate::guarded_store::GuardedStore;
use crate::stores::OpenStore;

/// How plugins without a `[[mount]]` are mounted.
#[derive(Debug)]
pub(crate) struct AutoMount {
    access: Arc<Access>,
    store: (OpenStore, Folder),
    grants: Grants,
    /// By plugin. Reused while the plugin asks for the same, so that the mount stays the same.
    mounts: BTreeMap<String, MountPlan>,
    /// The paths that plugins have, by plugin.
    held: BTreeMap<String, String>,
}

impl AutoMount {
    /// Mounts plugins with folders in this store. They keep the paths that they had `before`.
    pub(crate) fn new(
        access: Arc<Access>,
        store: (OpenStore, Folder),
        grants: Grants,
        before: Option<&Self>,
    ) -> Self {
        let held = before.map(|before| before.held.clone()).unwrap_or_default();
        Self { access, store, grants, mounts: BTreeMap::new(), held }
    }

    /// Mounts these plugins, and says why some have no mount. `others` are paths that the configuration uses.
    pub(crate) fn mount(
        &mut self,
        plugins: &[&Arc<Plugin>],
        others: &[&str],
    ) -> (Vec<MountPlan>, Vec<Refused>) {
        let proposals: Vec<_> = plugins.iter().map(|plugin| proposal(plugin)).collect();
        let mut refused = Vec::new();
        let mut taken: Vec<&str> = others.to_vec();
        let mut mounts = BTreeMap::new();
        for proposal in in_turn(&proposals, &self.held) {
            let Some(plugin) = plugins.iter().find(|plugin| plugin.name == proposal.name) else {
                continue;
            };
            if let Err(why) = available(proposal, &taken) {
                tracing::warn!(plugin = proposal.name, why, "plugin not mounted");
                let (what, place) = (format!("plugin {}", proposal.name), None);
                refused.push(Refused { what, place, why, older_serves: false });
                continue;
            }
            let known = self.mounts.remove(&plugin.name).filter(|plan| fits(&plan.spec, plugin));
            if let Some(plan) = known.or_else(|| self.plan(plugin)) {
                taken.push(proposal.path);
                mounts.insert(plugin.name.clone(), plan);
            }
        }
        self.held =
            mounts.iter().map(|(name, plan)| (name.clone(), plan.spec.path.clone())).collect();
        self.mounts = mounts;
        (self.mounts.values().cloned().collect(), refused)
    }

    /// The mount of a plugin, if this table can grant what it needs.
    fn plan(&self, plugin: &Plugin) -> Option<MountPlan> {
        let folder = match Folder::new(self.store.1.join(&plugin.name)) {
            Ok(folder) => folder,
            Err(error) => {
                tracing::warn!(plugin = plugin.name, %error, "plugin not mounted; its name cannot be that of a folder");
                return None;
            }
        };
        let store: Arc<dyn StoreGrant> =
            Arc::new(GuardedStore::plain(self.store.0.clone(), folder));
        let requested = plugin.description.requests.names(blobs::REQUESTS);
        let stores = requested.iter().map(|name| (name.clone(), store.clone()));
        let grants = self.grants.clone().with(Stores(stores.collect()));
        if let Err(reason) = capability::check(plugin, &grants) {
            let plugin = &plugin.name;
            tracing::info!(
                plugin,
                reason,
                "plugin not mounted by [auto_mount], which cannot grant this"
            );
            return None;
        }
        let spec = MountSpec {
            place: None,
            path: plugin.description.default_mount.clone(),
            plugin: plugin.name.clone(),
            settings: serde_json::Map::new(),
            grants,
            limits: Limits::default(),
            warm: false,
        };
        let (spec, access) = (Arc::new(spec), self.access.clone());
        Some(MountPlan { spec, access, cors: None, rate_limits: None })
    }
}

/// Whether a mount that was made for a previous version of a plugin suits this one.
fn fits(spec: &MountSpec, plugin: &Plugin) -> bool {
    let granted = spec.grants.get::<Stores>();
    let stores = granted.iter().flat_map(|stores| stores.0.keys());
    spec.path == plugin.description.default_mount
        && stores.eq(plugin.description.requests.names(blobs::REQUESTS).iter())
}

/// What a plugin proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Proposal<'a> {
    /// The name of its file.
    name: &'a str,
    path: &'a str,
}

fn proposal(plugin: &Plugin) -> Proposal<'_> {
    Proposal { name: &plugin.name, path: &plugin.description.default_mount }
}

impl Proposal<'_> {
    /// Whether the path is `/` and the name of the file, which whoever put the file there has seen.
    fn is_of_its_name(self) -> bool {
        self.path.strip_prefix('/') == Some(self.name)
    }
}

/// Proposals in the order in which they are considered.
fn in_turn<'a>(proposals: &[Proposal<'a>], held: &BTreeMap<String, String>) -> Vec<Proposal<'a>> {
    let mut proposals = proposals.to_vec();
    proposals.sort_by_key(|proposal| {
        let holds = held.get(proposal.name).is_some_and(|path| path == proposal.path);
        (!holds, !proposal.is_of_its_name(), proposal.name)
    });
    proposals
}

/// Checks whether a path may be given to a plugin; the error says why not. A path below that of another mount would take a
/// part of it, with the passwords of its clients.
fn available(Proposal { name, path }: Proposal<'_>, taken: &[&str]) -> Result<(), String> {
    let advice = format!("add a [[mount]] with `plugin = {name:?}` to mount it elsewhere");
    if !is_mount_path(path) {
        return Err(format!("it proposes the path {path:?}, which no mount can have; {advice}"));
    }
    if taken.contains(&path) {
        return Err(format!("it proposes the path {path:?}, which is taken; {advice}"));
    }
    let above = |other: &&str| {
        let below = path.strip_prefix(other.trim_end_matches('/'));
        below.is_some_and(|below| below.starts_with('/'))
    };
    match taken.iter().copied().find(above) {
        Some("/") if (Proposal { name, path }).is_of_its_name() => Ok(()),
        Some(other) => Err(format!(
            "it proposes the path {path:?}, which is a part of the mount {other:?}; {advice}"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposals<'a>(all: &[(&'a str, &'a str)]) -> Vec<Proposal<'a>> {
        all.iter().map(|&(name, path)| Proposal { name, path }).collect()
    }

    /// The plugins that get the path that they propose.
    fn mounted<'a>(
        all: &[(&'a str, &'a str)],
        held: &[(&str, &str)],
        others: &[&'a str],
    ) -> Vec<&'a str> {
        let held = held.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned()));
        let mut taken = others.to_vec();
        let mut names = Vec::new();
        for proposal in in_turn(&proposals(all), &held.collect()) {
            if available(proposal, &taken).is_ok() {
                taken.push(proposal.path);
                names.push(proposal.name);
            }
        }
        names
    }

    #[test]
    fn a_file_of_the_paths_name_gets_it_wherever_others_are_sorted() {
        let all = [("aaa", "/restic"), ("restic", "/restic")];
        assert_eq!(mounted(&all, &[], &[]), ["restic"]);
        assert_eq!(mounted(&all[..1], &[], &[]), ["aaa"]);
    }

    #[test]
    fn who_has_a_path_keeps_it() {
        let all = [("aaa", "/x"), ("b", "/x"), ("x", "/x")];
        assert_eq!(mounted(&all, &[("b", "/x")], &[]), ["b"]);
        // A new version that proposes another path has no claim to that.
        assert_eq!(mounted(&all, &[("b", "/y")], &[]), ["x"]);
        assert_eq!(mounted(&all[..2], &[], &[]), ["aaa"]);
    }

    #[test]
    fn nothing_is_taken_out_of_another_mount() {
        let others = ["/restic", "/metrics"];
        assert!(mounted(&[("a", "/restic/alice"), ("b", "/metrics")], &[], &others).is_empty());
        assert_eq!(mounted(&[("a", "/restic2"), ("b", "/")], &[], &others), ["a", "b"]);
        // Below a mount of everything only under the name of the file.
        assert_eq!(mounted(&[("etcd", "/etcd"), ("x", "/alice")], &[], &["/"]), ["etcd"]);
        assert!(mounted(&[("x", "/a/x")], &[], &["/"]).is_empty());
    }

    #[test]
    fn a_path_that_no_mount_can_have_is_refused() {
        for path in ["/a/", "//", "/a//b", "/../x", "/.", "x"] {
            let why = available(Proposal { name: "p", path }, &[]).unwrap_err();
            assert!(why.contains("no mount can have") && why.contains("plugin = \"p\""), "{why}");
        }
    }
}

//! `etcd`: snapshots of the clusters that a mount grants. The client is in `keepgate_connect`.

mod stand_in;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use keepgate_connect::{Checked, ConnectError, Facts, Snapshots};
use keepgate_store::Body;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::definition::{Capability, Granted, Request, list, missing};
use super::grants::{Grant, Grants};
use super::jobs::RunningJob;
use super::requests::Requests;
use super::types::BodyHandle;
use crate::contract::ImportError;
use crate::guest_state::GuestState;
use crate::host_allocation::body_with;
use keepgate_core::Failure;

use bindings::keepgate::plugin::etcd;
use stand_in::NoMembers;

crate::contract::bindings! {
    interface: "etcd",
    imports: {
        "keepgate:plugin/etcd.clusters": trappable,
        "keepgate:plugin/etcd.[method]snapshot.facts": trappable,
        "keepgate:plugin/etcd.[method]snapshot.data": trappable,
        "keepgate:plugin/etcd.[method]snapshot.sha256": trappable,
        default: async | trappable,
    },
    with: {
        "keepgate:plugin/types": crate::guest::bindings::keepgate::plugin::types,
        "keepgate:plugin/etcd.snapshot": crate::capability::etcd::SnapshotHandle,
    },
}

/// The clusters that a mount grants, by the names under which the plugin asks for them.
#[derive(Clone, Debug, Default)]
pub struct Clusters(pub BTreeMap<String, Arc<dyn Snapshots>>);

impl Grant for Clusters {}

/// What the version of a member ends with whose data may be old: build metadata, as semantic versions have it. The
/// contract's record has no field for it, and so a plugin that knows nothing of it shows it too.
const STALE: &str = "+stale";

/// The field of a plugin's description, with the names of clusters that a mount has to grant. Empty for
/// a plugin that uses whatever it is granted.
pub const REQUESTS: &str = "clusters";
/// Requested by a plugin that uses whatever it is granted and is of no use without: at least one, of any name.
const ANY: &str = "*";
/// The key of a mount.
const KEY: &str = "etcd";

/// See the module.
pub(crate) struct Etcd;

impl Capability for Etcd {
    fn interface(&self) -> &'static str {
        "etcd"
    }

    fn purpose(&self) -> &'static str {
        "etcd clusters"
    }

    fn wit(&self) -> &'static str {
        crate::contract::wit!("etcd.wit")
    }

    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        etcd::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }

    fn request(&self) -> Option<Request> {
        Some(Request { field: REQUESTS, label: "asks etcd", names: |said| &said.clusters })
    }

    fn granted(&self, grants: &Grants) -> Option<Granted> {
        let clusters = grants.get::<Clusters>();
        let names = clusters.map(|clusters| clusters.0.keys().cloned().collect());
        Some(Granted { key: KEY, label: "etcd", names: names.unwrap_or_default() })
    }

    fn check(&self, plugin: &str, requests: &Requests, grants: &Grants) -> Result<(), String> {
        let granted = grants.get::<Clusters>().map(|clusters| &clusters.0);
        let (any, named): (Vec<_>, Vec<_>) =
            requests.names(REQUESTS).iter().cloned().partition(|name| name == ANY);
        if !any.is_empty() && granted.is_none_or(BTreeMap::is_empty) {
            return Err(format!(
                "the plugin {plugin} takes snapshots of etcd clusters, and the mount grants none; add \
                 `{KEY} = {{ main = \"…\" }}` to the mount, with the name of an [etcd.NAME] table"
            ));
        }
        match missing(&named, granted) {
            None => Ok(()),
            Some(name) => Err(format!(
                "the plugin {plugin} takes snapshots of a cluster {name:?}, which the mount does not \
                 grant; add `{KEY} = {{ {name} = \"…\" }}` to the mount"
            )),
        }
    }

    fn check_imports(&self, functions: &[String], grants: &Grants) -> Result<(), String> {
        let takes = functions.iter().any(|function| function.contains("take"));
        if takes && grants.get::<Clusters>().is_none_or(|clusters| clusters.0.is_empty()) {
            return Err(format!(
                "the plugin can take snapshots of etcd, and the mount grants no cluster; if it needs one, add \
                 `{KEY} = {{ main = \"…\" }}` to the mount, with the name of an [etcd.NAME] table"
            ));
        }
        Ok(())
    }

    fn lacks_grant(&self, function: &str, failure: &str) -> bool {
        function == "take" && failure == "denied"
    }

    fn stand_in(&self, requests: &Requests, grants: &mut Grants) {
        grants.update::<Clusters>(|clusters| {
            let any = requests.names(REQUESTS).iter().any(|name| name == ANY);
            let main = (any && clusters.0.is_empty()).then(|| "main".to_owned());
            for name in requests.names(REQUESTS).iter().filter(|name| *name != ANY).chain(&main) {
                clusters.0.entry(name.clone()).or_insert_with(|| Arc::new(NoMembers));
            }
        });
    }
}

/// The host's side of a snapshot handle.
#[doc(hidden)]
pub struct SnapshotHandle {
    facts: Facts,
    /// Until the guest takes it.
    body: Option<Body>,
    sha256: Checked,
}

impl fmt::Debug for SnapshotHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotHandle").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl etcd::Host for GuestState {
    fn clusters(&mut self) -> wasmtime::Result<Vec<String>> {
        self.note("etcd.clusters", |_| String::new());
        let granted = self.mount.grants.get::<Clusters>();
        Ok(granted.map(|clusters| clusters.0.keys().cloned().collect()).unwrap_or_default())
    }
}

impl etcd::HostSnapshot for GuestState {
    async fn take(
        &mut self,
        cluster: String,
        except: Vec<String>,
    ) -> Result<Resource<SnapshotHandle>, ImportError> {
        self.note("etcd.take", |_| match except.as_slice() {
            [] => cluster.clone(),
            except => format!("{cluster} except {}", except.join(" ")),
        });
        let granted = self.mount.grants.get::<Clusters>().map(|clusters| &clusters.0);
        let Some(granted) = granted.and_then(|clusters| clusters.get(&cluster)).cloned() else {
            return Err(Failure::Denied(format!(
                "the mount {} grants no cluster {cluster:?}; granted: {}",
                self.mount.path,
                list(granted.into_iter().flat_map(BTreeMap::keys)),
            ))
            .into());
        };
        let open = self.allocation.open()?;
        let snapshot = self.cpu.free(granted.take(&except)).await?;
        let handle = SnapshotHandle {
            facts: snapshot.facts,
            body: Some(body_with(snapshot.body, open)),
            sha256: snapshot.sha256,
        };
        Ok(self.table.push(handle)?)
    }

    fn facts(&mut self, snapshot: Resource<SnapshotHandle>) -> wasmtime::Result<etcd::Facts> {
        let facts = &self.table.get(&snapshot)?.facts;
        Ok(etcd::Facts {
            endpoint: facts.endpoint.clone(),
            version: format!("{}{}", facts.version, if facts.stale { STALE } else { "" }),
            cluster_id: facts.cluster_id,
            member_id: facts.member_id,
            revision: facts.revision,
            keys: facts.keys,
            size: facts.size,
        })
    }

    fn data(
        &mut self,
        snapshot: Resource<SnapshotHandle>,
    ) -> Result<Resource<BodyHandle>, ImportError> {
        self.note("etcd.data", |_| String::new());
        let Some(body) = self.table.get_mut(&snapshot)?.body.take() else {
            let why = "the bytes of this snapshot have been taken already";
            return Err(Failure::Invalid(why.to_owned()).into());
        };
        let body = match self.call.get::<RunningJob>() {
            Some(job) => job.follow(body),
            None => body,
        };
        Ok(self.table.push(BodyHandle::new(body))?)
    }

    fn sha256(&mut self, snapshot: Resource<SnapshotHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&snapshot)?.sha256.get())
    }

    async fn drop(&mut self, snapshot: Resource<SnapshotHandle>) -> wasmtime::Result<()> {
        self.table.delete(snapshot)?;
        Ok(())
    }
}

impl From<ConnectError> for ImportError {
    fn from(error: ConnectError) -> Self {
        Failure::Unavailable(error.to_string()).into()
    }
}

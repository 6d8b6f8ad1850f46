//! `[etcd.NAME]`, a cluster that mounts may be granted by `etcd = { name = "NAME" }`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use async_trait::async_trait;
use keepgate_connect::etcd::{self, Cluster, ClusterOptions, Login, Secret, TlsFiles};
use keepgate_connect::{EndpointStatus, Snapshots};
use keepgate_runtime::Grants;
use keepgate_runtime::capability::etcd::Clusters;
use serde::Deserialize;
use toml::Spanned;

use super::provider::{Probe, Provider};
use crate::config::{Config, Interval, Mount, Problems, names};

/// `[etcd.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EtcdCluster {
    /// URLs of its members, in the order in which they are tried.
    pub(crate) endpoints: Spanned<Vec<String>>,
    #[serde(default)]
    pub(crate) tls: Option<ClientTls>,
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) user_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) password: Option<Hidden>,
    #[serde(default)]
    pub(crate) password_file: Option<PathBuf>,
    /// Time to connect to one endpoint.
    #[serde(default)]
    pub(crate) timeout: Option<Interval>,
    /// The longest time without a byte of a snapshot.
    #[serde(default)]
    pub(crate) stall: Option<Interval>,
}

/// PEM files by which the gateway verifies the server and identifies itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientTls {
    /// Defaults to the system's certificates.
    #[serde(default)]
    pub(crate) ca: Option<PathBuf>,
    #[serde(default)]
    pub(crate) certificate: Option<PathBuf>,
    #[serde(default)]
    pub(crate) key: Option<PathBuf>,
}

/// A text that is never logged.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl EtcdCluster {
    /// The options of the client.
    pub(crate) fn to_connect(&self, name: &str) -> ClusterOptions {
        let file = |path: &PathBuf| Secret::File(path.clone());
        let user = self.user.clone().map(Secret::Text);
        let user = user.or_else(|| self.user_file.as_ref().map(file));
        let password = self.password.as_ref().map(|hidden| Secret::Text(hidden.0.clone()));
        let password = password.or_else(|| self.password_file.as_ref().map(file));
        ClusterOptions {
            name: name.to_owned(),
            endpoints: self.endpoints.get_ref().clone(),
            tls: self.tls.as_ref().map(|tls| TlsFiles {
                ca: tls.ca.clone(),
                certificate: tls.certificate.clone(),
                key: tls.key.clone(),
            }),
            user: user.zip(password).map(|(user, password)| Login { user, password }),
            connect_timeout: self.timeout.map_or(etcd::CONNECT_TIMEOUT, |Interval(time)| time),
            stall_timeout: self.stall.map_or(etcd::STALL_TIMEOUT, |Interval(time)| time),
        }
    }

    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let tls = self.tls.iter_mut();
        tls.flat_map(|tls| [&mut tls.ca, &mut tls.certificate, &mut tls.key])
            .chain([&mut self.user_file, &mut self.password_file])
            .filter_map(Option::as_mut)
    }
}

pub(super) fn check(config: &Config, problems: &mut Problems) {
    for (name, cluster) in &config.etcd {
        check_cluster(name, cluster, problems);
    }
    for mount in &config.mount {
        for cluster in mount.etcd.values() {
            if !config.etcd.contains_key(cluster.get_ref()) {
                let message = format!(
                    "mount {:?}: unknown etcd cluster {:?}; configured clusters: {}",
                    mount.path.get_ref(),
                    cluster.get_ref(),
                    names(config.etcd.keys())
                );
                problems.add(cluster.span(), message);
            }
        }
    }
}

fn check_cluster(name: &str, cluster: &EtcdCluster, problems: &mut Problems) {
    let span = cluster.endpoints.span();
    let mut add = |what: &str| problems.add(span.clone(), format!("[etcd.{name}] {what}"));
    if cluster.endpoints.get_ref().is_empty() {
        add("has no endpoints; add the URL of a member, for example \"https://10.0.0.1:2379\"");
    }
    if cluster.user.is_some() && cluster.user_file.is_some() {
        add("has both `user` and `user_file`; keep one of them");
    }
    if cluster.password.is_some() && cluster.password_file.is_some() {
        add("has both `password` and `password_file`; keep one of them");
    }
    let user = cluster.user.is_some() || cluster.user_file.is_some();
    let password = cluster.password.is_some() || cluster.password_file.is_some();
    match (user, password) {
        (true, false) => add("has a user but no `password` or `password_file`"),
        (false, true) => add("has a password but no `user` or `user_file`"),
        _ => {}
    }
}

/// Relative paths are relative to the configuration's folder.
pub(super) fn resolve(config: &mut Config, base: &Path) {
    for path in config.etcd.values_mut().flat_map(EtcdCluster::paths) {
        *path = base.join(&*path);
    }
}

/// Every cluster of the configuration, ready to connect.
#[derive(Debug)]
struct OpenClusters(BTreeMap<String, Arc<dyn Snapshots>>);

/// Reads the clusters' files. Nothing connects yet.
pub(super) fn open(config: &Config) -> Result<Box<dyn Provider>> {
    let mut clusters: BTreeMap<String, Arc<dyn Snapshots>> = BTreeMap::new();
    for (name, cluster) in &config.etcd {
        let cluster =
            Cluster::new(cluster.to_connect(name)).with_context(|| format!("[etcd.{name}]"))?;
        clusters.insert(name.clone(), Arc::new(cluster));
    }
    Ok(Box::new(OpenClusters(clusters)))
}

#[async_trait]
impl Provider for OpenClusters {
    fn grant(&self, mount: Option<&Mount>, grants: &mut Grants) -> Result<()> {
        let mut clusters = Clusters::default();
        for (name, cluster) in mount.iter().flat_map(|mount| &mount.etcd) {
            let cluster = cluster.get_ref();
            let open = self.0.get(cluster);
            let open = open.ok_or_else(|| {
                anyhow!("unknown cluster {cluster:?}; expected a table [etcd.{cluster}]")
            })?;
            clusters.0.insert(name.clone(), open.clone());
        }
        grants.insert(clusters);
        Ok(())
    }

    /// Asks each endpoint of each cluster how it is. A cluster that cannot give a snapshot is a
    /// problem; an endpoint that is down beside one that answers is only reported.
    async fn probe(&self) -> Probe {
        let mut probe = Probe::default();
        for (name, cluster) in &self.0 {
            let mut answers = false;
            for EndpointStatus { endpoint, outcome } in cluster.status().await {
                let mut say = |what: String| {
                    probe.lines.push(format!("etcd {name}  {endpoint}: {what}"));
                };
                match outcome {
                    Ok(member) => {
                        answers = true;
                        let (version, revision) = (&member.version, member.revision);
                        let size = bytesize::ByteSize(member.db_size);
                        let leader = if member.leader.is_some() { "" } else { ", sees no leader" };
                        say(format!("etcd {version}, revision {revision}, {size}{leader}"));
                        member.errors.into_iter().for_each(say);
                    }
                    Err(why) => say(why),
                }
            }
            if !answers {
                probe.problems.push(format!("[etcd.{name}] no endpoint answers"));
            }
        }
        probe
    }
}

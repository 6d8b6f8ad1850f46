//! A generation: the immutable table of mounts and plugins that serves at one time.
//!
//! In-flight requests finish on the generation that they started with. It is dropped when the last of
//! them ends, at the latest after the time limit of calls. `loader` builds generations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::capability;
use crate::contract::VERSION;
use crate::load::Plugin;
use crate::mount::Mount;
use crate::trust::{Trust, TrustDecision};

/// An immutable table of mounts and plugins.
#[derive(Debug)]
pub struct Generation {
    /// Counts up from 1.
    pub number: u64,
    /// In the order of their specs.
    pub mounts: Vec<Arc<Mount>>,
    /// All loaded plugins, including those without a mount.
    pub plugins: Vec<Arc<Plugin>>,
    /// Files that were being compiled when this was built.
    pub loading: Vec<String>,
    /// Files and mounts that are refused as they are now.
    pub refused: Vec<Refused>,
    /// Why those plugins are trusted, and which no longer are.
    pub trust: Trusted,
}

/// A file or mount that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// A file's path, or `mount /path`.
    pub what: String,
    /// Where a mount is configured: file, line and column.
    pub place: Option<String>,
    /// The reason.
    pub why: String,
    /// Whether its previous version still serves.
    pub older_serves: bool,
}

/// The rules of trust when a generation was built, and what they decided.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    /// The rules.
    pub rules: Trust,
    /// Why each plugin is trusted, by the plugin's name.
    pub decisions: BTreeMap<String, TrustDecision>,
    /// Names of plugins that earlier rules trusted and these do not.
    pub withdrawn: BTreeSet<String>,
}

impl Generation {
    /// Its state for operators, as JSON.
    pub fn status(&self) -> Value {
        let trusted = |plugin: &Plugin| self.trust.decisions.get(&plugin.name)?.applied();
        let plugins: Vec<_> =
            self.plugins.iter().map(|plugin| plugin_status(plugin, trusted(plugin))).collect();
        let mounts: Vec<_> = self.mounts.iter().map(|mount| mount_status(mount)).collect();
        let refused: Vec<_> = self
            .refused
            .iter()
            .map(|r| json!({"what": r.what, "why": r.why, "older_serves": r.older_serves}))
            .collect();
        json!({
            "generation": self.number,
            "contract": VERSION,
            "trust": self.trust.rules.has_rules().then(|| self.trust.rules.status()),
            "plugins": plugins,
            "mounts": mounts,
            "loading": self.loading,
            "refused": refused,
        })
    }

    /// What switching from `before` to this generation would break: mounts that serve there and that
    /// this one has but cannot serve. A mount whose plugin is no longer trusted is meant to stop, as long
    /// as any other mount serves.
    pub fn losses(&self, before: &Self) -> Vec<String> {
        let serves = |mount: &Mount| mount.serving().is_ok();
        let served =
            |path: &str| before.mounts.iter().any(|mount| mount.path() == path && serves(mount));
        let anything = self.mounts.iter().any(|mount| serves(mount));
        let meant = |plugin: &str| anything && self.trust.withdrawn.contains(plugin);
        let mounts = self.mounts.iter().filter(|mount| served(mount.path()));
        let mut losses: Vec<_> = mounts
            .filter(|mount| !meant(&mount.spec().plugin))
            .filter_map(|mount| {
                let place = mount.spec().place.as_ref();
                let place = place.map_or(String::new(), |place| format!("{place}: "));
                mount.serving().err().map(|why| format!("{place}mount {}: {why}", mount.path()))
            })
            .collect();
        // A mount that a plugin proposed does not exist without the plugin.
        let served_anything = before.mounts.iter().any(|mount| serves(mount));
        if losses.is_empty() && !anything && served_anything && !self.trust.withdrawn.is_empty() {
            let names: Vec<_> = self.trust.withdrawn.iter().map(String::as_str).collect();
            let names = names.join(", ");
            losses.push(format!("no mount would serve: [plugins] does not trust {names}"));
        }
        losses
    }
}

fn plugin_status(plugin: &Plugin, trusted: Option<&TrustDecision>) -> Value {
    json!({
        "name": plugin.name,
        "file": plugin.file.display().to_string(),
        "digest": plugin.digest,
        "size": plugin.size,
        "trusted": trusted,
        "contract": plugin.contract,
        "description": plugin.description,
    })
}

fn mount_status(mount: &Mount) -> Value {
    let spec = mount.spec();
    let (digest, problem) = match mount.serving() {
        Ok(plugin) => (Some(&plugin.digest), None),
        Err(why) => (None, Some(why)),
    };
    let mut status = json!({
        "path": spec.path,
        "plugin": spec.plugin,
        "digest": digest,
        "problem": problem,
        "aside": mount.suspended(),
        "limits": {
            "memory_bytes": spec.limits.memory,
            "cpu_seconds": spec.limits.cpu.as_secs_f64(),
            "time_seconds": spec.limits.time.as_secs_f64(),
            "job_time_seconds": spec.limits.job_time.as_secs_f64(),
            "calls": spec.limits.calls,
            "faults": spec.limits.faults.count,
            "pause_seconds": spec.limits.faults.pause.as_secs_f64(),
            "max_pause_seconds": spec.limits.faults.longest.as_secs_f64(),
        },
        "warm": spec.warm,
        "calls": mount.counts(),
        "share": mount.served_by().and_then(|serving| serving.usage()),
    });
    if let Value::Object(status) = &mut status {
        let granted = capability::granted(&spec.grants).into_iter();
        status.extend(granted.map(|granted| (granted.key.to_owned(), json!(granted.names))));
    }
    status
}

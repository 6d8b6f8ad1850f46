//! `keepgate plugin check`: what a file is, what it asks for, and whether a gateway would serve it,
//! said by the code that would load it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use keepgate::GatewayConfig;
use keepgate_runtime::inspect::{Extent, Interface};
use keepgate_runtime::{Inspection, MountSpec, Plugin, Workbench};
use serde::Serialize;
use serde_json::json;

use crate::arguments::Check;
use crate::progress_notice::ProgressNotice;
use crate::size;
use keepgate::output::{note, say};

/// A mount held against the plugin.
#[derive(Debug, Serialize)]
struct Fit {
    path: String,
    /// Names of the stores that it grants.
    stores: Vec<String>,
    /// Names of the clusters that it grants.
    etcd: Vec<String>,
    /// In bytes.
    memory_limit: u64,
    problems: Vec<String>,
}

/// Prints what there is to say; the exit code.
pub(crate) async fn run(arguments: &Check) -> Result<u8> {
    let read = crate::read(&arguments.file);
    let config = arguments.config.as_deref().map(GatewayConfig::load).transpose();
    let (bytes, config) = match (read, config) {
        (Ok(bytes), Ok(config)) => (bytes, config),
        (Err(error), _) | (_, Err(error)) => {
            keepgate::explain(&error).lines().for_each(|line| note!("keepgate: {line}"));
            return Ok(2);
        }
    };
    let seen = Inspection::of(&bytes);
    let mut problems: Vec<String> = seen.refusal.iter().cloned().collect();
    problems.extend(seen.differences.iter().map(ToString::to_string));
    let mut plugin = None;
    let mut fits = Vec::new();
    if problems.is_empty() {
        let bench = Workbench::new()?.keeping_code(crate::code_folder().as_deref());
        let _notice = ProgressNotice::while_compiling(&arguments.file);
        match bench.load(&arguments.file, bytes).await {
            Ok(loaded) => {
                if let Some(config) = &config {
                    fits =
                        mounts(&bench, config, arguments.mount.as_deref(), &loaded, &seen).await?;
                }
                plugin = Some(loaded);
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    let of_mounts = fits.iter().flat_map(|fit| {
        fit.problems.iter().map(move |problem| format!("mount {}: {problem}", fit.path))
    });
    problems.extend(of_mounts);
    let served = problems.is_empty();
    if arguments.json {
        let report = json!({
            "file": arguments.file.display().to_string(),
            "served": served,
            "problems": problems,
            "inspection": seen,
            "description": plugin.as_ref().map(|plugin| &plugin.description),
            "mounts": fits,
        });
        say!("{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&arguments.file, &seen, plugin.as_deref(), &fits)?;
        for problem in &problems {
            say!("wrong: {problem}")?;
        }
        if served {
            say!("{} would be served", arguments.file.display())?;
        }
    }
    Ok(u8::from(!served))
}

/// Each mount that would have the plugin, or the one that is asked for.
async fn mounts(
    bench: &Workbench,
    config: &GatewayConfig,
    path: Option<&str>,
    plugin: &Arc<Plugin>,
    seen: &Inspection,
) -> Result<Vec<Fit>> {
    let wanted = |spec: &MountSpec| match path {
        Some(path) => spec.path == path,
        None => spec.plugin == plugin.name,
    };
    let specs: Vec<_> = config.mounts(plugin)?.into_iter().filter(|spec| wanted(spec)).collect();
    if specs.is_empty() {
        return Err(match path {
            Some(path) => anyhow!("the configuration has no mount {path}"),
            None => anyhow!(
                "no mount of the configuration has the plugin {name:?}: add a [[mount]] with \
                 `plugin = \"{name}\"`, or name one with --mount",
                name = plugin.name
            ),
        });
    }
    let mut fits = Vec::new();
    for spec in specs {
        let mut problems = Vec::new();
        if let Err(why) = bench.check(&spec, plugin).await {
            problems.push(why);
        }
        problems.extend(needs(seen, &spec));
        fits.push(Fit {
            path: spec.path.clone(),
            stores: spec.stores.keys().cloned().collect(),
            etcd: spec.services.clusters.keys().cloned().collect(),
            memory_limit: spec.limits.memory,
            problems,
        });
    }
    Ok(fits)
}

/// What the file itself needs and a mount does not grant.
fn needs(seen: &Inspection, spec: &MountSpec) -> Vec<String> {
    let mut problems = Vec::new();
    let memory: u64 = seen.memories.iter().map(|memory| memory.minimum).sum();
    let limit = spec.limits.memory;
    if memory > limit {
        problems.push(format!(
            "the plugin begins with {} of memory, and `limits.memory` is {}",
            size(memory),
            size(limit)
        ));
    }
    let takes = |i: &Interface| i.name == "etcd" && i.functions.iter().any(|f| f.contains("take"));
    if seen.imports.iter().any(takes) && spec.services.clusters.is_empty() {
        problems.push(
            "the plugin takes snapshots of etcd, and the mount grants no cluster; add `etcd = { … }`"
                .to_owned(),
        );
    }
    problems
}

fn print(file: &Path, seen: &Inspection, plugin: Option<&Plugin>, fits: &[Fit]) -> Result<()> {
    let mut lines: Vec<(&str, String)> = Vec::new();
    if let Some(plugin) = plugin {
        let said = &plugin.description;
        lines.push(("plugin", format!("{} {}: {}", said.name, said.version, said.summary)));
    }
    lines.push(("sha256", seen.digest.clone()));
    lines.push(("size", format!("{} ({} bytes)", size(seen.size), seen.size)));
    if let Some(contract) = &seen.contract {
        lines.push(("contract", contract.clone()));
    }
    if !seen.made_with.is_empty() {
        lines.push(("made with", seen.made_with.join(", ")));
    }
    lines.extend(seen.memories.iter().map(|memory| ("memory", extent(memory, size))));
    for (table, times) in grouped(&seen.tables) {
        let times = if times > 1 { format!("{times} times ") } else { String::new() };
        lines.push(("table", format!("{times}{}", extent(&table, |n| format!("{n} elements")))));
    }
    // What is there for its types only, a plugin does nothing with.
    let used = seen.imports.iter().filter(|interface| !interface.functions.is_empty());
    lines.extend(used.map(|interface| ("imports", interface.words.clone())));
    lines.extend(seen.exports.iter().map(|interface| ("exports", interface.words.clone())));
    if let Some(plugin) = plugin {
        let said = &plugin.description;
        lines.extend(said.stores.iter().map(|store| ("opens store", store.clone())));
        lines.extend(said.clusters.iter().map(|cluster| ("asks etcd", cluster.clone())));
        lines.extend(said.jobs.iter().map(|kind| ("runs jobs", kind.clone())));
        lines.push(("mounts at", format!("{}, where nobody says otherwise", said.default_mount)));
    }
    for fit in fits {
        let named = |what: &str, names: &[String]| match names {
            [] => String::new(),
            names => format!(", {what} {}", names.join(", ")),
        };
        let memory = size(fit.memory_limit);
        let (stores, etcd) = (named("store", &fit.stores), named("etcd", &fit.etcd));
        lines.push(("mount", format!("{} grants {memory} of memory{stores}{etcd}", fit.path)));
    }
    say!("{}", file.display())?;
    let mut before = "";
    for (name, value) in lines {
        say!("  {:<12} {value}", if name == before { "" } else { name })?;
        before = name;
    }
    Ok(())
}

/// Equal ones together: a component has many small tables of its own making.
fn grouped(extents: &[Extent]) -> Vec<(Extent, usize)> {
    let mut groups: BTreeMap<(u64, Option<u64>), usize> = BTreeMap::new();
    for extent in extents {
        *groups.entry((extent.minimum, extent.maximum)).or_default() += 1;
    }
    let group = |((minimum, maximum), times)| (Extent { minimum, maximum }, times);
    groups.into_iter().map(group).collect()
}

fn extent(extent: &Extent, unit: impl Fn(u64) -> String) -> String {
    let least = unit(extent.minimum);
    match extent.maximum {
        Some(most) if most == extent.minimum => least,
        Some(most) => format!("{least} at first, {} at most", unit(most)),
        None => format!("{least} at first, then up to the mount's limit"),
    }
}

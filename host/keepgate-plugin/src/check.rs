//! `keepgate plugin check`: shows what a file is, what it asks for, and whether a gateway would serve it,
//! using the code that would load it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use keepgate::GatewayConfig;
use keepgate_runtime::capability::{Granted, granted};
use keepgate_runtime::folder::shown;
use keepgate_runtime::inspect::Extent;
use keepgate_runtime::{Inspection, MountSpec, Plugin, Workbench};
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::arguments::Check;
use crate::files::{read, size};
use crate::progress_notice::ProgressNotice;
use keepgate::output::{note, one_line, say};

/// How the plugin fits a mount.
#[derive(Debug, Serialize)]
struct Fit {
    path: String,
    /// What it grants, by the keys of its table.
    #[serde(flatten, serialize_with = "as_map")]
    granted: Vec<Granted>,
    /// In bytes.
    memory_limit: u64,
    problems: Vec<String>,
    /// What may be missing; it is served all the same.
    hints: Vec<String>,
}

fn as_map<S: Serializer>(granted: &[Granted], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(granted.iter().map(|granted| (granted.key, &granted.names)))
}

/// Prints the findings and returns the exit code.
pub(crate) async fn run(arguments: &Check) -> Result<u8> {
    let read = read(&arguments.file);
    let config = arguments.config.as_deref().map(GatewayConfig::load).transpose();
    let (file, bytes, config) = match (read, config) {
        (Ok((file, bytes)), Ok(config)) => (file, bytes, config),
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
        // Nobody may have looked at the file before.
        let bench = Workbench::new()?.with_compiler(keepgate::compiler::process());
        let bench = bench.keeping_code(crate::files::code_folder().as_deref());
        let _notice = ProgressNotice::while_compiling(&file);
        match bench.load(&file, bytes).await {
            Ok(loaded) => {
                if let Some(config) = &config {
                    fits = mounts(&bench, config, arguments.mount.as_deref(), &loaded).await?;
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
            "file": file.display().to_string(),
            "served": served,
            "problems": problems,
            "inspection": seen,
            "description": plugin.as_ref().map(|plugin| &plugin.description),
            "mounts": fits,
        });
        say!("{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&file, &seen, plugin.as_deref(), &fits)?;
        for Fit { path, hints, .. } in &fits {
            hints.iter().try_for_each(|hint| say!("note: mount {path}: {}", one_line(hint)))?;
        }
        for problem in &problems {
            say!("wrong: {}", one_line(problem))?;
        }
        if served {
            say!("{} would be served", shown(&file))?;
        }
    }
    Ok(u8::from(!served))
}

/// Checks each mount that would have the plugin, or only the one at `path`.
async fn mounts(
    bench: &Workbench,
    config: &GatewayConfig,
    path: Option<&str>,
    plugin: &Arc<Plugin>,
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
        let problems = bench.check(&spec, plugin).await.err();
        fits.push(Fit {
            path: spec.path.clone(),
            granted: granted(&spec.grants),
            memory_limit: spec.limits.memory,
            problems: problems.into_iter().collect(),
            hints: plugin.hints(&spec),
        });
    }
    Ok(fits)
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
    // An interface without functions is only imported for its types.
    let used = seen.imports.iter().filter(|interface| !interface.functions.is_empty());
    lines.extend(used.map(|interface| ("imports", interface.words.clone())));
    lines.extend(seen.exports.iter().map(|interface| ("exports", interface.words.clone())));
    if let Some(plugin) = plugin {
        let said = &plugin.description;
        lines.extend(said.requests.in_words().map(|(label, name)| (label, name.to_owned())));
        if let Some(form) = &plugin.refusal_form {
            lines.push(("refusals", format!("as {}, from the gateway too", form.content_type())));
        }
        lines.push(("mounts at", format!("{} by default", said.default_mount)));
    }
    for fit in fits {
        let mut grants = format!("{} grants {} of memory", fit.path, size(fit.memory_limit));
        for Granted { label, names, .. } in &fit.granted {
            if !names.is_empty() {
                grants.push_str(&format!(", {label} {}", names.join(", ")));
            }
        }
        lines.push(("mount", grants));
    }
    say!("{}", shown(file))?;
    let mut before = "";
    for (name, value) in lines {
        say!("  {:<12} {}", if name == before { "" } else { name }, one_line(&value))?;
        before = name;
    }
    Ok(())
}

/// Groups equal extents: a component has many small generated tables.
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
        Some(most) => format!("{least} initially, at most {}", unit(most)),
        None => format!("{least} initially, then up to the limit of the mount"),
    }
}

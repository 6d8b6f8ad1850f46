//! `keepgate check`: finds everything that would fail at a start, without serving.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use bytesize::ByteSize;
use keepgate_runtime::{Code, Loader, Refused};

use crate::assemble::{Assembly, load_tls};
use crate::certificates::Certificates;
use crate::compiler;
use crate::config::Config;
use crate::copies;
use crate::output::say;
use crate::schedules;

/// Prints what would serve and what is wrong, and returns the exit code.
pub(crate) async fn run(file: &Path, connect: bool) -> Result<u8> {
    let config = Config::load(file)?;
    let (mut problems, mut listeners) = (Vec::new(), Vec::new());
    for tls in config.listener.iter().filter_map(|listener| listener.tls.as_ref()) {
        match load_tls(tls) {
            Ok(tls) => listeners.push(tls),
            Err(error) => problems.push(crate::output::explain(&error)),
        }
    }
    let (invalid, soon) = Certificates::new(listeners, &config).problems();
    problems.extend(invalid);
    let mut warnings = soon.into_iter().chain(config.unreachable());
    warnings.try_for_each(|line| say!("warning: {line}"))?;
    match Assembly::to_look_at(&config) {
        Err(error) => problems.push(crate::output::explain(&error)),
        Ok(mut assembly) => {
            let warnings = assembly.capabilities.warnings();
            warnings.iter().try_for_each(|line| say!("warning: {line}"))?;
            for (line, problem) in assembly.stores().check() {
                say!("{line}")?;
                problems.extend(problem);
            }
            match copies::open(&config, &assembly) {
                Ok(copies) => copies.values().try_for_each(|copy| say!("{}", copy.line()))?,
                Err(error) => problems.push(crate::output::explain(&error)),
            }
            problems.extend(assembly.authentication.problems());
            let metrics = keepgate_runtime::Metrics::new(&prometheus::Registry::new())?;
            let code = config.data_dir.join("code");
            let loader = Loader::new(&config.plugin_dir, Some(&code), Arc::new(metrics))?;
            let mut loader = loader
                .with_trust(assembly.trust.clone())
                .with_only(config.only_plugins())
                .with_memory(config.plugin_memory())
                .with_compiler(compiler::process());
            if loader.execution().code == Code::Interpreted {
                say!("plugins are interpreted: the system refuses executable memory")?;
            }
            while !loader.scan().await.settled {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            let plugins = loader.plugins();
            for name in &assembly.unprefixed_metrics {
                if plugins.iter().all(|plugin| plugin.name != *name) {
                    say!("note: [plugins] unprefixed_metrics: there is no plugin {name:?}")?;
                }
            }
            let (plans, unmounted) = assembly.plans(&plugins);
            let specs: Vec<_> = plans.into_iter().map(|plan| plan.spec).collect();
            let generation = loader.generation(&specs).await;
            say!(
                "plugins may take {} of memory together",
                ByteSize(loader.memory()).display().iec()
            )?;
            loader.crowding(&generation).iter().try_for_each(|note| say!("note: {note}"))?;
            for mount in &generation.mounts {
                if let Ok(plugin) = mount.serving() {
                    let (name, version) = (&plugin.name, &plugin.description.version);
                    say!("{}  {name} {version}", mount.path())?;
                    for hint in plugin.hints(mount.spec()) {
                        say!("note: mount {}: {hint}", mount.path())?;
                    }
                }
            }
            let refused = generation.refused.iter().chain(&unmounted);
            problems.extend(refused.map(|Refused { what, place, why, .. }| {
                let place = place.as_ref().map_or(String::new(), |place| format!("{place}: "));
                format!("{place}{what}: {why}")
            }));
            problems.extend(schedules::plan(&config, &generation).await.1);
            if connect {
                let (lines, wrong) = assembly.stores().connect().await;
                lines.iter().try_for_each(|line| say!("{line}"))?;
                problems.extend(wrong);
                let mut probes = vec![assembly.authentication.probe().await];
                probes.extend(assembly.capabilities.probe().await);
                for probe in probes {
                    probe.lines.iter().try_for_each(|line| say!("{line}"))?;
                    problems.extend(probe.problems);
                }
            }
        }
    }
    for problem in &problems {
        say!("wrong: {problem}")?;
    }
    if problems.is_empty() {
        say!("{} is fine", file.display())?;
    }
    Ok(u8::from(!problems.is_empty()))
}

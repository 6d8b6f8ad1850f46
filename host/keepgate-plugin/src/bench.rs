//! `keepgate plugin bench`: measures what a plugin costs on this machine. Uses the code of the server, with
//! stores in memory, so that neither disk nor network is measured. Times depend on the machine; the
//! ratios are more comparable.

mod transfer;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use keepgate_runtime::capability::stand_in;
use keepgate_runtime::folder::shown;
use keepgate_runtime::{Grants, Limits, Mount, MountSpec, Plugin, Workbench};
use keepgate_store::Body;
use serde::Serialize;

use crate::arguments::Bench;
use crate::files::{read, size};
use keepgate::output::{note, one_line, say};
use transfer::{Moved, drain, request, transfers};

/// Rounds of slow measurements: compilation and transfers.
const FEW: u32 = 5;
/// Durations of repeated operations.
#[derive(Debug, Serialize)]
struct Times {
    rounds: usize,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    max_us: f64,
}

/// All measurements.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    plugin: String,
    size_bytes: u64,
    compile: Times,
    instantiate: Times,
    /// Linear memory in bytes, before a call and after all the calls of a warm instance.
    memory_fresh_bytes: u64,
    memory_warm_bytes: u64,
    request: String,
    status: String,
    call_fresh: Times,
    call_warm: Times,
    upload: Option<Moved>,
    download: Option<Moved>,
}

/// Measures and prints a table or JSON. The exit code is 2 if the plugin cannot be measured.
pub(crate) async fn run(arguments: &Bench) -> Result<u8> {
    let report = match measure(arguments).await {
        Ok(report) => report,
        Err(error) => {
            note!("keepgate: {}", one_line(&keepgate::explain(&error)));
            return Ok(2);
        }
    };
    if arguments.json {
        say!("{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&report)?;
    }
    Ok(0)
}

async fn measure(arguments: &Bench) -> Result<Report> {
    let (file, bytes) = read(&arguments.file)?;
    let bench = Workbench::new()?;
    let mut times = Vec::new();
    let mut loaded = None;
    for _ in 0..FEW {
        let (begun, bytes) = (Instant::now(), bytes.clone());
        let plugin = bench.load(&file, bytes).await;
        times.push(begun.elapsed());
        loaded = Some(plugin.with_context(|| shown(&file).into_owned())?);
    }
    let plugin = loaded.context("nothing was loaded")?;
    let compile = Times::of(times);

    let (mut times, mut memory) = (Vec::new(), 0);
    for _ in 0..arguments.rounds {
        let made = bench.instantiate(&plugin, &Limits::default()).await?;
        times.push(made.took);
        memory = made.memory;
    }
    let instantiate = Times::of(times);

    let (method, target) = parse(&arguments.request)?;
    let fresh = mount(&bench, &plugin, &arguments.settings, false).await?;
    let (call_fresh, status) = calls(&fresh, method, target, arguments.rounds).await;
    let warm = mount(&bench, &plugin, &arguments.settings, true).await?;
    let (call_warm, _) = calls(&warm, method, target, arguments.rounds).await;

    let (mut upload, mut download) = (None, None);
    if let Some(target) = &arguments.upload {
        let bytes = arguments.size.as_u64();
        let (up, down) = transfers(&fresh, &arguments.method, target, bytes).await?;
        (upload, download) = (Some(up), Some(down));
    }
    Ok(Report {
        file: file.display().to_string(),
        plugin: format!("{} {}", plugin.description.name, plugin.description.version),
        size_bytes: plugin.size,
        compile,
        instantiate,
        memory_fresh_bytes: memory,
        memory_warm_bytes: warm.warm_memory(),
        request: arguments.request.clone(),
        status,
        call_fresh,
        call_warm,
        upload,
        download,
    })
}

/// Mounts the plugin with an empty memory store for each store that it asks for.
async fn mount(
    bench: &Workbench,
    plugin: &Arc<Plugin>,
    settings: &str,
    warm: bool,
) -> Result<Mount> {
    let settings = serde_json::from_str(settings).context("--settings must be a JSON object")?;
    let mut grants = Grants::default();
    stand_in(&plugin.description.requests, &mut grants);
    let spec = MountSpec {
        place: None,
        path: plugin.description.default_mount.clone(),
        plugin: plugin.name.clone(),
        settings,
        grants,
        limits: Limits::default(),
        warm,
    };
    bench.mount(spec, plugin).await.map_err(|why| anyhow!(why))
}

/// Durations of calls up to the end of their responses, and the status of the first response.
async fn calls(mount: &Mount, method: &str, target: &str, rounds: u32) -> (Times, String) {
    let (mut times, mut status) = (Vec::new(), String::new());
    for _ in 0..rounds {
        let request = request(method, target, Body::empty());
        let begun = Instant::now();
        let said = match mount.call(request).await {
            Ok(reply) => {
                let status = reply.status.to_string();
                drain(reply.body).await.map_or_else(|error| error.to_string(), |_| status)
            }
            Err(error) => error.to_string(),
        };
        times.push(begun.elapsed());
        if status.is_empty() {
            status = said;
        }
    }
    (Times::of(times), status)
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        let (p50_us, p90_us, p99_us, max_us) = (at(50), at(90), at(99), at(100));
        Self { rounds: times.len(), p50_us, p90_us, p99_us, max_us }
    }
}

/// Splits `GET /path?query`.
fn parse(request: &str) -> Result<(&str, &str)> {
    let (method, target) = request.split_once(' ').unwrap_or((request, ""));
    if method.is_empty() || !target.starts_with('/') {
        bail!("--request {request:?}: expected a method and a path, for example \"GET /\"");
    }
    Ok((method, target))
}

fn print(report: &Report) -> Result<()> {
    let file = Path::new(&report.file).display();
    say!("{} ({file}, {})", report.plugin, size(report.size_bytes))?;
    say!("{:<26} {:>10} {:>10} {:>10} {:>10} {:>8}", "", "median", "p90", "p99", "max", "rounds")?;
    let line = |what: &str, times: &Times| -> Result<()> {
        let cell = |us: f64| format!("{:.1?}", Duration::from_secs_f64(us / 1e6));
        let [a, b, c, d] = [times.p50_us, times.p90_us, times.p99_us, times.max_us].map(cell);
        say!("{what:<26} {a:>10} {b:>10} {c:>10} {d:>10} {:>8}", times.rounds)
    };
    line("compile, link, describe", &report.compile)?;
    line("instantiate", &report.instantiate)?;
    line("call, fresh instance", &report.call_fresh)?;
    line("call, warm instance", &report.call_warm)?;
    say!("request: {}, response: {}", report.request, report.status)?;
    say!(
        "memory of an instance: {} before a call, {} after {} calls",
        size(report.memory_fresh_bytes),
        size(report.memory_warm_bytes),
        report.call_warm.rounds,
    )?;
    for (what, moved) in [("upload", &report.upload), ("download", &report.download)] {
        if let Some(moved) = moved {
            let who = match moved.guest_share {
                share if share < 0.01 => "moved by the host alone".to_owned(),
                share => format!("{:.0} % of the bytes entered the plugin", share * 100.0),
            };
            say!(
                "{what}: {:.0} MB/s, {:.2} of what the store alone does; {who}",
                moved.bytes_per_second / 1e6,
                moved.of_the_store,
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_computed_from_all_rounds() {
        let times = Times::of((1..=100).rev().map(Duration::from_micros).collect());
        let all = [times.p50_us, times.p90_us, times.p99_us, times.max_us].map(f64::round);
        assert_eq!((times.rounds, all), (100, [50.0, 90.0, 99.0, 100.0]));
        assert_eq!(Times::of(vec![Duration::from_micros(3)]).p50_us.round(), 3.0);
    }

    #[test]
    fn method_and_target_are_parsed() {
        assert_eq!(parse("GET /a/b?c").unwrap(), ("GET", "/a/b?c"));
        for bad in ["", "GET", "/a", "GET a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

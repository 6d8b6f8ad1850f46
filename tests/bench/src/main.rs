//! Keepgate measured beside restic's rest-server and rclone, in one run on one machine:
//!
//! ```text
//! cargo xtask bench [--quick] [--only NAME]... [--before FILE] [--json FILE] [--dir FOLDER]
//! ```
//!
//! It reports and never judges: the design's aims stand beside the figures, and the exit code says
//! only whether measuring was possible. All servers run on the same folder, take turns round by
//! round, and share the machine with the load generator.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `transfers`, `listing`, `plugin`, `loading`, `memory`, `etcd` | what is measured |
//! | `load`, `client` | the load generator |
//! | `servers`, `blobs` | what is measured against: servers, repositories |
//! | `measure`, `machine`, `table` | figures, the machine they are of, and showing them |

#![expect(clippy::print_stdout, reason = "a program whose product is a table")]

mod blobs;
mod client;
mod etcd;
mod listing;
mod load;
mod loading;
mod machine;
mod measure;
mod memory;
mod plugin;
mod servers;
mod table;
mod transfers;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Parser, ValueEnum};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use client::Client;
use machine::Machine;
use measure::Series;
use servers::{Peer, Program, Server, Site};
use table::Row;

/// Measure Keepgate beside restic's rest-server, rclone and etcdctl.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// About one minute instead of four: shorter rounds, fewer blobs
    #[arg(long)]
    quick: bool,
    /// Measure only this (repeatable)
    #[arg(long, value_name = "NAME")]
    only: Vec<Name>,
    /// Measure another build of Keepgate as well: this binary
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Also write everything, round by round, to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the servers keep their blobs: on the disk that shall be measured [default: cargo's
    /// target folder]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    Anchors,
    Upload,
    Download,
    Small,
    List,
    Plugin,
    Load,
    Memory,
    Etcd,
}

/// How much of everything.
#[derive(Debug)]
pub(crate) struct Scale {
    /// That count; one more warms up.
    rounds: usize,
    /// No upload or download of a round begins after that.
    transfer: Duration,
    /// No small request of a round begins after that.
    small: Duration,
    /// Blobs of 16 MiB for one round.
    packs: usize,
    /// Blobs of 4 KiB for one round.
    small_blobs: usize,
    /// Blobs of a repository that is listed; the largest comes first.
    listings: &'static [usize],
    /// Calls of a plugin without sockets.
    calls: usize,
    /// How long slow transfers last.
    slow: Duration,
    /// MiB of values in an etcd that is backed up.
    etcd: u64,
}

const FULL: Scale = Scale {
    rounds: 5,
    transfer: Duration::from_millis(500),
    small: Duration::from_millis(250),
    packs: 32,
    small_blobs: 6000,
    listings: &[100_000, 20_000],
    calls: 20_000,
    slow: Duration::from_secs(3),
    etcd: 256,
};

const QUICK: Scale = Scale {
    rounds: 5,
    transfer: Duration::from_millis(150),
    small: Duration::from_millis(80),
    packs: 16,
    small_blobs: 2000,
    listings: &[100_000],
    calls: 5_000,
    slow: Duration::from_secs(1),
    etcd: 64,
};

/// What every measurement needs.
pub(crate) struct Bench {
    scale: Scale,
    site: Site,
    /// Keepgate's first.
    programs: Vec<Program>,
    plain: OnceCell<Vec<Server>>,
    tls: OnceCell<Vec<Server>>,
}

/// What was measured of one kind.
pub(crate) struct Section {
    title: &'static str,
    rows: Vec<Row>,
    notes: Vec<String>,
    series: Vec<(String, Vec<Series>)>,
}

impl Section {
    fn new(title: &'static str) -> Self {
        Self { title, rows: Vec::new(), notes: Vec::new(), series: Vec::new() }
    }

    /// Keeps the rounds of a row for those who want to look closer.
    fn keep(&mut self, name: String, series: Vec<Series>) {
        self.series.push((name, series));
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread: the load generator is to leave as much of the machine to the servers as it can.
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")
        .and_then(|runtime| runtime.block_on(interruptible(&arguments)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cannot measure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Told to stop, it ends its servers and removes its folder.
async fn interruptible(arguments: &Arguments) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = run(arguments) => done,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("interrupted"),
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let begun = Instant::now();
    let place = match &arguments.dir {
        Some(folder) => folder.clone(),
        None => default_folder()?,
    };
    let folder = tempfile::Builder::new().prefix("keepgate-bench-").tempdir_in(&place);
    let folder = folder.with_context(|| format!("making a folder in {}", place.display()))?;
    let machine = Machine::look(folder.path())?;
    let (bench, skipped) = prepare(folder.path(), arguments)?;
    introduce(&machine, &bench, &skipped);
    let columns: Vec<_> = bench.programs.iter().map(|program| program.peer).collect();
    println!("{}\n", table::heading(&columns));
    let mut sections = Vec::new();
    let wanted = |name: &Name| arguments.only.is_empty() || arguments.only.contains(name);
    for name in Name::value_variants().iter().filter(|name| wanted(name)) {
        let section = Box::pin(measure(*name, &bench)).await;
        let section = section.with_context(|| format!("measuring {name:?}"))?;
        let Section { title, rows, notes, .. } = &section;
        println!("{}", table::section(title, rows, notes, &columns));
        sections.push(section);
    }
    println!("{}\n{:.0} s in all", table::LEGEND, begun.elapsed().as_secs_f64());
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&report(&machine, &bench, &sections))?;
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

async fn measure(name: Name, bench: &Bench) -> Result<Section> {
    match name {
        Name::Anchors => transfers::anchors(bench),
        Name::Upload => transfers::uploads(bench).await,
        Name::Download => transfers::downloads(bench).await,
        Name::Small => transfers::small(bench).await,
        Name::List => listing::listings(bench).await,
        Name::Plugin => plugin::share(bench).await,
        Name::Load => loading::loading(bench).await,
        Name::Memory => memory::memory(bench).await,
        Name::Etcd => etcd::backups(bench).await,
    }
}

impl Bench {
    /// What each server and this client agree on over TLS.
    async fn ciphers(&self) -> Result<String> {
        let mut ciphers = Vec::new();
        for server in self.servers(true)? {
            let client = Client::connect(&server.target).await?;
            let cipher = client.cipher.context("a connection without a cipher")?;
            ciphers.push(format!("{} {cipher}", server.peer));
        }
        Ok(ciphers.join(", "))
    }

    /// All servers, running.
    fn servers(&self, tls: bool) -> Result<&[Server]> {
        let cell = if tls { &self.tls } else { &self.plain };
        if let Some(servers) = cell.get() {
            return Ok(servers);
        }
        let servers = self.programs.iter().map(|program| program.serve(&self.site, tls));
        let servers: Vec<_> = servers.collect::<Result<_>>()?;
        Ok(cell.get_or_init(|| servers))
    }
}

/// A folder of cargo's that is made for such things, and lies on a real disk as a rule.
fn default_folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent);
    let folder = target.map(|target| target.join("tmp")).unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// Finds the programs; returns also a line for each peer that is not there.
fn prepare(folder: &Path, arguments: &Arguments) -> Result<(Bench, Vec<String>)> {
    let scale = if arguments.quick { QUICK } else { FULL };
    let mut programs = vec![Program::keepgate()?];
    if let Some(before) = &arguments.before {
        programs.push(Program::before(before)?);
    }
    let mut skipped = Vec::new();
    for peer in Program::peers() {
        match peer {
            Ok(peer) => programs.push(peer),
            Err(why) => skipped.push(format!("skipped: {why:#}")),
        }
    }
    let plugins = match std::env::var_os("KEEPGATE_PLUGIN_DIR") {
        Some(folder) => folder.into(),
        None => std::env::current_exe()?.with_file_name("plugins"),
    };
    if !plugins.join("restic.wasm").is_file() {
        let plugins = plugins.display();
        return Err(anyhow!("no restic.wasm in {plugins}; run this by `cargo xtask bench`"));
    }
    let site = Site::make(folder, plugins)?;
    let (plain, tls) = (OnceCell::new(), OnceCell::new());
    Ok((Bench { scale, site, programs, plain, tls }, skipped))
}

fn introduce(machine: &Machine, bench: &Bench, skipped: &[String]) {
    println!(
        "machine      {}, {} cores, {:.0} GiB; Linux {}\n\
         file system  {}",
        machine.processor, machine.cores, machine.memory_gib, machine.kernel, machine.file_system
    );
    for program in &bench.programs {
        println!("{:<12} {}", program.peer.to_string(), program.version);
    }
    skipped.iter().for_each(|line| println!("{line}"));
    println!(
        "\nServers and load generator share the {} cores. Without authentication. Keepgate and\n\
         rest-server check each upload's SHA-256 and fsync file and folder; rclone does neither.\n\
         Keepgate keeps its plugin's instances warm, as `keepgate rest-server` does. Medians of {} rounds.\n",
        machine.cores, bench.scale.rounds,
    );
}

fn report(machine: &Machine, bench: &Bench, sections: &[Section]) -> serde_json::Value {
    let section = |section: &Section| {
        let series =
            section.series.iter().map(|(name, series)| json!({"name": name, "of": series}));
        let series: Vec<_> = series.collect();
        let (title, rows, notes) = (section.title, &section.rows, &section.notes);
        json!({"title": title, "rows": rows, "notes": notes, "series": series})
    };
    json!({
        "machine": machine,
        "programs": bench.programs,
        "keepgate_is": Peer::Keepgate,
        "sections": sections.iter().map(section).collect::<Vec<_>>(),
    })
}

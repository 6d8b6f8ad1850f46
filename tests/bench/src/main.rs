//! Measures Keepgate and compares it with restic's rest-server and rclone, in one run on one machine:
//!
//! ```text
//! cargo xtask bench [--quick] [--s3] [--only NAME]... [--before FILE] [--json FILE] [--dir FOLDER]
//! ```
//!
//! It reports without judging: the aims of the design are shown beside the figures, and the exit code only
//! says whether measuring was possible. All servers serve the same folder, take turns in each round, and
//! share the machine with the load generator.
//!
//! | file | purpose |
//! | --- | --- |
//! | `transfers`, `listing`, `plugin`, `loading`, `memory`, `etcd`, `fest`, `databacker`, `s3` | the measurements |
//! | `load`, `client` | the load generator |
//! | `servers`, `blobs` | servers and repositories |
//! | `measure`, `machine`, `table` | the figures, the machine, and the output |

#![expect(clippy::print_stdout, reason = "a command-line program prints its results")]

mod blobs;
mod client;
mod databacker;
mod etcd;
mod fest;
mod listing;
mod load;
mod loading;
mod machine;
mod measure;
mod memory;
mod plugin;
mod s3;
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

/// Measure Keepgate and compare it with restic's rest-server, rclone and etcdctl.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// Take one minute instead of four, with shorter rounds and fewer blobs
    #[arg(long)]
    quick: bool,
    /// Run only this measurement (repeatable)
    #[arg(long, value_name = "NAME")]
    only: Vec<Name>,
    /// Measure backups to a bucket, through Keepgate, rclone and directly: the same as --only s3
    #[arg(long)]
    s3: bool,
    /// Also measure another build of Keepgate: the path of its program
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Also write all rounds to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The folder for blobs, on the disk to measure [default: cargo's target folder]
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
    Fest,
    Databacker,
    S3,
}

/// The amount of work.
#[derive(Debug)]
pub(crate) struct Scale {
    /// The number of rounds, besides one that warms up.
    rounds: usize,
    /// No upload or download of a round starts after this time.
    transfer: Duration,
    /// No small request of a round starts after this time.
    small: Duration,
    /// The number of 16 MiB blobs per round.
    packs: usize,
    /// The number of 4 KiB blobs per round.
    small_blobs: usize,
    /// The sizes of the repositories to list, the largest first.
    listings: &'static [usize],
    /// The number of calls of a plugin without sockets.
    calls: usize,
    /// The duration of slow transfers.
    slow: Duration,
    /// MiB of values in the etcd to back up.
    etcd: u64,
    /// The number of 16 MiB files per round for fest.
    files: usize,
    /// The number of instances of databacker.
    instances: usize,
    /// MiB of files to back up to a bucket.
    s3: u64,
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
    files: 64,
    instances: 2000,
    s3: 1024,
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
    files: 16,
    instances: 200,
    s3: 256,
};

/// Shared by all measurements.
pub(crate) struct Bench {
    scale: Scale,
    site: Site,
    /// Keepgate comes first.
    programs: Vec<Program>,
    plain: OnceCell<Vec<Server>>,
    tls: OnceCell<Vec<Server>>,
}

/// The results of one kind of measurement.
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

    /// Adds the rounds of a row to the JSON output.
    fn keep(&mut self, name: String, series: Vec<Series>) {
        self.series.push((name, series));
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread, so that the load generator leaves as much of the machine to the servers as possible.
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

/// On a signal, ends all servers and removes the folder.
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
    let wanted = |name: &Name| match arguments.s3 {
        true => *name == Name::S3 || arguments.only.contains(name),
        // It takes minutes.
        false if arguments.only.is_empty() => *name != Name::S3,
        false => arguments.only.contains(name),
    };
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
        Name::Fest => fest::surfaces(bench).await,
        Name::Databacker => databacker::instances(bench).await,
        Name::S3 => s3::backups(bench).await,
    }
}

impl Bench {
    /// The cipher suites that the servers negotiate with this client.
    async fn ciphers(&self) -> Result<String> {
        let mut ciphers = Vec::new();
        for server in self.servers(true)? {
            let client = Client::connect(&server.target).await?;
            let cipher = client.cipher.context("the connection has no cipher suite")?;
            ciphers.push(format!("{} {cipher}", server.peer));
        }
        Ok(ciphers.join(", "))
    }

    /// Starts all servers.
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

/// A temporary folder in cargo's target folder, which usually is on a real disk.
fn default_folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent);
    let folder = target.map(|target| target.join("tmp")).unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// Finds the programs. Also returns a line for each missing peer.
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
        return Err(anyhow!("no restic.wasm in {plugins}; run this with `cargo xtask bench`"));
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

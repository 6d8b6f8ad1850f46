//! Backups to a bucket: restic directly, through `rclone serve restic`, and through Keepgate, all with the same S3
//! server (versitygw) on the same disk. They take turns, each time with a repository of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use keepgate_tests::data::Blob;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::restic::{DEBIANS, NEWEST};
use keepgate_tests::s3::{KEY, S3Server, SECRET};
use keepgate_tests::tools;

use crate::plugin::millis;
use crate::servers::free_port;
use crate::table::Row;
use crate::{Bench, Section};

/// Each takes half a minute.
const ROUNDS: usize = 3;
/// Of restic's to its repository.
const CONNECTIONS: &str = "8";
/// Files of the folder that is backed up.
const FILES: u64 = 16;

/// How restic reaches the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Keepgate,
    Direct,
    Rclone,
}

impl Way {
    const ALL: [Self; 3] = [Self::Keepgate, Self::Direct, Self::Rclone];

    fn name(self) -> &'static str {
        match self {
            Self::Keepgate => "through Keepgate",
            Self::Direct => "directly",
            Self::Rclone => "through rclone",
        }
    }
}

/// Measures backups and restores. Without versitygw, the section contains only a note.
pub(crate) async fn backups(bench: &Bench) -> Result<Section> {
    let (mib, scratch) = (bench.scale.s3, bench.site.scratch.clone());
    let measured = tokio::task::spawn_blocking(move || measure(mib, &scratch));
    let mut section = Section::new("restic to a bucket of versitygw");
    match measured.await?? {
        Some(rows) => {
            section.rows = rows;
            section.notes.push(format!(
                "{mib} MiB of random bytes in {FILES} files, {CONNECTIONS} connections, medians of {ROUNDS} rounds"
            ));
        }
        None => section.notes.push("skipped: versitygw or restic is not installed".to_owned()),
    }
    Ok(section)
}

struct Site {
    restic: PathBuf,
    server: S3Server,
    gateway: Gateway,
    rclone: Option<Rclone>,
    scratch: PathBuf,
    source: PathBuf,
}

fn measure(mib: u64, scratch: &Path) -> Result<Option<Vec<Row>>> {
    let restic = tools::find(NEWEST).or_else(|| tools::find(DEBIANS));
    let server = S3Server::find("the bench of a bucket");
    let (Some(restic), Some(server)) = (restic, server) else { return Ok(None) };
    let source = scratch.join("source");
    std::fs::create_dir_all(&source)?;
    for file in 0..FILES {
        let bytes = Blob::new(file, (mib << 20) / FILES).bytes();
        std::fs::write(source.join(file.to_string()), bytes)?;
    }
    let setup = Setup::new().mount("/", "restic", "warm = true").in_bucket(&server, "keepgate", "");
    let gateway = setup.start();
    server.bucket("direct");
    server.bucket("rclone");
    let rclone = Rclone::start(&server)?;
    let site = Site { restic, server, gateway, rclone, scratch: scratch.to_owned(), source };
    let mut times = [const { (Vec::new(), Vec::new()) }; Way::ALL.len()];
    for round in 0..ROUNDS {
        for turn in 0..Way::ALL.len() {
            let place = (round + turn) % Way::ALL.len();
            let (Some(way), Some(times)) = (Way::ALL.get(place), times.get_mut(place)) else {
                continue;
            };
            if *way == Way::Rclone && site.rclone.is_none() {
                continue;
            }
            let (backup, restore) = site.round(*way, round)?;
            times.0.push(backup);
            times.1.push(restore);
        }
    }
    let [ours, others @ ..] = &times;
    let mut rows = Vec::new();
    for (what, of) in [("backup", first as fn(&Times) -> &Vec<Duration>), ("restore", second)] {
        for (way, times) in Way::ALL.iter().zip(&times).filter(|(_, times)| !of(times).is_empty()) {
            rows.push(Row::alone(format!("{what} {}", way.name()), "ms", millis(of(times))));
        }
        for (way, others) in Way::ALL.iter().skip(1).zip(others) {
            if !of(others).is_empty() {
                let ratio = millis(of(others)) / millis(of(ours));
                rows.push(Row::alone(format!("{what}: {} / Keepgate", way.name()), "×", ratio));
            }
        }
    }
    Ok(Some(rows))
}

type Times = (Vec<Duration>, Vec<Duration>);

fn first(times: &Times) -> &Vec<Duration> {
    &times.0
}

fn second(times: &Times) -> &Vec<Duration> {
    &times.1
}

impl Site {
    fn repository(&self, way: Way, round: usize) -> Result<String> {
        Ok(match way {
            Way::Keepgate => self.gateway.repository("", &format!("/r{round}/")),
            Way::Direct => format!("s3:{}/direct/r{round}", self.server.url()),
            Way::Rclone => {
                let rclone = self.rclone.as_ref().context("rclone does not run")?;
                format!("rest:http://{}/r{round}/", rclone.address)
            }
        })
    }

    /// How long a backup and a restore took.
    fn round(&self, way: Way, round: usize) -> Result<(Duration, Duration)> {
        let repository = self.repository(way, round)?;
        let target = self.scratch.join("restored");
        let run = |arguments: &[&str]| {
            let connections = match way {
                Way::Direct => format!("s3.connections={CONNECTIONS}"),
                _ => format!("rest.connections={CONNECTIONS}"),
            };
            let mut command = Command::new(&self.restic);
            command.args(arguments).args(["--no-cache", "--quiet", "-o", &connections]);
            command.args(["--repo", &repository]).current_dir(&self.scratch);
            command.env("RESTIC_PASSWORD", "bench").env("TMPDIR", &self.scratch);
            command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
            let begun = Instant::now();
            let said = command.output().with_context(|| format!("{command:?}"))?;
            let (took, stderr) = (begun.elapsed(), String::from_utf8_lossy(&said.stderr));
            ensure!(said.status.success(), "{}: {arguments:?}: {stderr}", way.name());
            Ok::<_, anyhow::Error>(took)
        };
        run(&["init"])?;
        let source = self.source.display().to_string();
        let backup = run(&["backup", &source])?;
        let restore = run(&["restore", "latest", "--target", &target.display().to_string()])?;
        std::fs::remove_dir_all(&target)?;
        Ok((backup, restore))
    }
}

/// `rclone serve restic` in front of the bucket `rclone`. It is killed when this is dropped.
struct Rclone {
    process: Child,
    address: SocketAddr,
}

impl Rclone {
    /// `None` if it is not installed.
    fn start(server: &S3Server) -> Result<Option<Self>> {
        let Some(program) = tools::find("rclone") else { return Ok(None) };
        let address = free_port()?;
        let mut command = Command::new(program);
        command.args(["serve", "restic", "--config", "/dev/null", "--addr"]);
        command.arg(address.to_string()).arg("bucket:rclone");
        for (name, value) in [
            ("TYPE", "s3"),
            ("PROVIDER", "Other"),
            ("ACCESS_KEY_ID", KEY),
            ("SECRET_ACCESS_KEY", SECRET),
            ("ENDPOINT", &server.url()),
            // Otherwise it tries to create the bucket first, which versitygw refuses.
            ("NO_CHECK_BUCKET", "true"),
        ] {
            command.env(format!("RCLONE_CONFIG_BUCKET_{name}"), value);
        }
        // Debian's rclone does not start with it.
        command.env_remove("AWS_CA_BUNDLE");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().with_context(|| format!("{command:?}"))?;
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(address).is_err() {
            if Instant::now() > end {
                let _ = process.kill();
                bail!("rclone is not ready");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(Self { process, address }))
    }
}

impl Drop for Rclone {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

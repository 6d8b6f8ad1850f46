//! Backups of etcd: a POST, compared with a typical cron job, `etcdctl snapshot save` followed by `tar` and
//! `sync`. Both produce a compressed, durable archive of the same snapshot, but only the POST verifies the
//! checksum of the snapshot.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keepgate_tests::data::Blob;
use keepgate_tests::etcd::{Etcd, Member};
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::tools;

use crate::plugin::millis;
use crate::table::Row;
use crate::{Bench, Section};

/// The size of a value, for example of a Kubernetes object.
const VALUE: u64 = 4096;
/// Each takes seconds.
const ROUNDS: usize = 3;

/// Measures backups. Without etcd, the section contains only a note.
pub(crate) async fn backups(bench: &Bench) -> Result<Section> {
    let (mib, scratch) = (bench.scale.etcd, bench.site.scratch.clone());
    let measured = tokio::task::spawn_blocking(move || measure(mib, &scratch));
    let mut section = Section::new("a backup of etcd, compressed and durable");
    match measured.await?? {
        Some((rows, size)) => {
            section.rows = rows;
            let size = size as f64 / 1_048_576.0;
            section.notes.push(format!("a snapshot of {size:.0} MiB of text that compresses well"));
        }
        None => section.notes.push("skipped: etcd is not installed".to_owned()),
    }
    Ok(section)
}

fn measure(mib: u64, scratch: &Path) -> Result<Option<(Vec<Row>, u64)>> {
    let Some(etcd) = Etcd::debian("the bench of etcd") else { return Ok(None) };
    let member = etcd.start();
    member.fill_with(0, (mib << 20) / VALUE, VALUE, object);
    let gateways = [6, 1].map(|level| (level, gateway(&member, level)));
    let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut size = 0;
    for round in 0..=ROUNDS {
        for (index, (level, gateway)) in gateways.iter().enumerate() {
            let (took, bytes) = post(gateway)?;
            let crontab = crontab(&member, *level, scratch)?;
            size = bytes;
            // The first round warms up.
            if round > 0
                && let (Some(ours), Some(theirs)) = (ours.get_mut(index), theirs.get_mut(index))
            {
                ours.push(took);
                theirs.push(crontab);
            }
        }
    }
    let mut rows = Vec::new();
    for ((level, _), (ours, theirs)) in gateways.iter().zip(ours.iter().zip(&theirs)) {
        let (ours, theirs) = (millis(ours), millis(theirs));
        rows.push(Row::alone(format!("a POST, gzip level {level}"), "ms", ours));
        rows.push(Row::alone(format!("etcdctl, tar, gzip -{level}, sync"), "ms", theirs));
        rows.push(Row::alone("etcdctl takes longer by a factor of", "×", theirs / ours));
    }
    Ok(Some((rows, size)))
}

fn gateway(member: &Member, level: u8) -> Gateway {
    let table = format!("[etcd.main]\nendpoints = [\"{}\"]", member.url());
    let mount =
        format!("etcd = {{ main = \"main\" }}\nsettings = {{ rotate = 2, level = {level} }}");
    let setup = Setup::new().table(&table).mount("/", "etcd", &mount);
    setup.install("etcd", &tools::plugin("etcd"));
    setup.start()
}

/// The duration, and the size of the snapshot.
fn post(gateway: &Gateway) -> Result<(Duration, u64)> {
    let begun = Instant::now();
    let reply = gateway.endpoint().send("POST", "/api/v1/backup", &[], b"");
    let took = begun.elapsed();
    ensure!(reply.status == 200, "a backup: {} {}", reply.status, reply.text());
    let size = reply.json().get("snapshot_size").and_then(serde_json::Value::as_u64);
    Ok((took, size.context("the response contains no snapshot size")?))
}

fn crontab(member: &Member, level: u8, scratch: &Path) -> Result<Duration> {
    let folder = tempfile::tempdir_in(scratch)?;
    let (snapshot, archive) = (folder.path().join("snapshot.db"), folder.path().join("s.tar.gz"));
    let begun = Instant::now();
    run(member.control(&["snapshot", "save"]).arg(&snapshot))?;
    let mut tar = Command::new("tar");
    tar.env("GZIP", format!("-{level}")).arg("-C").arg(folder.path()).arg("-czf").arg(&archive);
    run(tar.arg("snapshot.db"))?;
    run(Command::new("sync").arg(&archive).arg(folder.path()))?;
    let took = begun.elapsed();
    ensure!(fs::metadata(&archive)?.len() > 0, "tar created an empty archive");
    Ok(took)
}

fn run(command: &mut Command) -> Result<()> {
    let said = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}

/// Resembles a Kubernetes object: repeated names, and some data that cannot be compressed.
fn object(number: u64) -> Vec<u8> {
    let random = Blob::new(number, VALUE).bytes();
    let mut text = String::from("{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{");
    for piece in random.chunks(16) {
        let _ = write!(
            text,
            "\"annotations.example.org/last-applied-configuration\":\"{}\",",
            hex::encode(piece)
        );
        if text.len() as u64 >= VALUE {
            break;
        }
    }
    text.into_bytes()
}

//! Resident memory: idle, and during many slow transfers. The kernel's socket buffers are not included.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;

use crate::blobs::{Blob, Repository};
use crate::client::Client;
use crate::load::Request;
use crate::machine::resident;
use crate::servers::{Peer, Program, Server};
use crate::table::{Aim, Better, Row};
use crate::transfers::PACK;
use crate::{Bench, Section};

/// The number of concurrent transfers.
const TRANSFERS: usize = 64;
/// How many bytes each of them moves at a time, and how often.
const SIP: usize = 64 * 1024;
const EVERY: Duration = Duration::from_millis(25);
/// How long a server may settle after its start.
const SETTLE: Duration = Duration::from_millis(500);

/// Measures memory. Each figure needs a new server, because servers do not return memory.
pub(crate) async fn memory(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("resident memory");
    let repository = Repository::make(&bench.site.root, "memory")?;
    let blobs = Blob::make(1, PACK)?;
    blobs.iter().try_for_each(|blob| blob.write(&repository))?;
    let blob = blobs.first().context("no blob")?;
    let path = format!("/{}/data/{}", repository.name, blob.id);
    let (mut idle, mut down, mut up) = (Vec::new(), Vec::new(), Vec::new());
    for program in &bench.programs {
        let peer = program.peer;
        let server = program.serve(&bench.site, false)?;
        tokio::time::sleep(SETTLE).await;
        let before = resident(server.pid())?;
        idle.push((peer, before / 1024.0));
        let most = downloads(&server, &path, bench.scale.slow).await?;
        down.push((peer, (most - before) / TRANSFERS as f64));
        drop(server);
        let server = program.serve(&bench.site, false)?;
        tokio::time::sleep(SETTLE).await;
        let before = resident(server.pid())?;
        let most = uploads(&server, bench.scale.slow).await?;
        up.push((peer, (most - before) / TRANSFERS as f64));
    }
    let mut programs = bench.programs.iter();
    let keepgate = programs.find(|program| program.peer == Peer::Keepgate);
    let five = with_five_plugins(bench, keepgate.context("no program keepgate was given")?).await?;
    section.rows = vec![
        Row::new("idle, as in all other rows", "MiB", Better::Less, idle),
        Row::alone("idle, restic's plugin in 5 copies", "MiB", five).aim(Aim::AtMost(60.0)),
        Row::new("each of 64 slow downloads", "KiB", Better::Less, down).aim(Aim::AtMost(256.0)),
        Row::new("each of 64 slow uploads", "KiB", Better::Less, up).aim(Aim::AtMost(256.0)),
    ];
    Ok(section)
}

/// Five copies of one plugin.
async fn with_five_plugins(bench: &Bench, keepgate: &Program) -> Result<f64> {
    let folder = tempfile::tempdir_in(&bench.site.scratch)?;
    let mut settings = "[store.main]\npath = STORE\n".to_owned();
    for number in 0..5 {
        let name = format!("restic{number}");
        let file = folder.path().join(format!("{name}.wasm"));
        std::fs::copy(bench.site.plugins.join("restic.wasm"), file)?;
        settings += &format!(
            "[[mount]]\npath = \"/{name}\"\nplugin = \"{name}\"\nauth = [\"none\"]\n\
             stores = {{ main = \"main\" }}\n"
        );
    }
    let server = keepgate.keepgate_with(&bench.site, folder.path(), &settings, false)?;
    tokio::time::sleep(SETTLE).await;
    for number in 0..5 {
        let request = Request::head(&format!("/restic{number}/config"));
        let status = request.once(&server.target, |_| ()).await?;
        ensure!(status < 500, "/restic{number}: unexpected status {status}");
    }
    Ok(resident(server.pid())? / 1024.0)
}

/// The peak memory during downloads whose clients read a little at a time.
async fn downloads(server: &Server, path: &str, time: Duration) -> Result<f64> {
    let request = Request::get(path, None);
    let slow = async || {
        let begun = Instant::now();
        let mut client = Client::connect(&server.target).await?;
        request.begin(&mut client, 0).await?;
        let (status, _) = client.head(false).await?;
        ensure!(status == 200, "unexpected status {status} for a slow download");
        while begun.elapsed() < time {
            client.sip(SIP).await?;
            tokio::time::sleep(EVERY).await;
        }
        Ok(())
    };
    most(server, try_join_all((0..TRANSFERS).map(|_| slow()))).await
}

/// The peak memory during uploads whose clients send a little at a time and never finish.
async fn uploads(server: &Server, time: Duration) -> Result<f64> {
    let blobs = Blob::make(TRANSFERS, PACK)?;
    let name = format!("up-{}", server.peer);
    let slow = async |blob: &Blob| {
        let begun = Instant::now();
        let mut client = Client::connect(&server.target).await?;
        let request = Request::upload(&name, blob);
        request.begin(&mut client, SIP).await?;
        let [_, rest] = blob.parts();
        for piece in rest.chunks(SIP).skip(1) {
            if begun.elapsed() > time {
                break;
            }
            tokio::time::sleep(EVERY).await;
            client.send([piece, &[], &[]]).await?;
        }
        Ok(())
    };
    most(server, try_join_all(blobs.iter().map(slow))).await
}

/// The peak memory of a server during some work, in KiB.
async fn most(server: &Server, work: impl Future<Output = Result<Vec<()>>>) -> Result<f64> {
    let mut work = pin!(work);
    let mut most = resident(server.pid())?;
    let mut look = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            done = &mut work => return done.map(|_| most),
            _ = look.tick() => most = most.max(resident(server.pid())?),
        }
    }
}

//! Uploads and downloads of restic's packs, 16 MiB each, and small requests.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::blobs::{Blob, Repository};
use crate::load::{Plan, Request};
use crate::measure::{Series, interleave, mib_per_second, requests_per_second};
use crate::servers::{Peer, Program, Server};
use crate::table::{Aim, Better, Row};
use crate::{Bench, Section};

pub(crate) const PACK: usize = 16 << 20;
pub(crate) const SMALL: usize = 4096;

/// The protocol and the number of clients.
#[derive(Clone, Copy)]
struct Manner {
    tls: bool,
    clients: usize,
}

impl Manner {
    fn describe(self, what: &str) -> String {
        let protocol = if self.tls { "https" } else { "http" };
        let s = if self.clients == 1 { "" } else { "s" };
        format!("{what}, {protocol}, {} client{s}", self.clients)
    }
}

const ALL: [Manner; 4] = [
    Manner { tls: false, clients: 1 },
    Manner { tls: false, clients: 8 },
    Manner { tls: true, clients: 1 },
    Manner { tls: true, clients: 8 },
];

/// Measures uploads of 16 MiB.
pub(crate) async fn uploads(bench: &Bench) -> Result<Section> {
    let blobs = Blob::make(bench.scale.packs, PACK)?;
    let mut section = Section::new("upload of 16 MiB blobs");
    for manner in ALL {
        let all = upload(bench, &blobs, manner, bench.scale.transfer).await?;
        // The design has no aim for uploads over TLS.
        let name = manner.describe("16 MiB up");
        let row = Row::medians(&name, "MiB/s", Better::More, &all, mib_per_second);
        section.rows.push(if manner.tls { row } else { row.aim(Aim::RestServer(1.2)) });
        section.rows.push(cpu_per_gib(&all));
        section.keep(name, all);
    }
    section.notes.push(format!("over TLS: {}", bench.ciphers().await?));
    Ok(section)
}

/// Measures downloads of 16 MiB from the page cache.
pub(crate) async fn downloads(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("download of 16 MiB blobs, from the page cache");
    let blobs = Blob::make(8, PACK)?;
    let stored = Stored::make(bench, "packs", &blobs)?;
    let requests = stored.requests(|path| Request::get(path, Some(PACK as u64)));
    for manner in ALL {
        let servers = bench.servers(manner.tls)?;
        for server in servers {
            let (mut hash, mut first) = (Sha256::new(), of(&requests, server).iter().zip(&blobs));
            let (request, blob) = first.next().context("no blob")?;
            request.once(&server.target, |piece| hash.update(piece)).await?;
            ensure!(hex::encode(hash.finalize()) == blob.id, "{} sends other bytes", server.peer);
        }
        let (clients, time) = (manner.clients, bench.scale.transfer);
        let all = interleave(servers, bench.scale.rounds, async |server| {
            let requests = of(&requests, server);
            Plan { requests, once: false, clients, time }.run(server).await
        });
        let all = all.await?;
        let name = manner.describe("16 MiB down");
        let aim = Aim::RestServer(if manner.tls { 1.1 } else { 1.3 });
        let row = Row::medians(&name, "MiB/s", Better::More, &all, mib_per_second);
        section.rows.push(row.aim(aim));
        section.rows.push(cpu_per_gib(&all));
        section.keep(name, all);
    }
    section.notes.push(format!("over TLS: {}", bench.ciphers().await?));
    Ok(section)
}

/// Measures small durable uploads, HEAD and small downloads.
pub(crate) async fn small(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("small requests (a blob of 4 KiB)");
    let stored = Stored::make(bench, "small", &Blob::make(2048, SMALL)?)?;
    let new = Blob::make(bench.scale.small_blobs, SMALL)?;
    let heads = stored.requests(Request::head);
    let gets = stored.requests(|path| Request::get(path, Some(SMALL as u64)));
    for manner in ALL {
        let time = bench.scale.small;
        let all = upload(bench, &new, manner, time).await?;
        section.requests(manner.describe("4 KiB up"), all);
        for (what, requests) in [("HEAD", &heads), ("4 KiB down", &gets)] {
            let (clients, rounds) = (manner.clients, bench.scale.rounds);
            let all = interleave(bench.servers(manner.tls)?, rounds, async |server| {
                let requests = of(requests, server);
                Plan { requests, once: false, clients, time }.run(server).await
            });
            let all = all.await?;
            section.requests(manner.describe(what), all);
        }
    }
    Ok(section)
}

/// Blobs to read, in a separate repository for each server: rclone removes what it reads from the page cache,
/// and other servers would have to read the same files from the disk again.
struct Stored(Vec<(Peer, Vec<String>)>);

/// The requests to each server for its own blobs.
type Requests = Vec<(Peer, Vec<Request>)>;

impl Stored {
    fn make(bench: &Bench, name: &str, blobs: &[Blob]) -> Result<Self> {
        let store = |program: &Program| {
            let name = format!("{name}-{}", program.peer);
            let repository = Repository::make(&bench.site.root, &name)?;
            blobs.iter().try_for_each(|blob| blob.write(&repository))?;
            let path = |blob: &Blob| format!("/{name}/data/{}", blob.id);
            Ok((program.peer, blobs.iter().map(path).collect()))
        };
        let stored = bench.programs.iter().map(store).collect::<Result<_>>()?;
        sync(bench)?;
        Ok(Self(stored))
    }

    fn requests(&self, request: impl Fn(&str) -> Request) -> Requests {
        let all = |(peer, paths): &(Peer, Vec<String>)| {
            (*peer, paths.iter().map(|path| request(path)).collect())
        };
        self.0.iter().map(all).collect()
    }
}

fn of<'a>(requests: &'a Requests, server: &Server) -> &'a [Request] {
    let mut all = requests.iter().filter(|(peer, _)| *peer == server.peer);
    all.next().map_or(&[], |(_, requests)| requests)
}

impl Section {
    fn requests(&mut self, name: String, all: Vec<Series>) {
        let row = Row::medians(&name, "req/s", Better::More, &all, requests_per_second);
        self.rows.push(row.aim(Aim::RestServer(1.0)));
        let cpu = |series: &Series| (series.peer, series.cpu_per_request());
        let values = all.iter().map(cpu).collect();
        self.rows.push(Row::new("    CPU time of the server", "µs/req", Better::Less, values));
        self.keep(name, all);
    }
}

fn cpu_per_gib(all: &[Series]) -> Row {
    let values = all.iter().map(|series| (series.peer, series.cpu_per_gib())).collect();
    Row::new("    CPU time of the server", "s/GiB", Better::Less, values)
}

/// Uploads new blobs. They are removed after each round, so that no server sees them again, and the disk has
/// no work left from the previous round.
async fn upload(
    bench: &Bench,
    blobs: &[Blob],
    manner: Manner,
    time: Duration,
) -> Result<Vec<Series>> {
    let Manner { tls, clients } = manner;
    let rounds = bench.scale.rounds;
    interleave(bench.servers(tls)?, rounds, async |server: &Server| {
        let name = format!("up-{}", server.peer);
        let repository = Repository::make(&bench.site.root, &name)?;
        let requests = blobs.iter().map(|blob| Request::upload(&name, blob));
        let requests: Vec<_> = requests.collect();
        sync(bench)?;
        let plan = Plan { requests: &requests, once: true, clients, time };
        let round = plan.run(server).await?;
        let stored = repository.remove(blobs)?;
        ensure!(stored == round.requests, "{} stored {stored} blobs", server.peer);
        Ok(round)
    })
    .await
}

/// Waits until everything is written to the disk.
fn sync(bench: &Bench) -> Result<()> {
    rustix::fs::syncfs(std::fs::File::open(&bench.site.root)?)?;
    Ok(())
}

/// What disk and CPU achieve without a server, for comparison.
pub(crate) fn anchors(bench: &Bench) -> Result<Section> {
    use std::io::Write as _;
    let mut section = Section::new("this machine without a server, on one thread");
    let bytes = vec![7; PACK];
    let (mut hash, mut disk, mut small) = (Vec::new(), Vec::new(), Vec::new());
    let folder = std::fs::File::open(&bench.site.scratch)?;
    let durable = |bytes: &[u8]| -> Result<f64> {
        let begun = std::time::Instant::now();
        let mut file = tempfile::NamedTempFile::new_in(&bench.site.scratch)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        let path = bench.site.scratch.join("anchor");
        file.persist(&path)?;
        folder.sync_all()?;
        let seconds = begun.elapsed().as_secs_f64();
        std::fs::remove_file(path)?;
        Ok(seconds)
    };
    for _ in 0..bench.scale.rounds * 3 {
        let begun = std::time::Instant::now();
        std::hint::black_box(Sha256::digest(&bytes));
        hash.push(begun.elapsed().as_secs_f64());
        disk.push(durable(&bytes)?);
        let few: Result<Vec<_>> =
            (0..20).map(|_| durable(bytes.get(..SMALL).unwrap_or(&[]))).collect();
        small.extend(few?);
    }
    let mib = 16.0;
    let median = crate::measure::median;
    let only = |value| vec![(Peer::Keepgate, value)];
    section.rows = vec![
        Row::new("SHA-256", "MiB/s", Better::More, only(mib / median(hash))),
        Row::new(
            "16 MiB: write, fsync, rename, fsync",
            "MiB/s",
            Better::More,
            only(mib / median(disk)),
        ),
        Row::new("4 KiB: the same", "/s", Better::More, only(1.0 / median(small))),
    ];
    Ok(section)
}

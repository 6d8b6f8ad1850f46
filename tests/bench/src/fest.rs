//! Files of 16 MiB through the surface of fest, compared with packs of the same size through restic's: two mounts of one
//! gateway, with the same users and kind of store. fest keeps records of its files, and verifies downloads on their way.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keepgate_tests::gateway::Setup;
use keepgate_tests::tools;

use crate::blobs::Blob;
use crate::client::{Client, Target};
use crate::load::{Plan, Request};
use crate::measure::{Series, mib_per_second};
use crate::servers::Peer;
use crate::table::{Aim, Better, Row};
use crate::transfers::PACK;
use crate::{Bench, Section};

/// `bench:benchpassword`.
const LOGIN: &str = "Basic YmVuY2g6YmVuY2hwYXNzd29yZA==";
/// All requests of a round are made, however long that takes.
const UNLIMITED: Duration = Duration::from_secs(600);
/// fest is to be at least so fast, compared with restic's surface.
const AIM: f64 = 0.9;

/// A mount to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Surface {
    Fest,
    Restic,
}

impl Surface {
    fn path(self, blob: &Blob) -> String {
        match self {
            Self::Fest => format!("/fest/files/{}", blob.id),
            Self::Restic => format!("/restic/bench/data/{}", blob.id),
        }
    }

    fn upload(self, blob: &Blob) -> Request {
        let request = match self {
            Self::Fest => Request::put(&self.path(blob), blob),
            Self::Restic => Request::upload("restic/bench", blob),
        };
        request.header("Authorization", LOGIN)
    }

    fn download(self, blob: &Blob) -> Request {
        let request = Request::get(&self.path(blob), Some(blob.length()));
        request.header("Authorization", LOGIN)
    }
}

/// Measures uploads and downloads through both.
pub(crate) async fn surfaces(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("files of 16 MiB: fest beside restic's surface, one gateway");
    for clients in [1, 8] {
        // Another gateway, with nothing stored.
        let setup = Setup::new()
            .user("bench", "benchpassword")
            .mount("/fest", "fest", "warm = true")
            .table(
                "[store.restic]\npath = \"restic\"\n[[mount]]\npath = \"/restic\"\nplugin = \"restic\"\n\
                 auth = [\"users\"]\nstores = { main = \"restic\" }\nwarm = true",
            );
        for plugin in ["restic", "fest"] {
            setup.install(plugin, &tools::plugin(plugin));
        }
        let gateway = setup.start();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, gateway.port()));
        let (target, pid) = (Target { address, tls: None }, gateway.program.id());
        create(&target).await?;
        let (mut up, mut down) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for round in 0..=bench.scale.rounds {
            for (index, surface) in [Surface::Fest, Surface::Restic].into_iter().enumerate() {
                let blobs = Blob::make(bench.scale.files, PACK)?;
                let run = async |requests: Vec<Request>| {
                    let plan = Plan { requests: &requests, once: true, clients, time: UNLIMITED };
                    let round = plan.run_against(&target, Some(pid)).await?;
                    ensure!(round.requests == blobs.len() as u64, "not all requests were made");
                    anyhow::Ok(round)
                };
                let uploaded = run(blobs.iter().map(|blob| surface.upload(blob)).collect());
                let uploaded = uploaded.await.with_context(|| format!("{surface:?}"))?;
                let downloaded = run(blobs.iter().map(|blob| surface.download(blob)).collect());
                let downloaded = downloaded.await.with_context(|| format!("{surface:?}"))?;
                // The first round warms up.
                if round > 0
                    && let (Some(up), Some(down)) = (up.get_mut(index), down.get_mut(index))
                {
                    up.push(uploaded);
                    down.push(downloaded);
                }
            }
        }
        let s = if clients == 1 { "" } else { "s" };
        for (what, [fest, restic]) in [("up", up), ("down", down)] {
            let of = |rounds| Series { peer: Peer::Keepgate, rounds };
            let (fest, restic) = (of(fest), of(restic));
            section.compare(&format!("16 MiB {what}, {clients} client{s}"), fest, restic);
        }
        gateway.stop();
    }
    Ok(section)
}

/// Creates the repository.
async fn create(target: &Target) -> Result<()> {
    let mut client = Client::connect(target).await?;
    let head = format!(
        "POST /restic/bench/?create=true HTTP/1.1\r\nHost: localhost\r\nAuthorization: {LOGIN}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    client.send([head.as_bytes(), &[], &[]]).await?;
    let (status, framing) = client.head(false).await?;
    client.body(framing, |_| ()).await?;
    ensure!(status == 200, "creating a repository: status {status}");
    Ok(())
}

impl Section {
    fn compare(&mut self, name: &str, fest: Series, restic: Series) {
        let both = [fest, restic];
        for (surface, series) in ["fest", "restic"].into_iter().zip(&both) {
            let one = std::slice::from_ref(series);
            let name = format!("{name}, {surface}");
            self.rows.push(Row::medians(name, "MiB/s", Better::More, one, mib_per_second));
            let cpu = vec![(Peer::Keepgate, series.cpu_per_gib())];
            self.rows.push(Row::new("  server CPU", "s/GiB", Better::Less, cpu));
        }
        let [fest, restic] = both;
        let ratio = fest.median(mib_per_second) / restic.median(mib_per_second);
        let row =
            Row::new("  fest to restic", "ratio", Better::More, vec![(Peer::Keepgate, ratio)]);
        self.rows.push(row.aim(Aim::AtLeast(AIM)));
        self.keep(format!("{name}, fest"), vec![fest]);
        self.keep(format!("{name}, restic"), vec![restic]);
    }
}

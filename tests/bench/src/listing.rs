//! Listings of many blobs, in version 2 of the protocol.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::blobs::Repository;
use crate::load::{Plan, Request};
use crate::measure::{Round, interleave};
use crate::table::{Aim, Better, Row};
use crate::{Bench, Section};

/// Measures listings with one client over plain HTTP. The largest repository comes first; the smaller ones
/// are hard links into it.
pub(crate) async fn listings(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("listing, v2, http, 1 client");
    let mut first: Option<Repository> = None;
    let rounds = bench.scale.rounds;
    for &count in bench.scale.listings {
        let repository = Repository::make(&bench.site.root, &format!("list-{count}"))?;
        repository.fill(count, first.as_ref())?;
        let path = format!("/{}/data/", repository.name);
        let servers = bench.servers(false)?;
        for server in servers {
            let mut entries = 0;
            let request = Request::get(&path, None);
            let status = request.once(&server.target, |piece| {
                entries += piece.iter().filter(|byte| **byte == b'{').count();
            });
            let status = status.await.with_context(|| server.peer.to_string())?;
            let peer = server.peer;
            ensure!(status == 200 && entries == count, "{peer}: {status}, {entries} entries");
        }
        let requests = [Request::get(&path, None)];
        let time = Duration::ZERO;
        let plan = Plan { requests: &requests, once: true, clients: 1, time };
        let all = interleave(servers, rounds, async |server| plan.run(server).await).await?;
        let millis = |round: &Round| round.seconds * 1e3;
        let first_byte = |round: &Round| round.first_byte.unwrap_or(0.0) * 1e3;
        let (whole, begin) =
            (format!("{count} blobs, whole"), format!("{count} blobs, first byte"));
        let whole = Row::medians(whole, "ms", Better::Less, &all, millis);
        let begin = Row::medians(begin, "ms", Better::Less, &all, first_byte);
        let design = count == 100_000;
        section.rows.push(if design { whole.aim(Aim::RestServer(5.0)) } else { whole });
        section.rows.push(if design { begin.aim(Aim::AtMost(50.0)) } else { begin });
        let cpu = all.iter().map(|series| (series.peer, series.cpu_per_request() / 1e3));
        let cpu = cpu.collect();
        section.rows.push(Row::new("    CPU time of the server", "ms", Better::Less, cpu));
        section.keep(format!("list {count}"), all);
        first = first.or(Some(repository));
    }
    Ok(section)
}

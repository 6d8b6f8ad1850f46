//! Rounds of measurements, in the order A B C A B C, so that other load on the machine affects all servers
//! alike.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::machine::Share;
use crate::servers::{Peer, Server};

/// The pause between two servers.
const PAUSE: Duration = Duration::from_millis(30);

/// One round with one server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    /// Bytes of bodies, in both directions.
    pub(crate) bytes: u64,
    /// Seconds from sending the first request to the first byte of its response body.
    pub(crate) first_byte: Option<f64>,
    pub(crate) usage: Share,
}

/// The rounds with one server, without the first one, which warms up.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) peer: Peer,
    pub(crate) rounds: Vec<Round>,
}

impl Series {
    /// The median of a value over all rounds.
    pub(crate) fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }

    /// The distance between the quartiles, relative to the median.
    pub(crate) fn spread(&self, of: impl Fn(&Round) -> f64) -> f64 {
        let mut values: Vec<f64> = self.rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| values.get(values.len() * quarter / 4).copied().unwrap_or(0.0);
        let middle = median(values.clone());
        if middle > 0.0 { (at(3) - at(1)) / middle } else { 0.0 }
    }

    /// Seconds of the server's CPU time per GiB, over all rounds.
    pub(crate) fn cpu_per_gib(&self) -> f64 {
        let cpu: f64 = self.rounds.iter().map(|round| round.usage.server).sum();
        let bytes: u64 = self.rounds.iter().map(|round| round.bytes).sum();
        cpu / (bytes as f64 / GIB)
    }

    /// Microseconds of the server's CPU time per request, over all rounds.
    pub(crate) fn cpu_per_request(&self) -> f64 {
        let cpu: f64 = self.rounds.iter().map(|round| round.usage.server).sum();
        let requests: u64 = self.rounds.iter().map(|round| round.requests).sum();
        cpu * 1e6 / requests as f64
    }

    /// The share of the machine that other processes used.
    pub(crate) fn foreign(&self) -> f64 {
        self.median(|round| round.usage.foreign)
    }
}

pub(crate) const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1024.0 * MIB;

/// MiB per second.
pub(crate) fn mib_per_second(round: &Round) -> f64 {
    round.bytes as f64 / MIB / round.seconds
}

/// Requests per second.
pub(crate) fn requests_per_second(round: &Round) -> f64 {
    round.requests as f64 / round.seconds
}

/// Measures each server once per round; the first round does not count.
pub(crate) async fn interleave<'a>(
    servers: impl IntoIterator<Item = &'a Server> + Clone,
    rounds: usize,
    mut each: impl AsyncFnMut(&'a Server) -> Result<Round>,
) -> Result<Vec<Series>> {
    let empty = |server: &Server| Series { peer: server.peer, rounds: Vec::new() };
    let mut all: Vec<_> = servers.clone().into_iter().map(empty).collect();
    for round in 0..=rounds {
        for (server, series) in servers.clone().into_iter().zip(&mut all) {
            // Lets the previous server finish work such as garbage collection.
            tokio::time::sleep(PAUSE).await;
            let measured = each(server).await?;
            if round > 0 {
                series.rounds.push(measured);
            }
        }
    }
    Ok(all)
}

/// The median; 0 if there are no values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    match values.len() % 2 {
        0 if middle > 0 => f64::midpoint(at(middle - 1), at(middle)),
        _ => at(middle),
    }
}

/// The value that `part` of all values are below.
pub(crate) fn percentile(sorted: &[f64], part: f64) -> f64 {
    let below = |index: usize| (index as f64) < part * sorted.len() as f64;
    let index = (0..sorted.len()).rev().find(|index| below(*index));
    index.and_then(|index| sorted.get(index)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![]), 0.0);
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.99), 99.0);
        assert_eq!(percentile(&values, 0.5), 50.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}

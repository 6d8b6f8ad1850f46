//! The output: one row for each value, with ratios that are better the larger they are, and the aims of the
//! design.

use serde::Serialize;

use crate::measure::{Round, Series};
use crate::servers::Peer;

/// A row is marked if other processes used more of the machine than this.
const FOREIGN: f64 = 0.05;
/// A row is marked if its rounds differ more than this.
const SPREAD: f64 = 0.15;
/// A row is marked if the load generator used more of a core than this, since it may be the bottleneck.
const CLIENT: f64 = 0.9;

/// One measured value.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    better: Better,
    pub(crate) values: Vec<(Peer, f64)>,
    aim: Option<Aim>,
    /// `None` without an aim, or without the peer that it refers to.
    met: Option<bool>,
    marks: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    More,
    Less,
}

/// An aim of the design.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Aim {
    /// This many times as good as rest-server.
    RestServer(f64),
    /// At most this value.
    AtMost(f64),
    /// At least this value.
    AtLeast(f64),
}

impl Row {
    /// One value for each server.
    pub(crate) fn new(
        name: impl Into<String>,
        unit: &'static str,
        better: Better,
        values: Vec<(Peer, f64)>,
    ) -> Self {
        let name = name.into();
        Self { name, unit, better, values, aim: None, met: None, marks: String::new() }
    }

    /// A row about Keepgate alone.
    pub(crate) fn alone(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self::new(name, unit, Better::Less, vec![(Peer::Keepgate, value)])
    }

    /// The medians over all rounds, with marks if they are not reliable.
    pub(crate) fn medians(
        name: impl Into<String>,
        unit: &'static str,
        better: Better,
        all: &[Series],
        of: impl Fn(&Round) -> f64,
    ) -> Self {
        let values = all.iter().map(|series| (series.peer, series.median(&of))).collect();
        let mut row = Self::new(name, unit, better, values);
        if all.iter().any(|series| series.foreign() > FOREIGN) {
            row.marks.push('~');
        }
        if all.iter().any(|series| series.spread(&of) > SPREAD) {
            row.marks.push('±');
        }
        let busy = |round: &Round| round.usage.client / round.seconds;
        if all.iter().any(|series| series.median(busy) > CLIENT) {
            row.marks.push('c');
        }
        row
    }

    /// Adds an aim.
    pub(crate) fn aim(mut self, aim: Aim) -> Self {
        let ours = self.value(Peer::Keepgate);
        self.met = match aim {
            Aim::RestServer(times) => self.ratio(Peer::RestServer).map(|ratio| ratio >= times),
            Aim::AtMost(limit) => ours.map(|value| value <= limit),
            Aim::AtLeast(limit) => ours.map(|value| value >= limit),
        };
        self.aim = Some(aim);
        self
    }

    fn value(&self, of: Peer) -> Option<f64> {
        let (_, value) = self.values.iter().find(|(peer, _)| *peer == of)?;
        Some(*value)
    }

    /// How much better Keepgate is than another server.
    fn ratio(&self, than: Peer) -> Option<f64> {
        let (ours, theirs) = (self.value(Peer::Keepgate)?, self.value(than)?);
        let ratio = match self.better {
            Better::More => ours / theirs,
            Better::Less => theirs / ours,
        };
        ratio.is_finite().then_some(ratio)
    }

    fn line(&self, columns: &[Peer]) -> String {
        let ours = self.value(Peer::Keepgate).map_or("-".to_owned(), number);
        let mut line = format!("{:<36} {:>8} {ours:>9}", self.name, self.unit);
        for peer in columns.iter().filter(|peer| **peer != Peer::Keepgate) {
            let value = self.value(*peer).map_or(String::new(), number);
            let ratio = self.ratio(*peer).map_or(String::new(), |ratio| format!("×{ratio:.2}"));
            line += &format!(" {value:>11} {ratio:>7}");
        }
        let aim = match self.aim {
            Some(Aim::RestServer(times)) => format!("×{times:.1}"),
            Some(Aim::AtMost(limit)) => format!("≤ {}", number(limit)),
            Some(Aim::AtLeast(limit)) => format!("≥ {}", number(limit)),
            None => String::new(),
        };
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        line += &format!("  {aim:<7} {met:<6} {}", self.marks);
        line.truncate(line.trim_end().len());
        line
    }
}

/// Three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The heading: a column for Keepgate and two for each other server.
pub(crate) fn heading(columns: &[Peer]) -> String {
    let mut line = format!("  {:<36} {:>8} {:>9}", "", "", Peer::Keepgate);
    for peer in columns.iter().filter(|peer| **peer != Peer::Keepgate) {
        line += &format!(" {peer:>11} {:>7}", "ratio");
    }
    line + "  aim"
}

/// Rows with a title and notes.
pub(crate) fn section(title: &str, rows: &[Row], notes: &[String], columns: &[Peer]) -> String {
    let lines = rows.iter().map(|row| row.line(columns)).chain(notes.iter().cloned());
    lines.fold(format!("{title}\n"), |text, line| text + "  " + &line + "\n")
}

/// Explains the marks.
pub(crate) const LEGEND: &str = "\
ratio: how much better Keepgate is; above 1, Keepgate is better, whatever the unit.
~  other processes used more than 5 % of the machine; measure again when it is idle.
±  the quartiles of a server's rounds are more than 15 % apart.
c  the load generator used more than 90 % of a core; the server may be capable of more.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_better_the_larger_they_are() {
        let values = || vec![(Peer::Keepgate, 20.0), (Peer::RestServer, 10.0)];
        let more = Row::new("a", "x/s", Better::More, values()).aim(Aim::RestServer(1.5));
        assert_eq!((more.ratio(Peer::RestServer), more.met), (Some(2.0), Some(true)));
        let less = Row::new("a", "s", Better::Less, values()).aim(Aim::RestServer(1.0));
        assert_eq!((less.ratio(Peer::RestServer), less.met), (Some(0.5), Some(false)));
        assert_eq!(Row::alone("a", "s", 2.0).aim(Aim::AtMost(1.0)).met, Some(false));
        assert_eq!(Row::alone("a", "s", 2.0).aim(Aim::RestServer(1.0)).met, None);
    }

    #[test]
    fn rows_name_what_is_missing() {
        let row = Row::alone("share", "µs", 12.34).aim(Aim::AtMost(10.0));
        let line = row.line(&[Peer::Keepgate, Peer::RestServer]);
        assert!(
            line.contains("12.3") && line.contains("≤ 10.0") && line.contains("MISSED"),
            "{line}"
        );
    }
}

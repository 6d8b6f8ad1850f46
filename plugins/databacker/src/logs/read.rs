//! `/admin/instances/{id}/logs` and `/admin/logs/{log}`: what there is of logs, and their lines, as they are or as they
//! come.
//!
//! A log is passed on by the host if that is possible, and otherwise read piece by piece.

use std::time::Duration;

use keepgate_sdk::range::Range;
use keepgate_sdk::topics::{News, Subscription};
use keepgate_sdk::{
    Call, Failure, Method, Page, Part, Reply, Request, Store, StreamWriter, Timestamp, pipes,
};
use serde_json::{Value, json};

use super::keep::{Log, Piece};
use super::lines::{self, Level};
use super::{NDJSON, topic};
use crate::caller::{Administrator, Wish, administrator};
use crate::media::{self, Resource};
use crate::problem::{Answer, Problem};
use crate::run::Status;
use crate::runs;
use crate::settings::Settings;
use crate::{layout, listing};

const TEXT: &str = "text/plain; charset=utf-8";
const PAGE: usize = 100;
const MOST: usize = 1000;
/// The most pieces that the host joins; a call may have 256 blobs open.
const MOST_JOINED: usize = 200;
/// How long a log is followed: less than a call may take. Clients ask again.
const FOLLOWED: Duration = Duration::from_secs(50 * 60);
/// After which silence an empty line is written, by which one notices that a client has gone.
const SILENCE: Duration = Duration::from_secs(20);
/// After which time without lines the log of no known run has ended.
const SETTLED: Duration = Duration::from_secs(24 * 3600);

/// `GET /admin/instances/{id}/logs`
pub(crate) fn list(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let media_type = media::accepted(&call.request, Resource::LogList)?;
    let instance = admin.past_instance(&call.param::<String>("id")?)?;
    let page = Page::of(&call.request, PAGE, MOST)?;
    let prefix = layout::logs(&instance.id);
    let logs = listing::behind::<Log>(&prefix, listing::place(&page)?);
    let filled = page.fill(logs, |(place, _)| place.clone())?;
    let ids: Vec<&str> =
        filled.items.iter().map(|(_, log)| log.run.as_deref().unwrap_or("-")).collect();
    let statuses = runs::keep::statuses(&instance.id, &ids, Timestamp::now())?;
    let logs = filled.items.iter().map(|(_, log)| log).zip(statuses);
    let shown: Vec<Value> = logs.map(|(log, status)| summary(log, status)).collect();
    media::list(&call.request, &media_type, &filled, &shown)
}

/// The summary of a log. `completion` is 200 if its run went well, 500 if not, 202 while it runs, and 504 if it is lost; if
/// the run is not known, as of clients that send no traces, the lines say whether there was an error.
fn summary(log: &Log, status: Option<Status>) -> Value {
    let completion = match status {
        Some(Status::Ok) => 200,
        Some(Status::Error) => 500,
        Some(Status::Running) => 202,
        Some(Status::Unknown) => 504,
        None => {
            if log.failed {
                500
            } else {
                200
            }
        }
    };
    let mut summary = json!({
        "id": log.id,
        "date": log.first.as_secs(),
        "completion": completion,
        "size": log.bytes,
        "lines": log.lines,
    });
    if let Some(members) = summary.as_object_mut().filter(|_| log.dropped > 0) {
        members.insert("droppedLines".to_owned(), log.dropped.into());
    }
    summary
}

/// How a log is to be sent.
struct Wanted {
    /// Whether for people.
    plain: bool,
    /// Lines of at least this level.
    level: Option<Level>,
    follow: bool,
}

/// `GET /admin/logs/{log}`
pub(crate) fn stream(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let wanted = Wanted::of(&call.request)?;
    let source = Source::find(&admin, &call.param::<String>("log")?)?;
    let head = Reply::ok()
        .header("content-type", if wanted.plain { TEXT } else { NDJSON })
        .header("vary", "accept");
    let is_head = call.request.method == Method::Head;
    if wanted.follow {
        return match is_head {
            true => Ok(head),
            false => follow(head, &source, &wanted),
        };
    }
    let pieces: Vec<Piece> = source.pieces(0)?.into_iter().map(|(_, piece)| piece).collect();
    if wanted.level.is_some() || wanted.plain {
        return match is_head {
            true => Ok(head),
            false => Ok(head.stream(|out| write(out, &pieces, &wanted))?),
        };
    }
    whole(&call.request, head, &source, &pieces)
}

/// A log as it is, or the part of it that is asked for, if no lines can come any more.
fn whole(request: &Request, head: Reply, source: &Source, pieces: &[Piece]) -> Answer {
    let total = pieces.iter().map(|piece| piece.bytes).sum();
    let has_ended = source.has_ended()?;
    let range = has_ended.then(|| request.header("range")).flatten();
    let (from, length) = match Range::parse(range) {
        Range::Whole => (0, total),
        _ if total == 0 => (0, 0),
        Range::Part(part) => bounds(part, total).ok_or(Failure::OutOfRange(total))?,
        Range::Malformed => return Err(Problem::new(416, "the range makes no sense")),
    };
    let head = if has_ended { head.header("accept-ranges", "bytes") } else { head };
    let head = match matches!(Range::parse(range), Range::Part(_)) && total > 0 {
        true => Reply { status: 206, ..head }
            .header("content-range", format!("bytes {from}-{}/{total}", from + length - 1)),
        false => head,
    };
    if request.method == Method::Head {
        return Ok(head.header("content-length", length));
    }
    let (store, slices) = (Store::open(layout::STORE)?, slices(pieces, from, length));
    if slices.len() > MOST_JOINED {
        return Ok(head.stream(|out| {
            for (key, part) in slices {
                let data = store.get(key, part)?.data;
                while let Some(bytes) = data.read(64 << 10)? {
                    out.write(&bytes)?;
                }
            }
            Ok(())
        })?);
    }
    let bodies = slices.into_iter().map(|(key, part)| Ok(store.get(key, part)?.data));
    Ok(head.body(pipes::join(bodies.collect::<Result<_, Failure>>()?)?))
}

/// Offset and length of a part; none if no byte of it is there.
fn bounds(part: Part, total: u64) -> Option<(u64, u64)> {
    let (from, length) = match part {
        Part::Whole => (0, total),
        Part::Slice((from, length)) => (from, length.unwrap_or(u64::MAX)),
        Part::Suffix(length) => (total.saturating_sub(length), length),
    };
    let length = length.min(total.saturating_sub(from));
    (length > 0).then_some((from, length))
}

/// The parts of pieces that are a part of the log.
fn slices(pieces: &[Piece], from: u64, length: u64) -> Vec<(&str, Part)> {
    let (end, mut begin, mut slices) = (from.saturating_add(length), 0_u64, Vec::new());
    for piece in pieces {
        let (first, last) = (from.max(begin), end.min(begin + piece.bytes));
        if first < last {
            slices.push((piece.key.as_str(), Part::Slice((first - begin, Some(last - first)))));
        }
        begin += piece.bytes;
    }
    slices
}

/// Writes pieces as they are wanted. Only one is in memory at a time.
fn write(out: &mut StreamWriter, pieces: &[Piece], wanted: &Wanted) -> Result<(), Failure> {
    let store = Store::open(layout::STORE)?;
    for piece in pieces {
        let bytes = store.get(&piece.key, Part::Whole)?.data.bytes(piece.bytes)?;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if wanted.level.is_some_and(|least| Level::of(line).is_some_and(|level| level < least))
            {
                continue;
            }
            match wanted.plain {
                true => {
                    out.write(&lines::plain(line))?;
                    out.write(b"\n")?;
                }
                false => out.write(line)?,
            }
        }
    }
    Ok(())
}

/// Sends what there is, and then what comes, until the run has ended.
fn follow(head: Reply, source: &Source, wanted: &Wanted) -> Answer {
    let (begun, mut sent) = (Timestamp::now(), 0);
    let subscription = Subscription::open(&topic(&source.instance, &source.id))?;
    Ok(head.header("cache-control", "no-store").stream(|out| {
        loop {
            // Asked before the lines are read: those that came before its end are sent.
            let has_ended = source.run_has_ended()?;
            let pieces = source.pieces(sent)?;
            sent = pieces.last().map_or(sent, |(number, _)| number + 1);
            let pieces: Vec<Piece> = pieces.into_iter().map(|(_, piece)| piece).collect();
            write(out, &pieces, wanted)?;
            out.flush()?;
            if has_ended || Timestamp::now().since(begun) > FOLLOWED {
                return Ok(());
            }
            match subscription.next(SILENCE) {
                News::Message(_) | News::Missed => {}
                News::Nothing => out.write(b"\n")?,
                News::Closed => return Ok(()),
            }
        }
    })?)
}

impl Wanted {
    fn of(request: &Request) -> Result<Self, Problem> {
        let offered = [NDJSON, TEXT];
        let accepted = request.accepts(&offered).ok_or_else(|| {
            let message = "none of the media types in Accept can be sent";
            Problem::with(406, message, "available", offered.to_vec()).header("vary", "accept")
        })?;
        let level = request.query("level").map(|text| {
            let message =
                format!("level: {text:?} is none of trace, debug, info, warn, error and fatal");
            Level::parse(text).ok_or_else(|| Problem::new(400, message))
        });
        let follow = match request.query("follow") {
            None | Some("false") => false,
            Some("true" | "") => true,
            Some(text) => {
                return Err(Problem::new(
                    400,
                    format!("follow: {text:?} is neither true nor false"),
                ));
            }
        };
        Ok(Self { plain: accepted == TEXT, level: level.transpose()?, follow })
    }
}

/// The log that is read, which may have no lines yet if its run is known.
pub(crate) struct Source {
    pub(crate) instance: String,
    pub(crate) id: String,
    log: Option<Log>,
}

impl Source {
    /// The log with this id, or of the run with this id, if this administrator may see it.
    pub(crate) fn find(admin: &Administrator, id: &str) -> Result<Self, Problem> {
        let none = || Problem::not_found("there is no such log");
        if id.len() > 128 || id.contains('\0') {
            return Err(none());
        }
        let mut found = Log::find(id)?.map(Self::of);
        if found.is_none()
            && let Some((index, kept)) = runs::keep::find(id)?
        {
            let log = Log::find(&kept.run.id)?.filter(|log| log.instance == index.instance);
            found = Some(Self { instance: index.instance, id: kept.run.id, log });
        }
        let found = found.ok_or_else(none)?;
        admin.past_instance(&found.instance).map_err(|_| none())?;
        Ok(found)
    }

    fn of(log: Log) -> Self {
        Self { instance: log.instance.clone(), id: log.id.clone(), log: Some(log) }
    }

    /// Its pieces from this number on, with their numbers.
    pub(crate) fn pieces(&self, from: u64) -> Result<Vec<(u64, Piece)>, Failure> {
        Log::pieces(&self.instance, &self.id, from)
    }

    /// None if the run is not known.
    fn status(&self) -> Result<Option<Status>, Failure> {
        Ok(runs::keep::statuses(&self.instance, &[&self.id], Timestamp::now())?.pop().flatten())
    }

    fn run_has_ended(&self) -> Result<bool, Failure> {
        Ok(self.status()?.is_some_and(|status| status != Status::Running))
    }

    /// Whether no lines will come any more, as far as one can know.
    fn has_ended(&self) -> Result<bool, Failure> {
        let silent = || {
            let updated = self.log.as_ref().map(|log| log.updated).unwrap_or_default();
            Timestamp::now().since(updated) > SETTLED
        };
        Ok(self.status()?.map_or_else(silent, |status| status != Status::Running))
    }
}

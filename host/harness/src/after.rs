//! The world at a case's end: what changed must have been expected, and what was expected must have
//! come.

use std::collections::{BTreeMap, BTreeSet};

use crate::case::{Allow, Kept, Short};
use crate::judge;
use crate::mismatch::{Change, Mismatch, Place, told};
use crate::play::Player;
use crate::reply::job_differs;
use crate::world::{Blobs, Call, Heard, MAIN};

pub(crate) async fn judge(player: &mut Player<'_>, place: &Place) -> Result<(), String> {
    let allowed = |what| player.case.allow.contains(&what);
    let (any_blobs, any_jobs) = (allowed(Allow::Blobs), allowed(Allow::Jobs));
    let (any_log, any_faults) = (allowed(Allow::Log), allowed(Allow::Faults));
    let any_calls = allowed(Allow::Calls);
    // Looked at first: a job that runs changes blobs.
    jobs(player, any_jobs).await?;
    for (store, now) in player.world.blobs().await? {
        blobs(player, &store, &now, any_blobs, place)?;
    }
    for folder in &player.case.after.folders {
        let folder = player.values.fill(folder)?;
        if !player.world.has_folder(&folder).await {
            player.wrong.push(Mismatch::new("folders", format!("there is no folder {folder:?}")));
        }
    }
    let heard = std::mem::take(&mut *player.world.ear.heard());
    log(player, &heard, any_log);
    calls(player, &heard, any_calls)?;
    counters(player, &heard, place);
    gauges(player, &heard, place);
    // What was heard is shown to whoever asks why it failed.
    *player.world.ear.heard() = heard;
    if !any_faults {
        let unmet = player.world.unmet_faults().into_iter();
        player.wrong.extend(unmet.map(|text| Mismatch::new("faults", text)));
    }
    Ok(())
}

async fn jobs(player: &mut Player<'_>, allowed: bool) -> Result<(), String> {
    let runs_on = player.case.after.jobs.iter().flatten().any(|rule| {
        rule.state.as_deref().is_some_and(|state| state == "running" || state == "queued")
    });
    if !runs_on {
        player.world.settle().await?;
    }
    let found = player.world.jobs().await?;
    let Some(rules) = &player.case.after.jobs else {
        let started = found.iter().filter(|job| job.origin != "operator").count();
        if started > 0 && !allowed {
            let text = found.iter().map(|job| {
                format!("{} {}: {} ({})", job.kind, job.key, job.state.as_str(), job.message)
            });
            let text = text.collect::<Vec<_>>().join("\n");
            let text = format!("jobs that nobody expects; write `after.jobs`:\n{text}");
            player.wrong.push(Mismatch::new("jobs", text));
        }
        return Ok(());
    };
    if rules.len() != found.len() {
        let text = format!("{} jobs expected, {} found", rules.len(), found.len());
        player.wrong.push(Mismatch::new("jobs", text));
    }
    let mut wrong = Vec::new();
    for (number, (job, rule)) in found.iter().zip(rules).enumerate() {
        if let Some(different) = job_differs(job, rule, player.known())? {
            wrong.push(Mismatch::new(&format!("job {}", number + 1), different));
        }
    }
    player.wrong.extend(wrong);
    Ok(())
}

/// One store against what it held before, and what is expected of it now.
fn blobs(
    player: &mut Player<'_>,
    store: &str,
    now: &Blobs,
    allowed: bool,
    place: &Place,
) -> Result<(), String> {
    let (expected, place) = if store == MAIN {
        (Some(&player.case.after.blobs), place.key("after").key("blobs"))
    } else {
        let place = place.key("after").key("store").key(store);
        (player.case.after.store.get(store), place)
    };
    let mut rules = BTreeMap::new();
    for (key, Short(kept)) in expected.into_iter().flatten() {
        rules.insert(player.values.fill(key)?, (key, kept));
    }
    let nothing = Blobs::new();
    let before = player.before.get(store).unwrap_or(&nothing);
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).chain(rules.keys()).collect();
    let mut wrong = Vec::new();
    for key in keys {
        let (found, was) = (now.get(key), before.get(key));
        let what =
            if store == MAIN { format!("blob {key}") } else { format!("blob {store}:{key}") };
        let differs = match rules.get(key) {
            Some((_, kept)) => differs(found, kept, player)?,
            None if allowed || same(found, was) => None,
            None => Some(unexpected(found, was)),
        };
        let Some(text) = differs else { continue };
        let (written, rule) = match rules.get(key) {
            Some((written, kept)) => ((*written).clone(), kept.rule()),
            None => (key.clone(), Default::default()),
        };
        let path = place.key(&written);
        let change = match (found, was) {
            (Some((_, bytes)), _) => Change::set(path, told(bytes, &rule, &player.values)),
            (None, Some(_)) => Change::set(path, false.into()),
            (None, None) => Change::remove(path),
        };
        wrong.push(Mismatch::new(&what, text).with(change));
    }
    player.wrong.extend(wrong);
    Ok(())
}

type Found<'a> = Option<&'a (keepgate_store::Info, bytes::Bytes)>;

fn same(found: Found<'_>, was: Found<'_>) -> bool {
    match (found, was) {
        (None, None) => true,
        (Some((now, bytes)), Some((then, old))) => {
            bytes == old
                && now.content_type == then.content_type
                && now.metadata == then.metadata
                && now.tags == then.tags
        }
        _ => false,
    }
}

fn unexpected(found: Found<'_>, was: Found<'_>) -> String {
    match (found, was) {
        (Some((_, bytes)), None) => {
            format!("it is there, and nobody expects it:\n{}", judge::shown(bytes))
        }
        (Some((_, bytes)), Some((_, old))) => {
            let old = String::from_utf8_lossy(old);
            let change = judge::lines(&old, &String::from_utf8_lossy(bytes));
            format!("it changed, and nobody expects that:\n{change}")
        }
        (None, _) => "it is gone, and nobody expects that".to_owned(),
    }
}

/// How a blob is not what it must be.
fn differs(found: Found<'_>, kept: &Kept, player: &Player<'_>) -> Result<Option<String>, String> {
    let Some((info, bytes)) = found else {
        return Ok((!kept.absent).then(|| "it is not there".to_owned()));
    };
    if kept.absent {
        return Ok(Some(format!("it must not be there; it holds:\n{}", judge::shown(bytes))));
    }
    if let Some(different) = judge::bytes(bytes, &kept.rule(), player.known())? {
        return Ok(Some(different));
    }
    if kept.content_type.is_some() && kept.content_type != info.content_type {
        let (should, is) = (&kept.content_type, &info.content_type);
        return Ok(Some(format!("content type {should:?} expected, got {is:?}")));
    }
    if let Some(expected) = &kept.metadata {
        let is: BTreeMap<String, String> = info.metadata.iter().cloned().collect();
        if *expected != is {
            return Ok(Some(format!("metadata {expected:?} expected, got {is:?}")));
        }
    }
    Ok(None)
}

fn log(player: &mut Player<'_>, heard: &Heard, allowed: bool) {
    let patterns = &player.case.after.log;
    for pattern in patterns {
        if !heard.log.iter().any(|line| pattern.0.is_match(line)) {
            let lines =
                if heard.log.is_empty() { "nothing".to_owned() } else { heard.log.join("\n") };
            let text = format!("nothing matches `{}` in:\n{lines}", pattern.0);
            player.wrong.push(Mismatch::new("log", text));
        }
    }
    let loud = |line: &&String| line.starts_with("warn: ") || line.starts_with("error: ");
    let told = |line: &&String| patterns.iter().any(|pattern| pattern.0.is_match(line));
    for line in heard.log.iter().filter(loud).filter(|line| !told(line) && !allowed) {
        player.wrong.push(Mismatch::new("log", format!("nobody expects: {line}")));
    }
}

/// What the plugin asked for although nobody granted it, or although the case forbids it.
fn calls(player: &mut Player<'_>, heard: &Heard, allowed: bool) -> Result<(), String> {
    let forbidden = player.case.after.no_calls.iter().map(|start| player.values.fill(start));
    let forbidden = forbidden.collect::<Result<Vec<_>, _>>()?;
    for call in &heard.calls {
        let line = call.to_string();
        if let Some(start) = forbidden.iter().find(|start| line.starts_with(start.as_str())) {
            player.wrong.push(Mismatch::new("calls", format!("`{start}` must not be: {line}")));
        }
        if !allowed && is_ungranted(call) {
            let text = format!("the world does not grant what the plugin asks for: {line}");
            player.wrong.push(Mismatch::new("calls", text));
        }
    }
    Ok(())
}

/// Whether a call failed because the mount does not have what it is for.
fn is_ungranted(call: &Call) -> bool {
    match call.failed {
        Some("denied") => matches!(call.import, "blobs.open" | "etcd.take"),
        Some("unsupported") => call.import.starts_with("jobs.") || call.import == "pipes.spool",
        _ => false,
    }
}

fn counters(player: &mut Player<'_>, heard: &Heard, place: &Place) {
    let mut found = BTreeMap::<String, u64>::new();
    for count in &heard.counts {
        let name = format!("{}{{{}}}", count.metric, count.labels.join(","));
        if let Some(why) = &count.refused {
            player.wrong.push(Mismatch::new("counters", format!("{name} was dropped: {why}")));
        }
        let sum = found.entry(name).or_default();
        *sum = sum.saturating_add(count.by);
    }
    let Some(expected) = &player.case.after.counters else { return };
    // What may be any number is taken as it is.
    let expected = expected.iter().map(|(name, rule)| {
        let any = || found.get(name).copied().unwrap_or(1);
        (name.clone(), rule.0.unwrap_or_else(any))
    });
    let expected: BTreeMap<String, u64> = expected.collect();
    if expected != found {
        let text = |all: &BTreeMap<String, u64>| {
            all.iter().map(|(name, value)| format!("{name} {value}\n")).collect::<String>()
        };
        let mut table = toml_edit::InlineTable::new();
        for (name, value) in &found {
            table.insert(name, i64::try_from(*value).unwrap_or(i64::MAX).into());
        }
        let change = Change::set(place.key("after").key("counters"), table.into());
        let text = judge::lines(&text(&expected), &text(&found));
        player.wrong.push(Mismatch::new("counters", text).with(change));
    }
}

fn gauges(player: &mut Player<'_>, heard: &Heard, place: &Place) {
    let mut found = BTreeMap::<String, f64>::new();
    for gauge in &heard.gauges {
        let name = format!("{}{{{}}}", gauge.metric, gauge.labels.join(","));
        if let Some(why) = &gauge.refused {
            player.wrong.push(Mismatch::new("gauges", format!("{name} was dropped: {why}")));
        }
        found.insert(name, gauge.value);
    }
    let Some(expected) = &player.case.after.gauges else { return };
    // What may be any number is taken as it is.
    let expected = expected.iter().map(|(name, rule)| {
        let any = || found.get(name).copied().unwrap_or_default();
        (name.clone(), rule.0.unwrap_or_else(any))
    });
    let expected: BTreeMap<String, f64> = expected.collect();
    if expected != found {
        let text = |all: &BTreeMap<String, f64>| {
            all.iter().map(|(name, value)| format!("{name} {value}\n")).collect::<String>()
        };
        let mut table = toml_edit::InlineTable::new();
        for (name, value) in &found {
            table.insert(name, (*value).into());
        }
        let change = Change::set(place.key("after").key("gauges"), table.into());
        let text = judge::lines(&text(&expected), &text(&found));
        player.wrong.push(Mismatch::new("gauges", text).with(change));
    }
}

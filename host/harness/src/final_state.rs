//! Checks the state in which a case ends: every change was expected, and everything that was expected
//! happened.

use std::collections::{BTreeMap, BTreeSet};

use keepgate_runtime::capability;

use crate::case::{Allow, Case, Kept, Short};
use crate::compare::{self, Known, job};
use crate::fixture::{Blobs, Call, Fixture, MAIN, Recorded};
use crate::mismatch::{Change, Mismatch, Place, written};

/// A case that has ended.
pub(crate) struct FinalState<'a> {
    pub(crate) fixture: &'a Fixture,
    pub(crate) case: &'a Case,
    pub(crate) known: Known<'a>,
    /// The content of the stores before the plugin changed anything.
    pub(crate) before: &'a BTreeMap<String, Blobs>,
    pub(crate) wrong: Vec<Mismatch>,
}

/// Adds every difference from what the case expects.
pub(crate) async fn check(state: &mut FinalState<'_>, place: &Place) -> Result<(), String> {
    let allowed = |what| state.case.allow.contains(&what);
    let (any_blobs, any_jobs) = (allowed(Allow::Blobs), allowed(Allow::Jobs));
    let (any_log, any_faults) = (allowed(Allow::Log), allowed(Allow::Faults));
    let any_calls = allowed(Allow::Calls);
    // First, because running jobs change blobs.
    jobs(state, any_jobs).await?;
    for (store, now) in state.fixture.blobs().await? {
        blobs(state, &store, &now, any_blobs, place)?;
    }
    for folder in &state.case.after.folders {
        let folder = state.known.values.fill(folder)?;
        if !state.fixture.has_folder(&folder).await {
            state.wrong.push(Mismatch::new("folders", format!("folder {folder:?} does not exist")));
        }
    }
    let recorded = std::mem::take(&mut *state.fixture.recorder.recorded());
    log(state, &recorded, any_log)?;
    calls(state, &recorded, any_calls)?;
    counters(state, &recorded, place);
    gauges(state, &recorded, place);
    // The trace of a failed case shows it.
    *state.fixture.recorder.recorded() = recorded;
    if !any_faults {
        let unmet = state.fixture.unmet_faults().into_iter();
        state.wrong.extend(unmet.map(|text| Mismatch::new("faults", text)));
    }
    Ok(())
}

async fn jobs(state: &mut FinalState<'_>, allowed: bool) -> Result<(), String> {
    let runs_on = state.case.after.jobs.iter().flatten().any(|rule| {
        rule.state.as_deref().is_some_and(|state| state == "running" || state == "queued")
    });
    if !runs_on {
        state.fixture.settle().await?;
    }
    let found = state.fixture.jobs().await?;
    let Some(rules) = &state.case.after.jobs else {
        let started = found.iter().filter(|job| job.origin != "operator").count();
        if started > 0 && !allowed {
            let text = found.iter().map(|job| {
                format!("{} {}: {} ({})", job.kind, job.key, job.state.as_str(), job.message)
            });
            let text = text.collect::<Vec<_>>().join("\n");
            let text = format!("unexpected jobs; add `after.jobs`:\n{text}");
            state.wrong.push(Mismatch::new("jobs", text));
        }
        return Ok(());
    };
    if rules.len() != found.len() {
        let text = format!("expected {} jobs, found {}", rules.len(), found.len());
        state.wrong.push(Mismatch::new("jobs", text));
    }
    let mut wrong = Vec::new();
    for (number, (job, rule)) in found.iter().zip(rules).enumerate() {
        if let Some(different) = job::differs(job, rule, state.known)? {
            wrong.push(Mismatch::new(&format!("job {}", number + 1), different));
        }
    }
    state.wrong.extend(wrong);
    Ok(())
}

/// Compares a store with its earlier content and with what is expected of it now.
fn blobs(
    state: &mut FinalState<'_>,
    store: &str,
    now: &Blobs,
    allowed: bool,
    place: &Place,
) -> Result<(), String> {
    let (expected, place) = if store == MAIN {
        (Some(&state.case.after.blobs), place.key("after").key("blobs"))
    } else {
        let place = place.key("after").key("store").key(store);
        (state.case.after.store.get(store), place)
    };
    let mut rules = BTreeMap::new();
    for (key, Short(kept)) in expected.into_iter().flatten() {
        rules.insert(state.known.values.fill(key)?, (key, kept));
    }
    let nothing = Blobs::new();
    let before = state.before.get(store).unwrap_or(&nothing);
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).chain(rules.keys()).collect();
    let mut wrong = Vec::new();
    for key in keys {
        let (found, was) = (now.get(key), before.get(key));
        let what =
            if store == MAIN { format!("blob {key}") } else { format!("blob {store}:{key}") };
        let differs = match rules.get(key) {
            Some((_, kept)) => differs(found, kept, state)?,
            None if allowed || same(found, was) => None,
            None => Some(unexpected(found, was)),
        };
        let Some(text) = differs else { continue };
        let (name, rule) = match rules.get(key) {
            Some((name, kept)) => ((*name).clone(), kept.rule()),
            None => (key.clone(), Default::default()),
        };
        let path = place.key(&name);
        let change = match (found, was) {
            (Some((_, bytes)), _) => Change::set(path, written(bytes, &rule, state.known.values)),
            (None, Some(_)) => Change::set(path, false.into()),
            (None, None) => Change::remove(path),
        };
        wrong.push(Mismatch::new(&what, text).with(change));
    }
    state.wrong.extend(wrong);
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
            format!("unexpected:\n{}", compare::shown(bytes))
        }
        (Some((_, bytes)), Some((_, old))) => {
            let old = String::from_utf8_lossy(old);
            let change = compare::lines(&old, &String::from_utf8_lossy(bytes));
            format!("unexpected change:\n{change}")
        }
        (None, _) => "unexpectedly removed".to_owned(),
    }
}

/// How a blob differs from its rule.
fn differs(
    found: Found<'_>,
    kept: &Kept,
    state: &FinalState<'_>,
) -> Result<Option<String>, String> {
    let Some((info, bytes)) = found else {
        return Ok((!kept.absent).then(|| "it does not exist".to_owned()));
    };
    if kept.absent {
        return Ok(Some(format!("expected none, found:\n{}", compare::shown(bytes))));
    }
    if let Some(different) = compare::bytes(bytes, &kept.rule(), state.known)? {
        return Ok(Some(different));
    }
    if kept.content_type.is_some() && kept.content_type != info.content_type {
        let (should, is) = (&kept.content_type, &info.content_type);
        return Ok(Some(format!("expected content type {should:?}, got {is:?}")));
    }
    if let Some(expected) = &kept.metadata {
        let is: BTreeMap<String, String> = info.metadata.iter().cloned().collect();
        if *expected != is {
            return Ok(Some(format!("expected metadata {expected:?}, got {is:?}")));
        }
    }
    Ok(None)
}

fn log(state: &mut FinalState<'_>, recorded: &Recorded, allowed: bool) -> Result<(), String> {
    let patterns = state.case.after.log.iter().map(|pattern| pattern.regex(state.known.values));
    let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
    for pattern in &patterns {
        if !recorded.log.iter().any(|line| pattern.is_match(line)) {
            let lines = if recorded.log.is_empty() {
                "nothing".to_owned()
            } else {
                recorded.log.join("\n")
            };
            let text = format!("nothing matches `{pattern}` in:\n{lines}");
            state.wrong.push(Mismatch::new("log", text));
        }
    }
    let loud = |line: &&String| line.starts_with("warn: ") || line.starts_with("error: ");
    let named = |line: &&String| patterns.iter().any(|pattern| pattern.is_match(line));
    for line in recorded.log.iter().filter(loud).filter(|line| !named(line) && !allowed) {
        state.wrong.push(Mismatch::new("log", format!("unexpected: {line}")));
    }
    Ok(())
}

/// Calls for capabilities that the mount was not granted, and calls that the case forbids.
fn calls(state: &mut FinalState<'_>, recorded: &Recorded, allowed: bool) -> Result<(), String> {
    let forbidden = state.case.after.no_calls.iter().map(|start| state.known.values.fill(start));
    let forbidden = forbidden.collect::<Result<Vec<_>, _>>()?;
    for call in &recorded.calls {
        let line = call.to_string();
        if let Some(start) = forbidden.iter().find(|start| line.starts_with(start.as_str())) {
            state.wrong.push(Mismatch::new("calls", format!("forbidden call (`{start}`): {line}")));
        }
        if !allowed && is_ungranted(call) {
            let text = format!("the world does not grant what the plugin calls: {line}");
            state.wrong.push(Mismatch::new("calls", text));
        }
    }
    Ok(())
}

/// Whether a call failed because the mount does not have what it is for.
fn is_ungranted(call: &Call) -> bool {
    call.failed.is_some_and(|failure| capability::lacks_grant(call.import, failure))
}

fn counters(state: &mut FinalState<'_>, recorded: &Recorded, place: &Place) {
    let mut found = BTreeMap::<String, u64>::new();
    for count in &recorded.counts {
        let name = format!("{}{{{}}}", count.metric, count.labels.join(","));
        if let Some(why) = &count.refused {
            state.wrong.push(Mismatch::new("counters", format!("{name} was dropped: {why}")));
        }
        let sum = found.entry(name).or_default();
        *sum = sum.saturating_add(count.by);
    }
    let Some(expected) = &state.case.after.counters else { return };
    // A value that may be anything is not compared.
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
        let text = compare::lines(&text(&expected), &text(&found));
        state.wrong.push(Mismatch::new("counters", text).with(change));
    }
}

fn gauges(state: &mut FinalState<'_>, recorded: &Recorded, place: &Place) {
    let mut found = BTreeMap::<String, f64>::new();
    for gauge in &recorded.gauges {
        let name = format!("{}{{{}}}", gauge.metric, gauge.labels.join(","));
        if let Some(why) = &gauge.refused {
            state.wrong.push(Mismatch::new("gauges", format!("{name} was dropped: {why}")));
        }
        found.insert(name, gauge.value);
    }
    let Some(expected) = &state.case.after.gauges else { return };
    // A value that may be anything is not compared.
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
        let text = compare::lines(&text(&expected), &text(&found));
        state.wrong.push(Mismatch::new("gauges", text).with(change));
    }
}

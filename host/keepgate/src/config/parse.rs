//! From TOML to the configuration's types. Serde stops at the first error; to find all of them, each
//! value that it rejects is removed and the rest is read again.

use std::collections::HashSet;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::problems::Problems;

/// What was removed because serde rejected it.
struct Removed {
    /// Whether the key is unknown: without it, the rest is as complete as before.
    unknown: bool,
    /// Names of the keys down to it, for example `mount.limits.cpu`.
    path: Vec<String>,
    /// Of the table that it was in.
    table: Range<usize>,
}

/// Reads a configuration and reports everything that is wrong with its syntax, keys and types. `None`
/// if a value is missing or was rejected; unknown keys are only reported.
pub(super) fn parse<'i, T: Deserialize<'i>>(text: &'i str, problems: &mut Problems) -> Option<T> {
    let (mut root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        problems.add(error.span().unwrap_or_default(), error.message());
    }
    if !errors.is_empty() {
        return None;
    }
    let mut complete = true;
    let mut rejected = HashSet::new();
    loop {
        let error = match T::deserialize(Deserializer::from(root.clone())) {
            Ok(parsed) => return complete.then_some(parsed),
            Err(error) => error,
        };
        let (span, message) = (error.span().unwrap_or_default(), error.message());
        let missing =
            message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let was_rejected =
            missing.is_some_and(|name| rejected.contains(&(span.clone(), name.to_owned())));
        let table = root.span();
        let removed = remove(root.get_mut(), &table, &span);
        complete &= removed.as_ref().is_some_and(|removed| removed.unknown);
        // A value that is missing because it was rejected before is no further problem.
        if !was_rejected {
            let path = removed.as_ref().filter(|removed| !removed.unknown);
            let path = path.map(|removed| removed.path.join("."));
            let path = path.map(|path| format!("{path}: ")).unwrap_or_default();
            problems.add(span, format!("{path}{message}"));
        }
        // Without a place for the error there is nothing to remove, and the next error would be the same.
        let mut removed = removed?;
        if let Some(name) = removed.path.pop() {
            rejected.insert((removed.table, name));
        }
    }
}

/// Removes what an error at `span` is about: a key, a value, or an item of an array of tables.
fn remove(table: &mut DeTable<'_>, of: &Range<usize>, span: &Range<usize>) -> Option<Removed> {
    let mut found = None;
    for (key, value) in table.iter_mut() {
        let name = key.get_ref().to_string();
        let place = value.span();
        let within = match value.get_mut() {
            _ if key.span() == *span => {
                let path = vec![name.clone()];
                found = Some((name, Removed { unknown: true, path, table: of.clone() }));
                break;
            }
            DeValue::Table(inner) => remove(inner, &place, span),
            DeValue::Array(items) => remove_from_array(items, span),
            _ => None,
        };
        if let Some(mut removed) = within {
            removed.path.insert(0, name);
            return Some(removed);
        }
        if place == *span || (is_leaf(value.get_ref()) && contains(&place, span)) {
            let path = vec![name.clone()];
            found = Some((name, Removed { unknown: false, path, table: of.clone() }));
            break;
        }
    }
    let (name, removed) = found?;
    table.remove(name.as_str());
    Some(removed)
}

/// Whether a value has no tables in it. Only then it stands where its span says: the tables of an array
/// may be far apart.
fn is_leaf(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => false,
        DeValue::Array(items) => items.iter().all(|item| is_leaf(item.get_ref())),
        _ => true,
    }
}

fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// The same in the tables of an array. Other items are left to the caller, who removes the array.
fn remove_from_array(items: &mut DeArray<'_>, span: &Range<usize>) -> Option<Removed> {
    for item in items.iter_mut() {
        let place = item.span();
        let DeValue::Table(table) = item.get_mut() else { continue };
        if let Some(removed) = remove(table, &place, span) {
            return Some(removed);
        }
    }
    let is_item = |item: &Spanned<DeValue<'_>>| item.span() == *span;
    let index = items.iter().position(|item| is_item(item) && item.get_ref().is_table())?;
    let mut rest = DeArray::new();
    let others = items.iter().enumerate().filter(|(other, _)| *other != index);
    others.for_each(|(_, item)| rest.push(item.clone()));
    *items = rest;
    Some(Removed { unknown: false, path: Vec::new(), table: span.clone() })
}

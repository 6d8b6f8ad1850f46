//! Whether more fits into the limits, and what is said if it does not.

use std::collections::HashMap;
use std::sync::Arc;

use bytesize::ByteSize;

use super::rules::{Charge, Compiled, Counted, Scope};
use super::totals::{Amount, Totals};

/// Limit, use and reservations.
type Sums = (Option<Amount>, Amount, Amount);

/// Those of all that a charge is for: the store, a folder and a user.
pub(super) fn scopes(
    rules: &Compiled,
    used: &Totals,
    reserved: &Totals,
    charge: &Charge,
) -> [Sums; 3] {
    [
        (rules.total(), used.store, reserved.store),
        sums(charge.folder.as_ref(), &used.folders, &reserved.folders),
        sums(charge.user.as_ref(), &used.users, &reserved.users),
    ]
}

/// Checks that a blob, or more bytes of it, would exceed no limit. Any number of bytes may be `undercount` too low.
pub(super) fn blob_fits(
    scopes: [Sums; 3],
    charge: &Charge,
    more: Amount,
    undercount: u64,
) -> Result<(), String> {
    for (index, sums) in scopes.into_iter().enumerate() {
        let (Some(limit), used, reserved) = sums else { continue };
        let used = used.bytes.saturating_add(undercount);
        if used.saturating_add(reserved.bytes).saturating_add(more.bytes) > limit.bytes {
            let scope = scope(index, charge);
            return Err(full(
                &scope,
                limit.bytes,
                used,
                reserved.bytes,
                more.bytes,
                undercount > 0,
            ));
        }
        entries_fit(sums, more.entries, || scope(index, charge))?;
    }
    Ok(())
}

/// Checks that a folder would exceed no limit. It has no bytes, so a store that is full of them takes it:
/// restic creates its folders before it is told that nothing else fits.
pub(super) fn folder_fits(scopes: [Sums; 3], charge: &Charge) -> Result<(), String> {
    scopes
        .into_iter()
        .enumerate()
        .try_for_each(|(index, sums)| entries_fit(sums, 1, || scope(index, charge)))
}

fn entries_fit(
    (limit, used, reserved): Sums,
    more: u64,
    scope: impl Fn() -> Scope,
) -> Result<(), String> {
    let Some(limit) = limit else { return Ok(()) };
    let there = used.plus(reserved).entries;
    if more == 0 || there.saturating_add(more) <= limit.entries {
        return Ok(());
    }
    Err(format!(
        "the quota of {} is {} blobs and folders, and {there} are there; remove some, or raise \
         `quota_entries`",
        scope(),
        limit.entries,
    ))
}

/// What the sums at this place of [`scopes`] are for.
fn scope(index: usize, charge: &Charge) -> Scope {
    match (index, &charge.folder, &charge.user) {
        (1, Some(folder), _) => Scope::Folder(folder.name.to_string()),
        (2, _, Some(user)) => Scope::User(user.name.to_string()),
        _ => Scope::Store,
    }
}

/// Limit, use and reservations of a folder or a user.
fn sums(
    counted: Option<&Counted>,
    used: &HashMap<Arc<str>, Amount>,
    reserved: &HashMap<Arc<str>, Amount>,
) -> Sums {
    let Some(counted) = counted else {
        return (None, Amount::default(), Amount::default());
    };
    let of =
        |sums: &HashMap<Arc<str>, Amount>| sums.get(&counted.name).copied().unwrap_or_default();
    (counted.limit, of(used), of(reserved))
}

fn full(scope: &Scope, limit: u64, used: u64, reserved: u64, bytes: u64, bound: bool) -> String {
    let exact = |bytes: u64| format!("{} ({bytes} bytes)", ByteSize(bytes).display().iec());
    let at_most = if bound { "at most " } else { "" };
    let counting = if bound { "; it is being recounted after an unclean shutdown" } else { "" };
    format!(
        "the quota of {scope} is {}: {at_most}{} are used and {reserved} bytes are reserved by calls \
         in progress, so {bytes} more bytes do not fit{counting}",
        exact(limit),
        exact(used),
    )
}

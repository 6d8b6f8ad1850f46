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

/// Checks that no limit would be exceeded. Any number of bytes may be `undercount` too low.
pub(super) fn fits(
    scopes: [Sums; 3],
    charge: &Charge,
    more: Amount,
    undercount: u64,
) -> Result<(), String> {
    for (index, (limit, used, reserved)) in scopes.into_iter().enumerate() {
        let Some(limit) = limit else { continue };
        let used = used.plus(Amount { bytes: undercount, entries: 0 });
        let then = used.plus(reserved).plus(more);
        let scope = || match (index, &charge.folder, &charge.user) {
            (1, Some(folder), _) => Scope::Folder(folder.name.to_string()),
            (2, _, Some(user)) => Scope::User(user.name.to_string()),
            _ => Scope::Store,
        };
        if then.bytes > limit.bytes {
            let (used, reserved) = (used.bytes, reserved.bytes);
            return Err(full(&scope(), limit.bytes, used, reserved, more.bytes, undercount > 0));
        }
        if then.entries > limit.entries && more.entries > 0 {
            return Err(format!(
                "the quota of {} is {} blobs and folders, and {} are there; remove some, or raise \
                 `quota_entries`",
                scope(),
                limit.entries,
                used.plus(reserved).entries,
            ));
        }
    }
    Ok(())
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

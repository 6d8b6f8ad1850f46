//! Lists of records in pages. A page begins behind a place, which is what the key of its last record has behind the prefix of
//! the list.

use keepgate_sdk::records::{self, Record};
use keepgate_sdk::{Failure, Page};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// The longest place, in bytes.
const LONGEST: usize = 256;

/// The place that a request names, which may be a part of one; empty for the first page.
pub(crate) fn place(page: &Page) -> Result<&str, Problem> {
    let after = page.after();
    match after.len() <= LONGEST && !after.contains('\0') {
        true => Ok(after),
        false => {
            Err(Problem::new(400, "after: this is no place in the list; take the one in Link"))
        }
    }
}

/// What is behind a place below a prefix, each with its own place.
pub(crate) fn behind<'a, T: DeserializeOwned>(
    prefix: &'a str,
    place: &str,
) -> impl Iterator<Item = Result<(String, T), Failure>> + 'a {
    let scan = records::scan(prefix);
    let scan = if place.is_empty() { scan } else { scan.after(&format!("{prefix}{place}")) };
    scan.map(move |record| {
        let record: Record = record?;
        let place = record.key.strip_prefix(prefix).unwrap_or_default().to_owned();
        Ok((place, record.json()?))
    })
}

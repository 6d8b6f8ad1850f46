//! A difference from what a case expects, with the change of the case file that would make the case pass. An
//! update applies those changes and leaves the rest of the file as its author wrote it.

use toml_edit::{DocumentMut, InlineTable, Item, TableLike, Value};

use crate::case::{Rule, Values};

/// Longer texts are written as their SHA-256.
const LONGEST: usize = 600;

/// One difference.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// What differs, such as ``step 1 `GET /a`: status``.
    pub what: String,
    /// How it differs, for people.
    pub text: String,
    /// The actual result on one line. The pattern of a known difference is matched against it.
    pub got: String,
    pub(crate) changes: Vec<Change>,
}

impl Mismatch {
    pub(crate) fn new(what: &str, text: String) -> Self {
        Self { what: what.to_owned(), text, got: String::new(), changes: Vec::new() }
    }

    pub(crate) fn with(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// Sets the actual result for the part that differs.
    pub(crate) fn got(mut self, got: String) -> Self {
        self.got = got;
        self
    }

    /// Adds the whole reply to the actual result.
    pub(crate) fn came(&mut self, reply: &str) {
        let separator = if self.got.is_empty() { "" } else { "; " };
        self.got = format!("{}{separator}{reply}", self.got);
    }

    /// Names the step that it belongs to.
    pub(crate) fn within(mut self, step: &str) -> Self {
        self.what = format!("{step}: {}", self.what);
        self
    }

    /// Drops the changes, because the file cannot express what would make the case pass.
    pub(crate) fn forget_changes(&mut self) {
        self.changes.clear();
    }

    /// Whether `--update` can make the case pass.
    pub fn is_updatable(&self) -> bool {
        !self.changes.is_empty()
    }
}

/// A new value for a place in a case file.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    place: Place,
    /// `None` to remove the value.
    value: Option<Value>,
}

impl Change {
    pub(crate) fn set(place: Place, value: Value) -> Self {
        Self { place, value: Some(value) }
    }

    pub(crate) fn remove(place: Place) -> Self {
        Self { place, value: None }
    }
}

/// A place in a case file: a case, optionally one of its steps, and keys below.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    case: usize,
    step: Option<usize>,
    keys: Vec<String>,
}

impl Place {
    pub(crate) fn case(case: usize) -> Self {
        Self { case, step: None, keys: Vec::new() }
    }

    pub(crate) fn step(&self, step: usize) -> Self {
        Self { step: Some(step), ..self.clone() }
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        let mut place = self.clone();
        place.keys.push(key.to_owned());
        place
    }
}

/// Bytes as an expectation, in the same form as the rule that they replace.
pub(crate) fn written(bytes: &[u8], before: &Rule, values: &Values) -> Value {
    let mut table = InlineTable::new();
    if (before.json.is_some() || before.has.is_some())
        && let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes)
    {
        table.insert("json", json.to_string().into());
        return table.into();
    }
    match std::str::from_utf8(bytes) {
        // Text that looks like a placeholder would be taken for one.
        Ok(text) if text.len() <= LONGEST && values.fill(text).as_deref() == Ok(text) => {
            text.into()
        }
        _ => {
            use sha2::Digest as _;
            table.insert("sha256", hex::encode(sha2::Sha256::digest(bytes)).into());
            table.insert("size", i64::try_from(bytes.len()).unwrap_or(i64::MAX).into());
            table.into()
        }
    }
}

/// The text of a case file with the changes of these differences.
///
/// # Errors
///
/// If the file has changed since it was read.
pub(crate) fn updated(text: &str, wrong: &[&Mismatch]) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("{error}"))?;
    for change in wrong.iter().flat_map(|mismatch| &mismatch.changes) {
        let changed = apply(&mut document, change);
        changed.ok_or("the file no longer has this case; run the cases again")?;
    }
    Ok(document.to_string())
}

fn apply(document: &mut DocumentMut, change: &Change) -> Option<()> {
    let Place { case, step, keys } = &change.place;
    let case = element(document.get_mut("case")?, *case)?;
    let mut table = match step {
        Some(step) => element(case.get_mut("step")?, *step)?,
        None => case,
    };
    let (last, above) = keys.split_last()?;
    for key in above {
        if table.get(key).is_none() {
            // Written as `a.b = …`, as the authors of cases do.
            let mut new = toml_edit::Table::new();
            new.set_dotted(true);
            let new = Item::Table(new);
            table.insert(key, new);
        }
        table = below(table.get_mut(key)?)?;
    }
    match &change.value {
        Some(value) => {
            let mut value = value.clone();
            if let Some(old) = table.get(last).and_then(Item::as_value) {
                *value.decor_mut() = old.decor().clone();
            }
            match table.get_mut(last) {
                Some(item) => *item = Item::Value(value),
                None => {
                    table.insert(last, Item::Value(value));
                }
            }
        }
        None => {
            table.remove(last);
        }
    }
    Some(())
}

fn element(list: &mut Item, index: usize) -> Option<&mut dyn TableLike> {
    match list {
        Item::ArrayOfTables(tables) => Some(tables.get_mut(index)?),
        Item::Value(Value::Array(array)) => match array.get_mut(index)? {
            Value::InlineTable(table) => Some(table),
            _ => None,
        },
        _ => None,
    }
}

/// The table at a key. A short form, such as a text, is replaced by a table.
fn below(item: &mut Item) -> Option<&mut dyn TableLike> {
    if !item.is_table_like() {
        *item = Item::Value(InlineTable::new().into());
    }
    item.as_table_like_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_is_written_anew() {
        let text = "# about\n[[case]]\nname = \"a\" # a name\n[[case.step]]\nsend = \"GET /\"\n\
                    expect.status = 200 # so\nexpect.body = \"x\"\n\n[[case]]\nname = \"b\"\n\
                    step = [{ send = \"GET /\", expect = { status = 1 } }]\n";
        let step = |case| Place::case(case).step(0).key("expect");
        let wrong = Mismatch::new("x", String::new())
            .with(Change::set(step(0).key("status"), 404.into()))
            .with(Change::set(step(1).key("status"), 405.into()))
            .with(Change::set(step(0).key("headers").key("allow"), "GET".into()))
            .with(Change::remove(step(0).key("body")))
            .with(Change::set(Place::case(0).key("after").key("blobs").key("a/b"), false.into()));
        let new = updated(text, &[&wrong]).unwrap();
        assert!(new.contains("expect.status = 404 # so\n"), "{new}");
        assert!(new.contains("expect.headers.allow = \"GET\"\n"), "{new}");
        assert!(new.contains("after.blobs.\"a/b\" = false\n"), "{new}");
        assert!(new.contains("{ status = 405 }"), "{new}");
        assert!(new.starts_with("# about\n[[case]]\nname = \"a\" # a name\n"), "{new}");
        assert!(!new.contains("body"), "{new}");
        toml::from_str::<toml::Value>(&new).unwrap();
        assert!(updated("", &[&wrong]).is_err());
    }
}

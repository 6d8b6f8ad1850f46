//! What a plugin's description requests of capabilities: lists of names, by the description's fields.

use serde::{Serialize, Serializer};

/// The names that a plugin's description lists, as in `stores` and `jobs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(Vec<Field>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: &'static str,
    label: &'static str,
    names: Vec<String>,
}

impl Requests {
    pub(crate) fn push(&mut self, name: &'static str, label: &'static str, names: Vec<String>) {
        self.0.push(Field { name, label, names });
    }

    /// The names in a field of the description, as in `stores`.
    pub fn names(&self, field: &str) -> &[String] {
        self.0.iter().find(|known| known.name == field).map_or(&[], |known| &known.names)
    }

    /// Each field with its names.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &Vec<String>)> {
        self.0.iter().map(|field| (field.name, &field.names))
    }

    /// Each name, after what the plugin does with it, as in `opens store`.
    pub fn in_words(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().flat_map(|field| field.names.iter().map(|name| (field.label, &**name)))
    }
}

/// As a map from field to names.
impl Serialize for Requests {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields())
    }
}

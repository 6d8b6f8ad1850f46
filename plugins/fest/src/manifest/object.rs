//! An object of JSON with the places of its members in the text, and with members that occur twice.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::place::Text;
use super::twice;
use crate::problem::Problem;

/// A member of an object.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) value: &'a RawValue,
    /// Where its name begins in the text, with the quotation mark.
    pub(super) start: usize,
    /// Where its value ends.
    pub(super) end: usize,
}

/// An object.
#[derive(Debug)]
pub(super) struct Object<'a> {
    /// Where it begins in the text.
    pub(super) start: usize,
    pub(super) members: Vec<Member<'a>>,
}

impl<'a> Object<'a> {
    /// None if a value is not an object.
    pub(super) fn of(text: Text<'a>, value: &'a RawValue) -> Option<Self> {
        let start = text.offset(value);
        let Pairs(pairs) = serde_json::from_str(value.get()).ok()?;
        let mut before = start + 1;
        let mut members = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let end = text.offset(value) + value.get().len();
            let gap = text.0.get(before..end)?;
            members.push(Member { name, value, start: before + gap.find('"')?, end });
            before = end;
        }
        Some(Self { start, members })
    }

    /// Refuses a member with one of these names that occurs twice.
    pub(super) fn check_once(&self, text: Text<'_>, names: &[&str]) -> Result<(), Problem> {
        for name in names {
            if let Some(again) = self.members.iter().filter(|member| member.name == *name).nth(1) {
                let why = format!("`{name}` occurs twice");
                return Err(text.problem("duplicate_key", again.start, why));
            }
        }
        Ok(())
    }

    /// Refuses a member that occurs twice. `path` is that of the entry; without one, the members are paths themselves.
    pub(super) fn check_names(
        &self,
        text: Text<'_>,
        what: &str,
        path: Option<&str>,
    ) -> Result<(), Problem> {
        match twice(&self.members) {
            None => Ok(()),
            Some(member) => {
                let why = format!("{what}: {:?} occurs twice", member.name);
                let path = path.unwrap_or(&member.name);
                Err(text.problem("duplicate_key", member.start, why).with("path", path))
            }
        }
    }
}

/// All members, in order.
pub(super) struct Pairs<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

/// A name, borrowed if it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(All)
    }
}

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

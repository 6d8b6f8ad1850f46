//! The body of a form: JSON, or a text, with placeholders in its texts. JSON keeps the order of its members, because
//! people read the responses.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use super::{Refused, as_it_is};

/// A value of the body.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Text(Text),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
    /// A number, `true`, `false` or `null`.
    Scalar(Value),
}

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Value(Placeholder),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Status,
    Reason,
    Code,
    Message,
    Request,
}

impl Placeholder {
    const ALL: [(&str, Self); 5] = [
        ("status", Self::Status),
        ("reason", Self::Reason),
        ("code", Self::Code),
        ("message", Self::Message),
        ("request", Self::Request),
    ];

    fn parse(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, placeholder)| *placeholder).ok_or_else(|| {
            let known = Self::ALL.map(|(name, _)| format!("{{{name}}}")).join(", ");
            format!(
                "unknown placeholder {{{name}}}; known: {known}; a brace itself is doubled: {{{{"
            )
        })
    }

    fn value<'a>(self, values: &Refused<'a>) -> Cow<'a, str> {
        match self {
            Self::Status => values.status.to_string().into(),
            Self::Reason => values.reason.into(),
            Self::Code => values.code.into(),
            Self::Message => values.message.into(),
            Self::Request => values.request.into(),
        }
    }
}

impl Text {
    fn parse(text: &str) -> Result<Self, String> {
        const LONE: &str =
            "a brace that belongs to no placeholder; a brace itself is doubled: {{ or }}";
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else {
                let inside = from.strip_prefix('{').and_then(|from| from.split_once('}'));
                let (name, after) = inside.ok_or(LONE)?;
                let placeholder = Placeholder::parse(name)?;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(Part::Value(placeholder));
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// The text with its placeholders replaced by escaped values.
    pub(super) fn fill(&self, values: &Refused<'_>, escape: fn(&str) -> Cow<'_, str>) -> String {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => filled.push_str(literal),
                Part::Value(placeholder) => filled.push_str(&escape(&placeholder.value(values))),
            }
        }
        filled
    }
}

impl Node {
    /// The value as JSON on one line.
    pub(super) fn to_json(&self, values: &Refused<'_>) -> String {
        // All keys are texts, so this does not fail.
        serde_json::to_string(&Filled { node: self, values }).unwrap_or_default()
    }
}

/// A value with its placeholders replaced.
struct Filled<'a> {
    node: &'a Node,
    values: &'a Refused<'a>,
}

impl Serialize for Filled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let values = self.values;
        let filled = |node| Filled { node, values };
        match self.node {
            // A status alone is a number, as it is in other programs' JSON.
            Node::Text(Text(parts)) if matches!(**parts, [Part::Value(Placeholder::Status)]) => {
                serializer.serialize_u16(values.status)
            }
            Node::Text(text) => serializer.serialize_str(&text.fill(values, as_it_is)),
            Node::List(list) => serializer.collect_seq(list.iter().map(filled)),
            Node::Object(members) => {
                serializer.collect_map(members.iter().map(|(name, node)| (name, filled(node))))
            }
            Node::Scalar(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

/// Errors of this visitor get the line and column from the parser.
struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Text::parse(value).map(Node::Text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = sequence.next_element()? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members: Vec<(String, Node)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format!("{name:?} appears twice")));
            }
            members.push((name, map.next_value()?));
        }
        Ok(Node::Object(members))
    }
}

//! Checks documents against `shape`, and finds everything that is wrong at once. Messages say what to write; they never
//! repeat what was written where that may be a secret.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};

use super::document::Kind;
use super::shape::{self, Field, Shape};
use crate::schedule::pattern;
use crate::settings::is_fingerprint;

/// The most faults that are listed.
pub(super) const MOST: usize = 1000;
/// The longest name of a target, in bytes. Readers of YAML take no name of more than 1024 characters.
const LONGEST_NAME: usize = 256;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    /// As in `spec.targets.s3.url`; empty for the document itself.
    pub(super) path: String,
    pub(super) message: String,
}

/// All faults of a document for an instance with this public key for encryption; none if it can be served.
pub(super) fn faults(document: &Value, instance_key: Option<&str>) -> Vec<Fault> {
    let mut faults = Faults(Vec::new());
    let Value::Object(members) = document else {
        faults.add("", "write an object with version, kind, metadata and spec");
        return faults.0;
    };
    faults.object("", members, shape::DOCUMENT);
    let kind = members.get("kind").and_then(Value::as_str).and_then(Kind::named);
    if let (Some(Value::Object(spec)), Some(kind)) = (members.get("spec"), kind) {
        faults.object("spec", spec, shape::spec(kind));
        match kind {
            Kind::Local => faults.local(spec),
            Kind::Encrypted => faults.encrypted(spec, instance_key),
            Kind::Remote => {}
        }
    }
    faults.0
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: &str, message: impl Into<String>) {
        if self.0.len() < MOST {
            self.0.push(Fault { path: path.to_owned(), message: message.into() });
        }
    }

    fn object(&mut self, path: &str, members: &Map<String, Value>, fields: &[Field]) {
        for (name, value) in members {
            let path = below(path, name);
            match fields.iter().find(|field| field.name == name) {
                Some(field) => self.value(&path, value, field.shape),
                None => {
                    let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
                    self.add(&path, unknown(&known));
                }
            }
        }
        for field in fields.iter().filter(|field| !members.contains_key(field.name)) {
            if let Some(why) = field.required {
                self.add(&below(path, field.name), why);
            }
        }
    }

    fn value(&mut self, path: &str, value: &Value, shape: Shape) {
        match shape {
            Shape::Object(fields) => match value {
                Value::Object(members) => self.object(path, members, fields),
                _ => self.add(path, "write an object"),
            },
            Shape::Spec if !value.is_object() => self.add(path, "write an object"),
            Shape::Targets => self.targets(path, value),
            Shape::Texts => self.items(path, value, "write a list of texts", |item| {
                item.is_string().then_some(()).ok_or("write a text")
            }),
            Shape::Fingerprints => {
                let what = "write a list of fingerprints, as in [\"sha256:…\"]";
                if value.as_array().is_some_and(Vec::is_empty) {
                    self.add(path, "name at least one certificate: \"sha256:\" and 64 lower-case hexadecimal digits");
                }
                self.items(path, value, what, |item| {
                    item.as_str().filter(|text| is_fingerprint(text)).map(drop).ok_or(
                        "write \"sha256:\" and 64 lower-case hexadecimal digits, without colons",
                    )
                });
            }
            _ => {
                if let Err(message) = single(value, shape) {
                    self.add(path, message);
                }
            }
        }
    }

    fn items(
        &mut self,
        path: &str,
        value: &Value,
        what: &str,
        check: impl Fn(&Value) -> Result<(), &'static str>,
    ) {
        let Value::Array(items) = value else { return self.add(path, what) };
        for (index, item) in items.iter().enumerate() {
            if let Err(message) = check(item) {
                self.add(&format!("{path}[{index}]"), message);
            }
        }
    }

    fn targets(&mut self, path: &str, value: &Value) {
        let Value::Object(targets) = value else {
            return self.add(path, "write an object with a member for each target");
        };
        for (name, target) in targets {
            let path = below(path, name);
            if name.is_empty() || name.len() > LONGEST_NAME {
                self.add(&path, format!("its name must have 1 to {LONGEST_NAME} bytes"));
            }
            match target {
                Value::Object(members) => {
                    let kind = members.get("type").and_then(Value::as_str);
                    self.object(&path, members, shape::target(kind));
                }
                _ => self.add(&path, "write an object with type and url"),
            }
        }
    }

    /// What members of a local configuration say of each other.
    fn local(&mut self, spec: &Map<String, Value>) {
        let Some(Value::Object(dump)) = spec.get("dump") else { return };
        let targets = spec.get("targets").and_then(Value::as_object);
        let named = dump.get("targets").and_then(Value::as_array);
        for (index, name) in named.into_iter().flatten().enumerate() {
            let Some(name) = name.as_str() else { continue };
            if !targets.is_some_and(|targets| targets.contains_key(name)) {
                let path = format!("spec.dump.targets[{index}]");
                self.add(&path, format!("there is no target {:?} in spec.targets", shown(name)));
            }
        }
        if let Some(Value::Object(schedule)) = dump.get("schedule") {
            self.schedule(schedule);
        }
    }

    /// Clients do not start if a schedule says when in two ways.
    fn schedule(&mut self, schedule: &Map<String, Value>) {
        let is_set = |name: &&str| schedule.contains_key(*name);
        let path = "spec.dump.schedule";
        if schedule.get("once") == Some(&Value::Bool(true)) {
            for other in ["cron", "frequency", "begin"].iter().filter(|name| is_set(name)) {
                self.add(&below(path, other), "leave it out, or leave out once, which excludes it");
            }
        } else if is_set(&"cron") {
            for other in ["frequency", "begin"].iter().filter(|name| is_set(name)) {
                self.add(&below(path, other), "leave it out, or leave out cron, which excludes it");
            }
        }
    }

    fn encrypted(&mut self, spec: &Map<String, Value>, instance_key: Option<&str>) {
        let path = "spec.recipientPublicKey";
        match (spec.get("recipientPublicKey").and_then(Value::as_str), instance_key) {
            (Some(_), None) => self.add(
                path,
                "the instance has no key for encryption; set its encryptionPublicKey first",
            ),
            // Clients compare the texts, not the keys.
            (Some(named), Some(own)) if named != own => {
                self.add(path, format!("write the instance's encryptionPublicKey, {own:?}"));
            }
            _ => {}
        }
    }
}

/// Checks a value that is neither an object nor a list.
fn single(value: &Value, shape: Shape) -> Result<(), String> {
    let text = value.as_str();
    let is_number = |least: u32, most: u32| {
        let range = u64::from(least)..=u64::from(most);
        value.as_u64().is_some_and(|number| range.contains(&number))
    };
    let told = |is_right: bool, message: String| if is_right { Ok(()) } else { Err(message) };
    match shape {
        Shape::Text => told(text.is_some(), "write a text".to_owned()),
        Shape::Flag => told(value.is_boolean(), "write true or false".to_owned()),
        Shape::Number(least) => {
            let most = i32::MAX.unsigned_abs();
            told(is_number(least, most), format!("write a whole number from {least} to {most}"))
        }
        Shape::Port => told(is_number(1, 65535), "write a number from 1 to 65535".to_owned()),
        Shape::OneOf(names) => told(
            text.is_some_and(|text| names.contains(&text)),
            format!("write {}", names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ")),
        ),
        Shape::Key(length) => told(
            decoded(text).is_some_and(|bytes| bytes.len() == length),
            format!("write {length} bytes in base64, with padding"),
        ),
        Shape::Data(least) => told(
            decoded(text).is_some_and(|bytes| bytes.len() >= least),
            format!("write {least} bytes or more in base64, with padding"),
        ),
        Shape::Url(schemes) => {
            let rest = schemes.iter().find_map(|scheme| text?.strip_prefix(scheme));
            let is_plain = |rest: &str| !rest.contains(|c: char| c.is_whitespace() || c.is_control());
            told(
                rest.is_some_and(|rest| !rest.is_empty() && is_plain(rest)),
                format!("write a URL that begins with {}", schemes.join(" or ")),
            )
        }
        Shape::Cron => match text {
            Some(text) => pattern::check(text),
            None => Err("write a text with five fields, as in \"0 3 * * *\"".to_owned()),
        },
        Shape::Retention => told(
            text.is_some_and(is_retention),
            "write a number and h, d, w, m or y, as in \"7d\", or a number of backups, as in \"10c\"".to_owned(),
        ),
        Shape::Texts
 | Shape::Fingerprints | Shape::Object(_) | Shape::Spec | Shape::Targets => Ok(()),
    }
}

fn decoded(text: Option<&str>) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text?).ok()
}

fn is_retention(text: &str) -> bool {
    text.strip_suffix(['h', 'd', 'w', 'm', 'y', 'c'])
        .is_some_and(|number| number.parse::<u32>().is_ok() && !number.starts_with('+'))
}

fn unknown(known: &[&str]) -> String {
    match known {
        [] => "nothing is known by this name; leave it out".to_owned(),
        known => format!("nothing is known by this name; known are {}", known.join(", ")),
    }
}

/// The path of a member. Names that are no plain words are quoted.
fn below(path: &str, name: &str) -> String {
    let name = shown(name);
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !name.is_empty() && name.chars().all(is_word) {
        true if path.is_empty() => name,
        true => format!("{path}.{name}"),
        false => format!("{path}[{name:?}]"),
    }
}

/// The beginning of a name.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests;

//! The format of a recorded exchange: a TOML file, and bodies in separate files unless they are short
//! texts. `docs/src/recording.md` describes the format; change both together.

use std::collections::BTreeMap;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;

use super::body::{Captured, Content};
use super::exchange::RecordedExchange;
use super::redaction::RedactedHead;

/// Texts up to this many bytes are written into the TOML file.
const SHORT: usize = 4096;

/// The first lines of the file.
const PREAMBLE: &str =
    "# One exchange, recorded by `keepgate serve --record`; secrets are left out.\n\n";

/// A recorded exchange as files.
pub(super) struct Document {
    /// The TOML file.
    pub(super) text: String,
    /// Bodies in separate files: the suffix of the name, and the content.
    pub(super) bodies: Vec<(&'static str, Vec<u8>)>,
}

#[derive(Serialize)]
struct Exchange {
    exchange: About,
    request: Request,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<Expect>,
}

#[derive(Serialize)]
struct About {
    time: String,
    seconds: f64,
    mount: String,
    plugin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<String>,
}

#[derive(Serialize)]
struct Request {
    method: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Body>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, Values>,
}

#[derive(Serialize)]
struct Expect {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Body>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, Values>,
}

/// A single value is a string, several are an array.
#[derive(Serialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

/// A body: here, in a separate file, or only its digest and length.
#[derive(Default, Serialize)]
struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    /// Whether it is incomplete: it broke off, was not read, or had secrets removed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

impl Document {
    /// The files of an exchange; `stem` is the prefix of their names.
    pub(super) fn new(recorded: RecordedExchange, stem: &str) -> Result<Self, toml::ser::Error> {
        let mut bodies = Vec::new();
        let mut body = |captured: Captured, end: &'static str| {
            let Captured { content, whole } = captured;
            let partial = !whole;
            match content {
                Content::Bytes(bytes) if bytes.is_empty() => {
                    partial.then(|| Body { partial, ..Body::default() })
                }
                Content::Bytes(bytes) => Some(match short_text(&bytes) {
                    Some(text) => Body { text: Some(text), partial, ..Body::default() },
                    None => {
                        bodies.push((end, bytes));
                        Body { file: Some(format!("{stem}{end}")), partial, ..Body::default() }
                    }
                }),
                Content::Digest { sha256, length } => {
                    let (sha256, length) = (Some(sha256), Some(length));
                    Some(Body { sha256, length, partial, ..Body::default() })
                }
            }
        };
        let (request_body, reply_body) =
            (body(recorded.request_body, "-request.bin"), body(recorded.reply_body, "-reply.bin"));
        let (request, reply) = (recorded.request, recorded.reply);
        let exchange = Exchange {
            exchange: About {
                time: time(recorded.begun),
                seconds: recorded.took.as_secs_f64(),
                mount: recorded.mount,
                plugin: recorded.plugin,
                digest: recorded.digest,
                removed: [request.removed.as_slice(), reply.removed.as_slice()].concat(),
            },
            request: Request {
                method: recorded.method,
                path: recorded.path,
                query: recorded.query,
                user: recorded.user,
                body: request_body,
                headers: values(request),
            },
            expect: recorded.status.map(|status| Expect {
                status,
                body: reply_body,
                headers: values(reply),
            }),
        };
        let text = format!("{PREAMBLE}{}", toml::to_string(&exchange)?);
        Ok(Self { text, bodies })
    }

    /// Bytes of all files.
    pub(super) fn size(&self) -> u64 {
        let bodies: usize = self.bodies.iter().map(|(_, bytes)| bytes.len()).sum();
        (self.text.len() + bodies) as u64
    }
}

fn values(head: RedactedHead) -> BTreeMap<String, Values> {
    let values = head.fields.into_iter().map(|(name, mut values)| match values.len() {
        1 => (name, Values::One(values.remove(0))),
        _ => (name, Values::Many(values)),
    });
    values.collect()
}

/// The bytes as a text, if it is short and readable.
fn short_text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= SHORT)?;
    let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().all(plain).then(|| text.to_owned())
}

fn time(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "unknown".to_owned(), |time| format!("{time:.6}"))
}

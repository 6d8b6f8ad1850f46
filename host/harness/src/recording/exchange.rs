//! A recorded exchange, and the step of a case that sends its request again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use toml::{Table, Value};

use crate::case::{Broken, Clock, Values};

/// Headers of replies whose values depend on when and where a blob was stored.
const OF_THE_MOMENT: [&str; 3] = ["etag", "last-modified", "expires"];
/// Headers of replies that the connection adds.
const OF_THE_CONNECTION: [&str; 2] = ["date", "alt-svc"];

/// A file of a recording. Fields that are not listed here are for people.
#[derive(Debug, Deserialize)]
pub(super) struct Exchange {
    exchange: About,
    request: Request,
    expect: Option<Expect>,
    #[serde(skip)]
    file: PathBuf,
}

#[derive(Debug, Deserialize)]
struct About {
    time: Clock,
    mount: String,
    plugin: String,
    #[serde(default)]
    removed: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Request {
    method: String,
    path: String,
    query: Option<String>,
    user: Option<String>,
    body: Option<Body>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Expect {
    status: u16,
    body: Option<Body>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    text: Option<String>,
    file: Option<String>,
    sha256: Option<String>,
    length: Option<u64>,
    partial: bool,
}

impl Exchange {
    pub(super) fn read(file: &Path) -> Result<Self, Broken> {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| Broken::new(file, error.to_string()))?;
        let read = toml::from_str::<Self>(&text);
        let exchange = read.map_err(|error| {
            Broken::new(file, format!("expected a recorded exchange: {}", error.message()))
        })?;
        Ok(Self { file: file.to_owned(), ..exchange })
    }

    /// The name of its file, without the extension.
    pub(super) fn name(&self) -> String {
        self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(super) fn plugin(&self) -> &str {
        &self.exchange.plugin
    }

    pub(super) fn mount(&self) -> &str {
        &self.exchange.mount
    }

    /// The time of the request.
    pub(super) fn time(&self) -> SystemTime {
        self.exchange.time.0
    }

    pub(super) fn path(&self) -> &str {
        &self.request.path
    }

    /// Whether requests after it may have other replies than before.
    pub(super) fn changes(&self) -> bool {
        !matches!(self.request.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }

    /// Why its request cannot be sent again.
    pub(super) fn obstacle(&self) -> Option<String> {
        let Some(expect) = &self.expect else {
            return Some("the client disconnected before there was a reply".to_owned());
        };
        let body = self.request.body.as_ref();
        if let Some(length) = body.filter(|body| body.sha256.is_some()).and_then(|body| body.length)
        {
            return Some(format!(
                "its body of {length} bytes was not recorded; record with a larger `--record-bodies`"
            ));
        }
        let secret =
            |what: &&String| ["request body", "query"].iter().any(|place| what.starts_with(place));
        if let Some(what) = self.exchange.removed.iter().find(secret) {
            return Some(format!("a secret was removed from it ({what})"));
        }
        let mut texts = texts(&self.request.headers).chain(texts(&expect.headers));
        if texts.any(|(_, text)| Values::has_placeholder(text)) {
            return Some(
                "a header has a word in braces, which a case would take for a placeholder"
                    .to_owned(),
            );
        }
        None
    }

    /// The step that sends the request again and expects the same reply.
    pub(super) fn step(&self) -> Table {
        let Request { method, query, user, headers, body, .. } = &self.request;
        let query = query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        // A case would take a word in braces for a placeholder.
        let target = format!("{}{query}", self.below_mount()).replace('{', "%7B");
        let mut step = Table::new();
        step.insert("send".to_owned(), format!("{method} {target}").into());
        // Empty for an anonymous request, because the world may name a user.
        step.insert("user".to_owned(), user.clone().unwrap_or_default().into());
        if !headers.is_empty() {
            step.insert("headers".to_owned(), Table::from_iter(headers.clone()).into());
        }
        if let Some(body) = body {
            if let Some(content) = body.content() {
                step.insert("body".to_owned(), content);
            }
            if body.partial {
                let kept = body.kept(&self.file);
                step.insert("cut".to_owned(), i64::try_from(kept).unwrap_or(i64::MAX).into());
            }
            if body.partial || !headers.contains_key("content-length") {
                step.insert("unsized_body".to_owned(), true.into());
            }
        }
        if let Some(expect) = &self.expect {
            step.insert("expect".to_owned(), expect.table(method).into());
        }
        step
    }

    fn below_mount(&self) -> &str {
        let mount = self.exchange.mount.trim_end_matches('/');
        let below = self.request.path.strip_prefix(mount).unwrap_or(&self.request.path);
        if below.is_empty() { "/" } else { below }
    }
}

impl Expect {
    fn table(&self, method: &str) -> Table {
        let mut expect = Table::new();
        expect.insert("status".to_owned(), i64::from(self.status).into());
        let headers =
            self.headers.iter().filter(|(name, _)| !OF_THE_CONNECTION.contains(&name.as_str()));
        // A case only checks the first of several values.
        let headers = headers.filter_map(|(name, value)| {
            let first = value.as_array().map_or(Some(value), |values| values.first())?;
            let there = OF_THE_MOMENT.contains(&name.as_str());
            Some((name.clone(), if there { true.into() } else { first.clone() }))
        });
        let headers = Table::from_iter(headers);
        if !headers.is_empty() {
            expect.insert("headers".to_owned(), headers.into());
        }
        match &self.body {
            None if method != "HEAD" => {
                expect.insert("body".to_owned(), "".into());
            }
            Some(body) if !body.partial => {
                if let Some(rule) = body.rule() {
                    expect.insert("body".to_owned(), rule);
                }
            }
            _ => {}
        }
        expect
    }
}

impl Body {
    /// The bytes as the content of a case; `None` if there are none.
    fn content(&self) -> Option<Value> {
        let one = |name: &str, value: String| Table::from_iter([(name.to_owned(), value.into())]);
        let table = match (&self.text, &self.file) {
            (Some(text), _) if Values::has_placeholder(text) => one("hex", hex::encode(text)),
            (Some(text), _) => return Some(text.as_str().into()),
            (None, Some(file)) => one("file", file.clone()),
            (None, None) => return None,
        };
        Some(table.into())
    }

    /// The rule that the bytes satisfy.
    fn rule(&self) -> Option<Value> {
        let (Some(sha256), Some(length)) = (&self.sha256, self.length) else {
            return self.content();
        };
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let rule = [("sha256", sha256.as_str().into()), ("size", length.into())];
        Some(Table::from_iter(rule.map(|(name, value)| (name.to_owned(), value))).into())
    }

    /// How many of the bytes were recorded.
    fn kept(&self, exchange: &Path) -> u64 {
        match (&self.text, &self.file) {
            (Some(text), _) => text.len() as u64,
            (None, Some(file)) => {
                let folder = exchange.parent().unwrap_or(Path::new("."));
                std::fs::metadata(folder.join(file)).map_or(0, |found| found.len())
            }
            (None, None) => 0,
        }
    }
}

/// The names and values of headers.
fn texts(headers: &BTreeMap<String, Value>) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().flat_map(|(name, value)| {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        values.iter().filter_map(move |value| Some((name.as_str(), value.as_str()?)))
    })
}

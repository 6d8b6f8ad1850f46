//! One step of a case: a request to the plugin or server, or a change behind its back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::{Content, Expect, Json, Kept, Many, Number, RequestLine, Short, Span, User};

/// A request, or something that happens between requests.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// Time that passes first.
    pub advance: Option<Span>,
    /// Blobs (over a socket: files of the repository) to write behind the plugin's back, or to remove
    /// (`false`). A key that ends with `/` is a folder.
    pub place: BTreeMap<String, Short<Kept>>,
    /// Files to write to the server's data folder: names and texts.
    pub write: BTreeMap<String, String>,
    /// A signal to send to the server: `HUP`.
    pub signal: Option<String>,
    /// The request: `METHOD /path?query`.
    pub send: Option<RequestLine>,
    /// The complete bytes of a request, instead of `send`. Nothing is added to them.
    pub raw: Option<String>,
    /// Headers of the request.
    pub headers: BTreeMap<String, Many<String>>,
    /// The user who sends the request.
    pub user: Option<Short<User>>,
    /// `NAME:PASSWORD` for HTTP Basic; empty for no authentication.
    pub login: Option<String>,
    /// The URL of the mount as the client sees it. By default, it follows from the header `host`, or is
    /// `http://localhost`.
    pub base: Option<String>,
    /// The client's IP address.
    pub address: Option<IpAddr>,
    /// The body of the request.
    pub body: Option<Short<Content>>,
    /// Whether to send the body without announcing its length.
    pub unsized_body: bool,
    /// The size of the chunks in which to send the body, without a length.
    pub chunks: Option<Number>,
    /// The value of `Content-Length`, if it differs from the body's length.
    pub length: Option<Number>,
    /// The number of bytes of the body after which the client breaks off.
    pub cut: Option<Number>,
    /// The number of bytes of the body after which the client sends nothing more.
    pub stall: Option<u64>,
    /// When the client disconnects.
    pub leaves: Option<Leaves>,
    /// Sends `Expect: 100-continue`. The reply must be `100 Continue` (true), or the final status at once
    /// (false).
    pub interim: Option<bool>,
    /// A name for the connection. Steps with the same name share it.
    pub on: Option<String>,
    /// The number of bytes of the body after which the next step begins. A step with `resume` sends the rest.
    pub pause: Option<Number>,
    /// Sends the rest of the body on the connection `on` and reads the reply. If nothing is left to send,
    /// only reads the next reply.
    pub resume: bool,
    /// Closes the connection `on`, whatever is in flight on it.
    pub close: bool,
    /// Repeats the step until it succeeds, for up to ten seconds.
    pub eventually: bool,
    /// Runs a job of this kind to its end, as a schedule would, instead of sending a request.
    pub run: Option<String>,
    /// The job's input.
    pub input: Option<Json>,
    /// Waits until no job is queued or running.
    pub settle: bool,
    /// Saves parts of the reply as `{name}` for later steps: a JSON pointer such as `/job`, or `header NAME`.
    pub save: BTreeMap<String, String>,
    /// The expected result. A step without one always fails, and `--update` writes the actual result.
    pub expect: Option<Expect>,
}

impl Step {
    /// Whether the step sends a request.
    pub(crate) fn is_request(&self) -> bool {
        self.send.is_some() || self.raw.is_some() || self.resume || self.close
    }

    /// The step's number and request, for messages.
    pub(crate) fn label(&self, number: usize) -> String {
        match (&self.send, &self.raw, &self.run) {
            (Some(send), ..) => format!("step {number} `{send}`"),
            (None, Some(raw), _) => format!("step {number} {raw:?}"),
            (None, None, Some(kind)) => format!("step {number} job `{kind}`"),
            (None, None, None) if self.resume => format!("step {number} (the rest of a request)"),
            (None, None, None) => format!("step {number}"),
        }
    }
}

/// When a client disconnects.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Leaves {
    /// After sending this many bytes of the body.
    pub sent: Option<Number>,
    /// After receiving this many bytes of the reply's body.
    pub received: Option<u64>,
    /// After this much time.
    pub after: Option<Span>,
}

//! One step of a case: what is asked of the plugin or server, or done behind its back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::{Content, Expect, Json, Kept, Many, Number, RequestLine, Short, Span, User};

/// Something that is asked, or done meanwhile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// This much time passes first.
    pub advance: Option<Span>,
    /// Blobs (over a socket: files of the repository) to put there behind the plugin's back, or to
    /// remove (`false`). A key that ends with `/` is a folder.
    pub place: BTreeMap<String, Short<Kept>>,
    /// Files to write into the server's data folder: texts by name.
    pub write: BTreeMap<String, String>,
    /// A signal for the server's process: `HUP`.
    pub signal: Option<String>,
    /// `METHOD /path?query`.
    pub send: Option<RequestLine>,
    /// All bytes of a request, instead of `send`. Nothing is added.
    pub raw: Option<String>,
    /// Headers of the request.
    pub headers: BTreeMap<String, Many<String>>,
    /// Who asks.
    pub user: Option<Short<User>>,
    /// `NAME:PASSWORD` for HTTP Basic; empty: nobody.
    pub login: Option<String>,
    /// The mount as the client reaches it; by default what the header `host` says, or
    /// `http://localhost`.
    pub base: Option<String>,
    /// IP address of the client.
    pub address: Option<IpAddr>,
    /// The body of the request.
    pub body: Option<Short<Content>>,
    /// The body's length is not announced.
    pub unsized_body: bool,
    /// The body is sent in chunks of this many bytes, without a length.
    pub chunks: Option<Number>,
    /// What `Content-Length` says if that is not the body's length.
    pub length: Option<Number>,
    /// The client stops sending after this many bytes of the body.
    pub cut: Option<Number>,
    /// The client falls silent after this many bytes.
    pub stall: Option<u64>,
    /// The client goes away.
    pub leaves: Option<Leaves>,
    /// The client sends `Expect: 100-continue`: `100 Continue` must come (true), or the final status at
    /// once (false).
    pub interim: Option<bool>,
    /// The name of the connection: steps with the same one share it.
    pub on: Option<String>,
    /// The next step comes after this many bytes of the body; a step with `resume` sends the rest.
    pub pause: Option<Number>,
    /// Sends the rest of the body on the connection `on`, and reads the reply. If nothing is left to
    /// send, it only reads the next reply.
    pub resume: bool,
    /// Closes the connection `on`, whatever is in flight there.
    pub close: bool,
    /// The step is repeated until it is as expected, for ten seconds at most.
    pub eventually: bool,
    /// Instead of `send`: runs a job of this kind to its end, as a schedule starts it.
    pub run: Option<String>,
    /// The input of the job.
    pub input: Option<Json>,
    /// Waits until no job is queued or running.
    pub settle: bool,
    /// Names parts of the reply for `{name}` in later steps: a JSON pointer such as `/job`, or
    /// `header NAME`.
    pub save: BTreeMap<String, String>,
    /// What must come of it. Without it nothing is right, and `--update` writes what came.
    pub expect: Option<Expect>,
}

impl Step {
    /// Whether the step speaks to the server at all.
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

/// When a client goes away.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Leaves {
    /// After it sent this many bytes of the body.
    pub sent: Option<Number>,
    /// After this many bytes of the reply's body.
    pub received: Option<u64>,
    /// After this much time.
    pub after: Option<Span>,
}

//! One call into a plugin, as the rest of the host sees it: a request goes in, a reply or the
//! reason why there is none comes out. Plain types; nothing here names wasmtime or HTTP's crates.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use keepgate_store::{Body, BodyError, Fields, StoreError};

/// Who is asking, as the host authenticated them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user's name.
    pub name: String,
    /// How they were authenticated: `htpasswd`, later others.
    pub method: Cow<'static, str>,
    /// What else is known of them.
    pub claims: Fields,
}

/// A request below a mount. Field by field the contract's `http.request`.
#[derive(Debug)]
pub struct Request {
    /// In upper case: `GET`.
    pub method: String,
    /// The mount as the client reaches it, without a slash at its end; empty where nothing says how.
    pub base: String,
    /// Path and query as they were sent, from the root of the server.
    pub target: String,
    /// Of whoever connected; none where they have no address.
    pub address: Option<IpAddr>,
    /// By which the gateway's log names the request.
    pub id: String,
    /// Segments below the mount, percent-decoded after they were split at `/`.
    pub path: Vec<String>,
    /// The path ended with `/`.
    pub trailing_slash: bool,
    /// Decoded pairs, in order.
    pub query: Fields,
    /// Names in lower case, without the credentials that the host has checked.
    pub headers: Fields,
    /// None where the mount lets anybody in.
    pub principal: Option<Principal>,
    /// What the client sends.
    pub body: Body,
}

/// What a plugin answers.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status, from 200 to 599.
    pub status: u16,
    /// Names are valid HTTP names and values valid HTTP values: checked where the reply left the
    /// plugin.
    pub headers: Fields,
    /// Its length goes into `Content-Length` where it is known. It fails where a plugin breaks
    /// down in the middle of a streamed reply; the connection must then be cut, so that the
    /// client sees that it is not whole.
    pub body: Body,
}

/// Why a call did not do what was asked: the contract's `types.failure`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No such blob, folder or resource.
    #[error("not found")]
    NotFound,
    /// Another blob holds the key.
    #[error("already exists")]
    AlreadyExists,
    /// The blob is another one by now.
    #[error("the blob under this key is another one by now")]
    PreconditionFailed,
    /// The bytes do not have the SHA-256 that they must have; the one that they have, in lower-case
    /// hex, where it is known.
    #[error("{}", mismatch(.0.as_deref()))]
    ChecksumMismatch(Option<String>),
    /// The sender stopped early.
    #[error("the body ended before its announced length")]
    Truncated,
    /// More bytes than the limit, which is named.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// No byte of the asked part is inside the blob, whose size is named.
    #[error("no byte of the asked part is within the {0} bytes")]
    OutOfRange(u64),
    /// A quota would be exceeded; the text says which.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The store is full.
    #[error("no space left in the store")]
    NoSpace,
    /// A policy of the mount forbids it.
    #[error("{0}")]
    Denied(String),
    /// The arguments make no sense.
    #[error("{0}")]
    Invalid(String),
    /// The store or the host cannot do this at all.
    #[error("{0}")]
    Unsupported(String),
    /// A system behind the gateway does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// As much as may be under way at once is under way.
    #[error("{0}")]
    Busy(String),
    /// It took too long.
    #[error("timed out")]
    TimedOut,
    /// A bug or a broken disk; for the operator's eyes only.
    #[error("{0}")]
    Internal(String),
    /// The plugin's own, with the status that it says.
    #[error("{0}")]
    Refused(PluginRefusal),
}

/// A refusal in a plugin's words, checked where it left the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRefusal {
    /// HTTP status, from 400 to 599.
    pub status: u16,
    /// For programs; empty where the surface has none. One line.
    pub code: String,
    /// For whoever made the request. One line.
    pub message: String,
    /// Seconds until it is worth trying again.
    pub retry_after: Option<u32>,
}

impl fmt::Display for PluginRefusal {
    /// Code and message, as in `size_conflict: 7 bytes were announced before`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.code.is_empty() || self.message.is_empty() { "" } else { ": " };
        write!(f, "{}{separator}{}", self.code, self.message)
    }
}

fn mismatch(actual: Option<&str>) -> String {
    let text = "the bytes do not have the SHA-256 that they must have";
    actual.map_or_else(|| text.to_owned(), |actual| format!("{text}, but {actual}"))
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The plugin says so, mostly handing on what a store said.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The mount has no plugin that can serve; the text says why and is for operators.
    #[error("{0}")]
    NotServing(String),
    /// As many calls as the mount allows are under way.
    #[error("all {0} calls that this mount allows at once are under way")]
    Busy(usize),
    /// The plugin breaks down again and again, and no call reaches it for so long.
    #[error("the plugin is put aside for {0:.0?}, since it breaks down again and again")]
    Aside(Duration),
    /// The plugin used more of something than the mount allows.
    #[error("the plugin went over its limit: {0}")]
    OverLimit(Limit),
    /// The plugin broke down. The text is for operators.
    #[error("the plugin broke down: {0}")]
    Trapped(String),
    /// The plugin answered something that is no HTTP: a status of 42, say.
    #[error("the plugin's reply makes no sense: {0}")]
    BadReply(String),
}

/// A limit that a call went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Limit {
    /// Of its memory, in bytes.
    #[error("{0} bytes of memory")]
    Memory(u64),
    /// Of time spent computing.
    #[error("{0:?} of CPU time")]
    Cpu(Duration),
    /// Of time from request to reply.
    #[error("{0:?} from request to reply")]
    Time(Duration),
    /// Of what the host holds in memory for one call: bodies made of the plugin's bytes, the states
    /// of compressors. In bytes, and as much as it has memory.
    #[error("{0} bytes that the host holds for it")]
    Held(u64),
    /// Of handles that it has at once.
    #[error("{0} handles at once: bodies, stores, meters")]
    Handles(usize),
    /// Of blobs and snapshots that are open at once.
    #[error("{0} blobs and snapshots open at once")]
    Open(usize),
    /// Of pipes that a body passes, one in the other.
    #[error("{0} pipes around one body")]
    Layers(u32),
    /// Of bytes that it hands to the host at once, in one call's texts and lists.
    #[error("{0} bytes in one call to the host")]
    Arguments(u64),
}

impl CallError {
    /// One word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Failure(_) => "failure",
            Self::NotServing(_) => "not-serving",
            Self::Busy(_) => "busy",
            Self::Aside(_) => "aside",
            Self::OverLimit(Limit::Memory(_)) => "memory",
            Self::OverLimit(Limit::Cpu(_)) => "cpu",
            Self::OverLimit(Limit::Time(_)) => "time",
            Self::OverLimit(Limit::Held(_)) => "held",
            Self::OverLimit(Limit::Handles(_)) => "handles",
            Self::OverLimit(Limit::Open(_)) => "open",
            Self::OverLimit(Limit::Layers(_)) => "layers",
            Self::OverLimit(Limit::Arguments(_)) => "arguments",
            Self::Trapped(_) => "trap",
            Self::BadReply(_) => "bad-reply",
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::NotFound,
            StoreError::AlreadyExists => Self::AlreadyExists,
            StoreError::PreconditionFailed => Self::PreconditionFailed,
            StoreError::ChecksumMismatch { actual, .. } => Self::ChecksumMismatch(Some(actual)),
            StoreError::OutOfRange { size } => Self::OutOfRange(size),
            StoreError::NoSpace => Self::NoSpace,
            StoreError::QuotaExceeded(which) => Self::QuotaExceeded(which),
            StoreError::Denied(why) => Self::Denied(why),
            StoreError::Invalid(why) => Self::Invalid(why),
            StoreError::Unsupported(what) => Self::Unsupported(what),
            StoreError::Body(error) => error.into(),
            error => Self::Internal(error.to_string()),
        }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Truncated => Self::Truncated,
            BodyError::TimedOut => Self::TimedOut,
            BodyError::TooLarge { limit } => Self::TooLarge(limit),
            BodyError::QuotaExceeded(which) => Self::QuotaExceeded(which),
            BodyError::Invalid(what) => Self::Invalid(what),
            BodyError::Unavailable(what) => Self::Unavailable(what),
            error => Self::Internal(error.to_string()),
        }
    }
}

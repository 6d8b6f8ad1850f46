//! What can go wrong in a call, and what a client is told about it. The constants below, `Failure::row`
//! and `CallError::row` are the only places that choose a code, a status or a message. To add a
//! failure, add a variant and its row.
//!
//! Messages for clients say what was refused. Paths on disk, traps and internal errors are for
//! operators: they are in the error's `Display` text, which is only logged.

mod display;

use std::borrow::Cow;
use std::time::Duration;

/// Why a call did not do what was asked; the contract's `types.failure`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No such blob, folder or resource.
    NotFound,
    /// Another blob has this key.
    AlreadyExists,
    /// The blob has been replaced since the caller last saw it.
    PreconditionFailed,
    /// The bytes do not have the expected SHA-256. Holds the actual one in lower-case hex, if known.
    ChecksumMismatch(Option<String>),
    /// The sender stopped early.
    Truncated,
    /// More bytes than this limit.
    TooLarge(u64),
    /// The requested range lies outside of the blob, which has this size in bytes.
    OutOfRange(u64),
    /// A quota would be exceeded; the text says which.
    QuotaExceeded(String),
    /// The store is full.
    NoSpace,
    /// A policy of the mount forbids it.
    Denied(String),
    /// The arguments make no sense.
    Invalid(String),
    /// The store or the host cannot do this at all.
    Unsupported(String),
    /// A system behind the gateway does not answer.
    Unavailable(String),
    /// The limit of concurrent operations is reached.
    Busy(String),
    /// It took too long.
    TimedOut,
    /// A bug or a broken disk; the text is for operators only.
    Internal(String),
    /// The plugin's own refusal, with the status that it chose.
    Refused(PluginRefusal),
}

/// A refusal in a plugin's own words, checked when it leaves the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRefusal {
    /// HTTP status, from 400 to 599.
    pub status: u16,
    /// For programs; empty if the surface has no codes. One line.
    pub code: String,
    /// The message for the client. One line.
    pub message: String,
    /// Seconds after which a client should try again.
    pub retry_after: Option<u32>,
}

/// Why there is no reply.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// The plugin reported a failure, usually one that a store reported to it.
    Failure(Failure),
    /// The mount has no plugin, because the file is not there or not whole; the text says why and is for operators.
    NotServing(String),
    /// The plugin of the mount is refused, or refuses the mount: its settings, grants or limits. That stays so until an
    /// operator changes something. The text says what and is for operators.
    Misconfigured(String),
    /// The mount's limit of concurrent calls, which is named, is reached.
    Busy(usize),
    /// What mounts share is used up as far as this mount may have it. The text says what, and is for operators.
    Crowded(String),
    /// The plugin keeps breaking down, so no calls reach it for this long.
    Suspended(Duration),
    /// The plugin exceeded a limit of the mount.
    OverLimit(Limit),
    /// The host has too little memory or address space for the call. The text is for operators.
    HostMemory(String),
    /// The plugin broke down. The text is for operators.
    Trapped(String),
    /// The plugin's reply is not valid HTTP: a status of 42, for example.
    BadReply(String),
}

/// A limit that a call exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Limit {
    /// Linear memory, in bytes.
    #[error("{0} bytes of memory")]
    Memory(u64),
    /// Time spent computing.
    #[error("{0:?} of CPU time")]
    Cpu(Duration),
    /// Time from request to reply.
    #[error("{0:?} from request to reply")]
    Time(Duration),
    /// Memory that the host holds for one call (bodies made of the plugin's bytes, states of
    /// compressors), in bytes. As much as the mount's memory limit.
    #[error("{0} bytes of host memory held for it")]
    Held(u64),
    /// Handles at once.
    #[error("{0} handles at once: bodies, stores, meters")]
    Handles(usize),
    /// Blobs and snapshots open at once.
    #[error("{0} blobs and snapshots open at once")]
    Open(usize),
    /// Pipes nested around one body.
    #[error("{0} pipes around one body")]
    Layers(u32),
    /// Bytes of texts and lists passed to the host in one call.
    #[error("{0} bytes in one call to the host")]
    Arguments(u64),
}

/// What the call was waiting for when it timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The client did not continue its request, which is its fault: 408.
    ForClient,
    /// The gateway or something behind it was too slow: 504.
    ForGateway,
}

/// What a client is told about a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// One word for programs, in a surface's own form: a name of the contract's failures, `unauthorized`,
    /// `over-limit` or `misconfigured`; of a plugin's refusal the plugin's own, if it has one.
    pub code: &'a str,
    /// For the client; `None` if the status says it all.
    pub message: Option<Cow<'a, str>>,
    /// The same for a surface's own form, in which it is never missing.
    pub told: Cow<'a, str>,
    /// Seconds after which a client should try again: `Retry-After`.
    pub retry_after: Option<u64>,
    /// The size of the blob whose range was requested: `Content-Range`.
    pub size: Option<u64>,
}

/// A case of [`Failure`] as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureCase {
    /// Its name in the contract: `not-found`.
    pub name: &'static str,
    /// HTTP status.
    pub status: u16,
    /// For the client. Cases that carry their own text use that one instead.
    pub message: &'static str,
}

const fn case(name: &'static str, status: u16, message: &'static str) -> FailureCase {
    FailureCase { name, status, message }
}

const NOT_FOUND: FailureCase = case("not-found", 404, "not found");
const ALREADY_EXISTS: FailureCase =
    case("already-exists", 409, "another blob is stored under this name");
const PRECONDITION_FAILED: FailureCase =
    case("precondition-failed", 412, "the blob has been replaced");
const CHECKSUM_MISMATCH: FailureCase =
    case("checksum-mismatch", 400, "the bytes do not have the expected SHA-256");
const TRUNCATED: FailureCase = case("truncated", 400, "the body ended before its announced length");
const TOO_LARGE: FailureCase = case("too-large", 413, "too large");
const OUT_OF_RANGE: FailureCase =
    case("out-of-range", 416, "the requested range is outside of the blob");
const QUOTA_EXCEEDED: FailureCase = case("quota-exceeded", 507, "a quota would be exceeded");
const NO_SPACE: FailureCase = case("no-space", 507, "no space left in the store");
const DENIED: FailureCase = case("denied", 403, "denied");
const INVALID: FailureCase = case("invalid", 400, "invalid");
const UNSUPPORTED: FailureCase = case("unsupported", 501, "unsupported");
const UNAVAILABLE: FailureCase = case("unavailable", 503, "unavailable");
const BUSY: FailureCase = case("busy", 503, "busy");
const TIMED_OUT: FailureCase = case("timed-out", 504, "timed out");
const INTERNAL: FailureCase = case("internal", 500, "internal error");
/// Status and message of a refusal whose status is not from 400 to 599.
const REFUSED: FailureCase = case("refused", 500, "refused");

/// What clients are told of what only operators may know.
const SEE_LOG: &str = "internal error; the gateway's log says why";

/// What a failure becomes outside.
struct Row<'a> {
    /// A word for logs and metrics; that of a [`Failure`] is its name in the contract.
    code: &'static str,
    /// The word for programs of clients.
    told_code: &'static str,
    status: u16,
    /// For the log, and for the client if `public`.
    message: Cow<'a, str>,
    /// For the client if `message` is not.
    instead: &'static str,
    public: bool,
    /// Seconds after which trying again can help. None if it cannot, or if nobody knows.
    retry_after: Option<u64>,
}

const fn row(code: &'static str, status: u16, message: &'static str) -> Row<'static> {
    Row {
        code,
        told_code: code,
        status,
        message: Cow::Borrowed(message),
        instead: message,
        public: true,
        retry_after: None,
    }
}

impl<'a> Row<'a> {
    const fn of(case: FailureCase) -> Self {
        row(case.name, case.status, case.message)
    }

    /// The same with a more precise text.
    fn saying(self, message: impl Into<Cow<'a, str>>) -> Self {
        Row { message: message.into(), ..self }
    }

    /// The same with a text for operators only. A surface's own form has that of the table instead.
    fn private(self) -> Self {
        Row { public: false, ..self }
    }

    /// The same with another word for programs of clients.
    fn told_as(self, told_code: &'static str) -> Self {
        Row { told_code, ..self }
    }

    fn retry_after(self, seconds: u64) -> Self {
        Row { retry_after: Some(seconds), ..self }
    }

    fn answer(self) -> Answer<'a> {
        let message = self.public.then_some(self.message);
        Answer {
            status: self.status,
            code: self.told_code,
            told: message
                .clone()
                .filter(|message| !message.is_empty())
                .unwrap_or(Cow::Borrowed(self.instead)),
            message,
            retry_after: self.retry_after,
            size: None,
        }
    }
}

impl Failure {
    /// Every case, in the order of the contract. The SDKs have the same table; a test compares them.
    pub const CASES: [FailureCase; 17] = [
        NOT_FOUND,
        ALREADY_EXISTS,
        PRECONDITION_FAILED,
        CHECKSUM_MISMATCH,
        TRUNCATED,
        TOO_LARGE,
        OUT_OF_RANGE,
        QUOTA_EXCEEDED,
        NO_SPACE,
        DENIED,
        INVALID,
        UNSUPPORTED,
        UNAVAILABLE,
        BUSY,
        TIMED_OUT,
        INTERNAL,
        REFUSED,
    ];

    fn row(&self) -> Row<'_> {
        match self {
            Self::NotFound => Row::of(NOT_FOUND).private(),
            Self::AlreadyExists => Row::of(ALREADY_EXISTS),
            Self::PreconditionFailed => Row::of(PRECONDITION_FAILED),
            Self::ChecksumMismatch(None) => Row::of(CHECKSUM_MISMATCH),
            Self::ChecksumMismatch(Some(actual)) => Row::of(CHECKSUM_MISMATCH)
                .saying(format!("{}, but {actual}", CHECKSUM_MISMATCH.message)),
            Self::Truncated => Row::of(TRUNCATED),
            Self::TooLarge(limit) => {
                Row::of(TOO_LARGE).saying(format!("{}: more than {limit} bytes", TOO_LARGE.message))
            }
            Self::OutOfRange(size) => {
                Row::of(OUT_OF_RANGE).saying(format!("{} of {size} bytes", OUT_OF_RANGE.message))
            }
            Self::QuotaExceeded(which) => Row::of(QUOTA_EXCEEDED).saying(which),
            Self::NoSpace => Row::of(NO_SPACE),
            Self::Denied(why) => Row::of(DENIED).saying(why),
            Self::Invalid(why) => Row::of(INVALID).saying(why),
            Self::Unsupported(what) => Row::of(UNSUPPORTED).saying(what),
            // What is away comes back: a server, a cluster, a disk.
            Self::Unavailable(what) => Row::of(UNAVAILABLE).saying(what).retry_after(5),
            Self::Busy(what) => Row::of(BUSY).saying(what),
            Self::TimedOut => Row::of(TIMED_OUT).private(),
            Self::Internal(what) => {
                Row { instead: SEE_LOG, ..Row::of(INTERNAL) }.saying(what).private()
            }
            Self::Refused(refusal) => {
                Row { status: refusal.status, ..Row::of(REFUSED) }.saying(refusal.to_string())
            }
        }
    }

    /// Its name in the contract, in words joined by hyphens.
    pub fn code(&self) -> &'static str {
        self.row().code
    }

    /// The HTTP status that it is answered with, unless the client caused a time-out.
    pub fn status(&self) -> u16 {
        self.row().status
    }

    fn answer(&self, waiting: Waiting) -> Answer<'_> {
        let mut answer = self.row().answer();
        match self {
            Self::TimedOut if waiting == Waiting::ForClient => {
                answer.status = 408;
                answer.told = Cow::Borrowed("the client sent nothing for too long");
            }
            Self::OutOfRange(size) => answer.size = Some(*size),
            Self::Refused(refusal) => {
                answer.retry_after = refusal.retry_after.map(u64::from);
                if !refusal.code.is_empty() {
                    answer.code = &refusal.code;
                }
                if !refusal.message.is_empty() {
                    answer.told = Cow::Borrowed(&refusal.message);
                }
            }
            _ => {}
        }
        answer
    }
}

impl CallError {
    /// The row of everything that is not a [`Failure`], with the text for clients.
    fn row(&self) -> Row<'static> {
        const NOT_SERVING: &str = "nothing serves this path at the moment";
        const MISCONFIGURED: &str =
            "misconfigured: nothing serves this path until the gateway's operator corrects it";
        const OVER_LIMIT: &str = "the request exceeded a resource limit";
        // The same request would exceed it again.
        let over_limit = |code| row(code, 503, OVER_LIMIT).told_as("over-limit");
        match self {
            Self::Failure(failure) => Row { code: "failure", ..row("", failure.status(), "") },
            // The plugin folder is watched, so the file is used as soon as it is there.
            Self::NotServing(_) => {
                row("not-serving", 503, NOT_SERVING).told_as(UNAVAILABLE.name).retry_after(5)
            }
            Self::Misconfigured(_) => row("misconfigured", 503, MISCONFIGURED),
            Self::Busy(_) => row("busy", 503, "too many concurrent requests").retry_after(1),
            Self::Crowded(_) => {
                row("crowded", 503, "too many concurrent requests").told_as("busy").retry_after(1)
            }
            Self::Suspended(pause) => {
                let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
                row("aside", 503, NOT_SERVING).told_as(UNAVAILABLE.name).retry_after(seconds.max(1))
            }
            Self::OverLimit(Limit::Time(_)) => {
                row("time", 504, "the request took too long").told_as(TIMED_OUT.name)
            }
            Self::OverLimit(Limit::Memory(_)) => over_limit("memory"),
            Self::OverLimit(Limit::Cpu(_)) => over_limit("cpu"),
            Self::OverLimit(Limit::Held(_)) => over_limit("held"),
            Self::OverLimit(Limit::Handles(_)) => over_limit("handles"),
            Self::OverLimit(Limit::Open(_)) => over_limit("open"),
            Self::OverLimit(Limit::Layers(_)) => over_limit("layers"),
            Self::OverLimit(Limit::Arguments(_)) => over_limit("arguments"),
            Self::HostMemory(_) => row("host-memory", 503, "the gateway is short of memory")
                .told_as(UNAVAILABLE.name)
                .retry_after(5),
            Self::Trapped(_) => row("trap", 500, SEE_LOG).private().told_as(INTERNAL.name),
            Self::BadReply(_) => row("bad-reply", 500, SEE_LOG).private().told_as(INTERNAL.name),
        }
    }

    /// One word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        self.row().code
    }

    /// What the client is told.
    pub fn answer(&self, waiting: Waiting) -> Answer<'_> {
        if let Self::Failure(failure) = self {
            return failure.answer(waiting);
        }
        self.row().answer()
    }
}

impl std::error::Error for Failure {}

impl std::error::Error for CallError {}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

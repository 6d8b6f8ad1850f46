//! What a configuration may contain, as data: the schema of databacker's API, and what its clients need beyond that.

use super::document::Kind;
use super::encrypt::{self, Algorithm};

/// What a value has to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Text,
    Flag,
    /// A whole number from this one up to the largest that fits into 32 bits.
    Number(u32),
    /// A port.
    Port,
    Texts,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// Base64 of exactly so many bytes.
    Key(usize),
    /// Base64 of so many bytes or more.
    Data(usize),
    /// Fingerprints of certificates, at least one.
    Fingerprints,
    /// A URL that begins with one of these.
    Url(&'static [&'static str]),
    Cron,
    Retention,
    Object(&'static [Field]),
    /// An object with members that depend on something beside it, which are checked with that.
    Spec,
    /// An object whose members have names of their own.
    Targets,
}

/// A member of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// Why it has to be there, if it has to.
    pub(super) required: Option<&'static str>,
}

const fn may(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: None }
}

const fn must(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: Some("it is required") }
}

/// What must be there because clients crash without it.
const fn must_for_clients(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: Some("it is required: clients crash without it") }
}

pub(super) const VERSION: &str = "config.databack.io/v1";

/// The whole document. Its `spec` depends on its kind.
pub(super) const DOCUMENT: &[Field] = &[
    must("version", Shape::OneOf(&[VERSION])),
    must("kind", Shape::OneOf(Kind::NAMES)),
    may("metadata", Shape::Object(METADATA)),
    must("spec", Shape::Spec),
];

const METADATA: &[Field] = &[
    may("name", Shape::Text),
    may("description", Shape::Text),
    may("digest", Shape::Text),
    may("created", Shape::Text),
];

/// What the `spec` of a document of this kind contains.
pub(super) fn spec(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Local => LOCAL,
        Kind::Remote => REMOTE,
        Kind::Encrypted => ENCRYPTED,
    }
}

const HTTP: Shape = Shape::Url(&["https://", "http://"]);

const REMOTE: &[Field] = &[
    must("url", HTTP),
    must("credentials", Shape::Key(32)),
    must("certificates", Shape::Fingerprints),
];

const ENCRYPTED: &[Field] = &[
    must("algorithm", Shape::OneOf(Algorithm::NAMES)),
    must("recipientPublicKey", Shape::Key(32)),
    must("senderPublicKey", Shape::Key(32)),
    must("data", Shape::Data(encrypt::SHORTEST)),
];

const LOCAL: &[Field] = &[
    may("database", Shape::Object(DATABASE)),
    may("dump", Shape::Object(DUMP)),
    may("targets", Shape::Targets),
    may("telemetry", Shape::Object(TELEMETRY)),
    may("prune", Shape::Object(&[may("retention", Shape::Retention)])),
    may(
        "restore",
        Shape::Object(&[may("preRestore", Shape::Text), may("postRestore", Shape::Text)]),
    ),
    may("logging", Shape::OneOf(&["trace", "debug", "info", "warn", "error"])),
];

const DATABASE: &[Field] = &[
    may("server", Shape::Text),
    may("port", Shape::Port),
    must_for_clients("credentials", Shape::Object(CREDENTIALS)),
];

const CREDENTIALS: &[Field] = &[may("username", Shape::Text), may("password", Shape::Text)];

const TELEMETRY: &[Field] = &[
    must("url", HTTP),
    must_for_clients("credentials", Shape::Key(32)),
    must_for_clients("certificates", Shape::Fingerprints),
    may("bufferSize", Shape::Number(0)),
];

const DUMP: &[Field] = &[
    may("include", Shape::Texts),
    may("exclude", Shape::Texts),
    may("safechars", Shape::Flag),
    may("noDatabaseName", Shape::Flag),
    may("skipExtendedInsert", Shape::Flag),
    may("schedule", Shape::Object(SCHEDULE)),
    may("compression", Shape::OneOf(&["gzip", "bzip2", "none"])),
    may("compact", Shape::Flag),
    may("triggers", Shape::Flag),
    may("routines", Shape::Flag),
    may("maxAllowedPacket", Shape::Number(0)),
    may("filenamePattern", Shape::Text),
    may("encryption", Shape::Object(ENCRYPTION)),
    may("targets", Shape::Texts),
    may("parallelism", Shape::Number(1)),
    may("scripts", Shape::Object(&[may("preBackup", Shape::Text), may("postBackup", Shape::Text)])),
];

const SCHEDULE: &[Field] = &[
    may("cron", Shape::Cron),
    may("frequency", Shape::Number(1)),
    may("begin", Shape::Number(0)),
    may("once", Shape::Flag),
];

const ENCRYPTION: &[Field] = &[
    may(
        "algorithm",
        Shape::OneOf(&[
            "aes256-cbc",
            "chacha20-poly1305",
            "smime-aes256-cbc",
            "pbkdf2-aes256-cbc",
            "age-chacha20-poly1305",
        ]),
    ),
    may("key", Shape::Text),
    may("keyPath", Shape::Text),
];

const TARGET_TYPES: &[&str] = &["s3", "smb", "file"];

/// What a target contains, by its type; without a known one, its `spec` may contain anything.
pub(super) fn target(kind: Option<&str>) -> &'static [Field] {
    match kind {
        Some("s3") => S3,
        Some("smb") => SMB,
        Some("file") => FILE,
        _ => UNKNOWN,
    }
}

const TYPE: Field = must("type", Shape::OneOf(TARGET_TYPES));

const S3: &[Field] = &[
    TYPE,
    must("url", Shape::Url(&["s3://"])),
    may(
        "spec",
        Shape::Object(&[
            may("region", Shape::Text),
            may("endpoint", Shape::Text),
            may("pathStyle", Shape::Flag),
            may("accessKeyID", Shape::Text),
            may("secretAccessKey", Shape::Text),
        ]),
    ),
];

const SMB: &[Field] = &[
    TYPE,
    must("url", Shape::Url(&["smb://"])),
    may(
        "spec",
        Shape::Object(&[
            may("domain", Shape::Text),
            may("username", Shape::Text),
            may("password", Shape::Text),
        ]),
    ),
];

const FILE: &[Field] =
    &[TYPE, must("url", Shape::Url(&["file://", "/"])), may("spec", Shape::Object(&[]))];

const UNKNOWN: &[Field] = &[TYPE, must("url", Shape::Text), may("spec", Shape::Spec)];

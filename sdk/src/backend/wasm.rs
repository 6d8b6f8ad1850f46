//! Inside a component: the contract's imports, as they are generated, and a thin layer where Rust says a
//! thing better.

pub use crate::bindings::keepgate::plugin::blobs::{Download, Listing};
pub use crate::bindings::keepgate::plugin::types::Body;
use crate::bindings::keepgate::plugin::{blobs, http};
pub use crate::bindings::keepgate::plugin::{etcd, jobs, pipes};
use crate::{Condition, Failure, Info, Part, Piece, PutOptions, Stored};

/// A store that the mount grants. Its methods are described where they run natively.
#[derive(Debug)]
pub struct Store(blobs::Store);

#[allow(missing_docs, reason = "the documentation is made of the native ones")]
impl Store {
    pub fn open(name: &str) -> Result<Self, Failure> {
        blobs::Store::open(name).map(Self)
    }

    pub fn head(&self, key: &str) -> Result<Info, Failure> {
        self.0.head(key)
    }

    pub fn get(&self, key: &str, part: Part) -> Result<Download, Failure> {
        self.0.get(key, part)
    }

    pub fn put(&self, key: &str, data: Body, options: &PutOptions) -> Result<Stored, Failure> {
        self.0.put(key, data, options)
    }

    pub fn concat(
        &self,
        key: &str,
        pieces: &[Piece],
        options: &PutOptions,
    ) -> Result<Stored, Failure> {
        self.0.concat(key, pieces, options)
    }

    pub fn delete(&self, key: &str) -> Result<Option<u64>, Failure> {
        self.0.delete(key, &Condition::Always)
    }

    pub fn delete_matching(&self, key: &str, etag: &str) -> Result<Option<u64>, Failure> {
        self.0.delete(key, &Condition::Matches(etag.to_owned()))
    }

    pub fn list(&self, folder: &str, recursive: bool) -> Result<Listing, Failure> {
        self.0.list(folder, recursive, None)
    }

    pub fn list_after(
        &self,
        folder: &str,
        recursive: bool,
        after: &str,
    ) -> Result<Listing, Failure> {
        self.0.list(folder, recursive, Some(after))
    }

    pub fn prepare(&self, folders: &[String]) -> Result<(), Failure> {
        self.0.prepare(folders)
    }
}

/// Settings, clock, randomness, the operator's log and metrics.
pub mod environment {
    use crate::bindings::keepgate::plugin::environment as contract;
    pub use contract::{now, random, settings};

    use crate::Level;

    /// Writes to the operator's log.
    pub fn log(level: Level, message: &str) {
        contract::log(level, message, &[]);
    }

    /// The same with fields, as pairs of name and value.
    pub fn log_with(level: Level, message: &str, fields: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        contract::log(level, message, &fields.iter().map(owned).collect::<Vec<_>>());
    }

    /// Adds to a counter that [`Description::counter`](crate::Description::counter) named.
    pub fn count(metric: &str, labels: &[&str], by: u64) {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        contract::count(metric, &labels, by);
    }

    /// Sets a gauge that [`Description::gauge`](crate::Description::gauge) named, until it is set again
    /// or the gateway ends. A value that is not finite is dropped.
    pub fn set(metric: &str, labels: &[&str], value: f64) {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        contract::set(metric, &labels, value);
    }
}

/// A streamed reply under way.
#[derive(Debug)]
pub struct Writer(http::Writer);

impl Writer {
    pub(crate) fn start(status: &u16, headers: &[(String, String)]) -> Result<Self, Failure> {
        let head = http::Head { status: *status, headers: headers.to_vec() };
        http::Writer::start(&head).map(Self)
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write(bytes)
    }
}

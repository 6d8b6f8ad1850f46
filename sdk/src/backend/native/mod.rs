//! Outside a component: the same types as in `wasm.rs`, over the in-memory host of
//! [`testing`](crate::testing), so that plugins are tested with `cargo test`.

pub mod etcd;
pub mod jobs;
pub mod pipes;

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::testing::{self, with_host};
use crate::{Entry, Failure, Info, Part, Piece, PutOptions, Stored};

/// Bytes held by the host. Handing a body on costs nothing: its bytes enter the plugin only
/// through [`read`](Self::read).
#[derive(Debug)]
pub struct Body {
    rest: RefCell<Vec<u8>>,
    length: Option<u64>,
    /// How it ends after what is there, where not well.
    ends: Option<Failure>,
    /// Told when it has been read to a good end.
    meter: Option<pipes::Watch>,
}

impl Body {
    /// A body made of bytes that the plugin holds.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            rest: RefCell::new(bytes.to_vec()),
            length: Some(bytes.len() as u64),
            ends: None,
            meter: None,
        }
    }

    /// A body whose sender stops after these bytes although it announced more.
    pub(crate) fn cut_short(bytes: &[u8], announced: u64) -> Self {
        Self::failing(bytes, Some(announced), Failure::Truncated)
    }

    /// A body that fails after these bytes.
    pub(crate) fn failing(bytes: &[u8], length: Option<u64>, ends: Failure) -> Self {
        Self { length, ends: Some(ends), ..Self::from_bytes(bytes) }
    }

    /// What another body becomes when all its bytes are turned into others.
    pub(crate) fn turned(self, length: Option<u64>, turn: impl FnOnce(Vec<u8>) -> Self) -> Self {
        match self.into_bytes() {
            Ok(bytes) => turn(bytes),
            Err(failure) => Self::failing(&[], length, failure),
        }
    }

    /// Length in bytes, where it is known before reading.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next chunk, of at most `max` bytes and never empty; none at the end.
    pub fn read(&self, max: u32) -> Result<Option<Vec<u8>>, Failure> {
        let mut rest = self.rest.borrow_mut();
        if rest.is_empty() {
            return self.end().map(|()| None);
        }
        let length = rest.len().min(usize::try_from(max.max(1)).unwrap_or(1));
        Ok(Some(rest.drain(..length).collect()))
    }

    /// All that is left of it.
    pub(crate) fn into_bytes(self) -> Result<Vec<u8>, Failure> {
        self.end()?;
        Ok(self.rest.into_inner())
    }

    fn end(&self) -> Result<(), Failure> {
        if let Some(failure) = &self.ends {
            return Err(failure.clone());
        }
        if let Some(meter) = &self.meter {
            meter.ended();
        }
        Ok(())
    }
}

/// A blob, or a part of it, opened for reading.
#[derive(Debug)]
pub struct Download {
    /// What is known of the whole blob.
    pub info: Info,
    /// Where the body starts within the blob.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
    /// The bytes.
    pub data: Body,
}

/// A store that the mount grants.
#[derive(Debug)]
pub struct Store(String);

impl Store {
    /// The store that the mount's configuration has under this name.
    pub fn open(name: &str) -> Result<Self, Failure> {
        with_host(|host| host.open(name))?;
        Ok(Self(name.to_owned()))
    }

    /// What is known of a blob.
    pub fn head(&self, key: &str) -> Result<Info, Failure> {
        with_host(|host| host.store(&self.0).head(key))
    }

    /// Opens a blob or a part of it.
    pub fn get(&self, key: &str, part: Part) -> Result<Download, Failure> {
        let (info, offset, bytes) = with_host(|host| host.store(&self.0).get(key, part))?;
        let (length, data) = (bytes.len() as u64, Body::from_bytes(&bytes));
        Ok(Download { info, offset, length, data })
    }

    /// Stores a body, all of it or nothing; durable when it returns. What it changed is in the answer:
    /// with [`PutOptions::absent_or_identical`] a success may be one that wrote nothing.
    pub fn put(&self, key: &str, data: Body, options: &PutOptions) -> Result<Stored, Failure> {
        with_host(|host| host.store(&self.0).put(key, || data.into_bytes(), options))
    }

    /// Joins pieces of blobs into one, in order, with the same guarantees as [`put`](Self::put). The
    /// blobs stay. Fails with [`Failure::OutOfRange`] where no byte of a piece is inside its blob.
    pub fn concat(
        &self,
        key: &str,
        pieces: &[Piece],
        options: &PutOptions,
    ) -> Result<Stored, Failure> {
        with_host(|host| host.store(&self.0).concat(key, pieces, options))
    }

    /// Removes a blob; its size in bytes, none where there was none. Durable when it returns.
    pub fn delete(&self, key: &str) -> Result<Option<u64>, Failure> {
        with_host(|host| host.store(&self.0).delete(key, None))
    }

    /// Removes the very blob that has this etag. Fails with [`Failure::PreconditionFailed`] where
    /// another is there by now, or none.
    pub fn delete_matching(&self, key: &str, etag: &str) -> Result<Option<u64>, Failure> {
        with_host(|host| host.store(&self.0).delete(key, Some(etag)))
    }

    /// Blobs below a folder, ascending by the bytes of their keys. Fails with [`Failure::NotFound`]
    /// where there is no such folder; the top, written as the empty text, is always there.
    pub fn list(&self, folder: &str, recursive: bool) -> Result<Listing, Failure> {
        let entries = with_host(|host| host.store(&self.0).list(folder, recursive, None))?;
        Ok(Listing(RefCell::new(entries.into())))
    }

    /// Those after a [place](Entry::place): the next page of a list. What comes before costs nothing.
    pub fn list_after(
        &self,
        folder: &str,
        recursive: bool,
        after: &str,
    ) -> Result<Listing, Failure> {
        let entries = with_host(|host| host.store(&self.0).list(folder, recursive, Some(after)))?;
        Ok(Listing(RefCell::new(entries.into())))
    }

    /// Makes folders, with their parents.
    pub fn prepare(&self, folders: &[String]) -> Result<(), Failure> {
        with_host(|host| host.store(&self.0).prepare(folders))
    }
}

/// A listing under way.
#[derive(Debug)]
pub struct Listing(RefCell<VecDeque<Entry>>);

impl Listing {
    /// The next entries, `max` at most; an empty list is the end.
    pub fn next(&self, max: u32) -> Result<Vec<Entry>, Failure> {
        let mut rest = self.0.borrow_mut();
        let length = rest.len().min(usize::try_from(max.max(1)).unwrap_or(1));
        Ok(rest.drain(..length).collect())
    }
}

/// Settings, clock, randomness, the operator's log and metrics.
pub mod environment {
    use crate::Level;
    use crate::testing::with_host;

    /// The mount's settings, as a JSON object.
    pub fn settings() -> String {
        with_host(|host| host.settings.clone())
    }

    /// Nanoseconds since the Unix epoch.
    pub fn now() -> u64 {
        with_host(|host| host.now)
    }

    /// Bytes that are unpredictable in a real host and zero here.
    pub fn random(length: u32) -> Vec<u8> {
        vec![0; usize::try_from(length).unwrap_or(0)]
    }

    /// Writes to the operator's log.
    pub fn log(level: Level, message: &str) {
        log_with(level, message, &[]);
    }

    /// The same with fields, as pairs of name and value. The log has them behind the message, as in
    /// `made name="a.tar"`.
    pub fn log_with(level: Level, message: &str, fields: &[(&str, &str)]) {
        let mut line = message.to_owned();
        for (name, value) in fields {
            line.push_str(&format!(" {name}={value:?}"));
        }
        with_host(|host| host.log.push((level, line)));
    }

    /// Adds to a counter that [`Description::counter`](crate::Description::counter) named.
    pub fn count(metric: &str, labels: &[&str], by: u64) {
        with_host(|host| *host.counts.entry(series(metric, labels)).or_default() += by);
    }

    /// Sets a gauge that [`Description::gauge`](crate::Description::gauge) named. A value that is not
    /// finite is dropped.
    pub fn set(metric: &str, labels: &[&str], value: f64) {
        if value.is_finite() {
            with_host(|host| host.gauges.insert(series(metric, labels), value));
        }
    }

    fn series(metric: &str, labels: &[&str]) -> String {
        let series = std::iter::once(metric).chain(labels.iter().copied());
        series.collect::<Vec<_>>().join(" ")
    }
}

/// A streamed reply under way.
#[derive(Debug)]
pub struct Writer(());

impl Writer {
    pub(crate) fn start(status: &u16, headers: &[(String, String)]) -> Result<Self, Failure> {
        with_host(|host| {
            if host.streamed.is_some() {
                return Err(Failure::Invalid("this reply has been started before".to_owned()));
            }
            host.streamed = Some(testing::Streamed {
                status: *status,
                headers: headers.to_vec(),
                bytes: Vec::new(),
            });
            Ok(Self(()))
        })
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        with_host(|host| {
            if let Some(streamed) = &mut host.streamed {
                streamed.bytes.extend_from_slice(bytes);
            }
        });
        Ok(())
    }
}

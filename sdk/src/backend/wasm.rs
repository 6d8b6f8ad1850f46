//! Inside a component: the contract's imports, as they are generated.

use crate::Failure;
pub use crate::bindings::keepgate::plugin::blobs::{Download, Listing, Store};
use crate::bindings::keepgate::plugin::http;
pub use crate::bindings::keepgate::plugin::types::Body;
pub use crate::bindings::keepgate::plugin::{etcd, jobs, pipes};

/// Settings, clock, randomness, the operator's log and metrics.
pub mod environment {
    use crate::bindings::keepgate::plugin::environment as contract;
    pub use contract::{now, random, settings};

    use crate::Level;

    /// Writes to the operator's log.
    pub fn log(level: Level, message: &str) {
        contract::log(level, message, &[]);
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

//! The host's writer.

use crate::Failure;
use crate::bindings::keepgate::plugin::http;

/// A streamed reply.
#[derive(Debug)]
pub(crate) struct Writer(http::Writer);

impl Writer {
    pub(crate) fn start(status: &u16, headers: &[(String, String)]) -> Result<Self, Failure> {
        let head = http::Head { status: *status, headers: headers.to_vec() };
        http::Writer::start(&head).map(Self)
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write(bytes)
    }
}

pub(crate) fn inform(status: u16, headers: &[(String, String)]) -> Result<(), Failure> {
    http::inform(&http::Head { status, headers: headers.to_vec() })
}

//! HTTP/1.1 by hand, so that a test says what goes over the wire and sees what comes back, down to the byte: the
//! client of the case engine.

pub use keepgate_harness::socket::connection::{
    Connection, Download, Duplex, Reply, Socket, Writer,
};

//! Streamed replies are collected for the test that sent the request.

use crate::Failure;
use crate::testing::{Host, TestReply, with};

/// The streamed reply to the current request, as far as it has been written.
type Streamed = Option<TestReply>;

/// A streamed reply.
#[derive(Debug)]
pub(crate) struct Writer(());

impl Writer {
    pub(crate) fn start(status: &u16, headers: &[(String, String)]) -> Result<Self, Failure> {
        with(|streamed: &mut Streamed| {
            if streamed.is_some() {
                return Err(Failure::Invalid("this reply has been started before".to_owned()));
            }
            *streamed = Some(TestReply {
                status: *status,
                headers: headers.to_vec(),
                body: Vec::new(),
                failure: None,
            });
            Ok(Self(()))
        })
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        with(|streamed: &mut Streamed| {
            if let Some(reply) = streamed {
                reply.body.extend_from_slice(bytes);
            }
        });
        Ok(())
    }
}

/// The interim responses so far.
#[derive(Debug, Default)]
struct Informed(Vec<(u16, Vec<(String, String)>)>);

pub(crate) fn inform(status: u16, headers: &[(String, String)]) -> Result<(), Failure> {
    if !(102..=199).contains(&status) {
        return Err(Failure::Invalid("the status of an interim response is 102 to 199".to_owned()));
    }
    with(|informed: &mut Informed| informed.0.push((status, headers.to_vec())));
    Ok(())
}

impl Host {
    /// The interim responses since the last call of this function, with status and headers.
    pub fn interim_responses(&self) -> Vec<(u16, Vec<(String, String)>)> {
        with(|informed: &mut Informed| std::mem::take(&mut informed.0))
    }
}

/// Takes what has been streamed, so that the next request starts with nothing.
pub(crate) fn take_streamed() -> Option<TestReply> {
    with(|streamed: &mut Streamed| streamed.take())
}

//! A call to a mount in plain types: what goes in, what comes out, and what each failure means to a
//! client. `http` and `runtime` both build on this crate and do not know each other.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`call`] | requests, replies, and who is asking |
//! | [`failure`] | every failure, with its code, status and message in one table |
//! | [`handler`] | what answers the requests below a path prefix |
//! | `text` | texts by others in messages and logs |
//! | [`refusal_form`] | the form in which a surface reports failures, as its plugin declares it |
//!
//! Invariants: nothing here names WebAssembly or an HTTP library, and no other crate chooses a
//! status for a failure.

pub mod call;
pub mod failure;
pub mod handler;
pub mod refusal_form;
mod store_error;
mod text;

pub use call::{Principal, Reply, Request, SendInterim};
pub use failure::{Answer, CallError, Failure, FailureCase, Limit, PluginRefusal, Waiting};
pub use handler::Handler;
pub use refusal_form::{RefusalForm, RefusalFormError, Refused};
pub use text::one_line;

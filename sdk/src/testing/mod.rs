//! A host in memory, for testing a plugin's logic with `cargo test`.
//!
//! ```
//! # use keepgate_sdk::{Description, Failure, Plugin, Reply, Request};
//! # struct Echo;
//! # impl Plugin for Echo {
//! #     type Settings = serde_json::Value;
//! #     fn describe() -> Description { Description::new("echo", "1") }
//! #     fn handle(request: Request, _: Self::Settings) -> Result<Reply, Failure> {
//! #         Ok(Reply::ok().body(request.body))
//! #     }
//! # }
//! use keepgate_sdk::testing::Host;
//!
//! let host = Host::new(); // with an empty store "main" and no settings
//! let reply = host.post("/some/path", b"hello").send::<Echo>();
//! assert_eq!((reply.status, reply.body.as_slice()), (200, b"hello".as_slice()));
//! ```
//!
//! The host belongs to the thread: each test has its own, and there is one at a time. What it does for a
//! capability is with that capability, in `capability/*/native.rs`; here are requests and the host itself.

mod request;

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

pub use crate::capability::doubles::*;
pub use request::{RequestBuilder, TestReply};

use crate::{Jobs, Plugin, Principal, glue};

thread_local! {
    /// The state of each capability's double, by its type.
    static DOUBLES: RefCell<HashMap<TypeId, Rc<dyn Any>>> = RefCell::default();
}

/// Lends the state of a capability's double, which is its default in a new host. Within `work`, a double must
/// not ask for its own state again.
pub(crate) fn with<D: Default + 'static, T>(work: impl FnOnce(&mut D) -> T) -> T {
    let new = || -> Rc<dyn Any> { Rc::new(RefCell::new(D::default())) };
    let double = DOUBLES
        .with_borrow_mut(|doubles| doubles.entry(TypeId::of::<D>()).or_insert_with(new).clone());
    match double.downcast_ref::<RefCell<D>>() {
        Some(double) => work(&mut double.borrow_mut()),
        // There is one for each type.
        None => work(&mut D::default()),
    }
}

/// The user of the current call.
#[derive(Debug, Default)]
pub(crate) struct Caller(pub(crate) Option<Principal>);

impl Caller {
    pub(crate) fn replace(principal: Option<Principal>) -> Option<Principal> {
        with(|Self(caller): &mut Self| std::mem::replace(caller, principal))
    }
}

/// The in-memory host of this thread.
#[derive(Debug)]
pub struct Host(());

impl Host {
    /// A new host with an empty store `main` and no settings. It replaces the previous one.
    pub fn new() -> Self {
        DOUBLES.set(HashMap::new());
        Self(())
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

/// Checks settings as the host does when it loads a configuration. The error names the setting that is wrong.
///
/// ```
/// # use keepgate_sdk::{Description, Failure, Plugin, Reply, Request};
/// # #[derive(serde::Deserialize)]
/// # #[serde(default, deny_unknown_fields)]
/// # #[derive(Default)]
/// # struct Settings { level: u8 }
/// # struct Shelf;
/// # impl Plugin for Shelf {
/// #     type Settings = Settings;
/// #     fn describe() -> Description { Description::new("shelf", "1") }
/// #     fn handle(_: Request, _: Settings) -> Result<Reply, Failure> { Ok(Reply::ok()) }
/// # }
/// use keepgate_sdk::testing::check_settings;
/// use serde_json::json;
///
/// let error = check_settings::<Shelf>(&json!({"level": 1000})).unwrap_err();
/// assert_eq!(error, "level: invalid value: integer `1000`, expected u8");
/// ```
pub fn check_settings<P: Plugin>(settings: &serde_json::Value) -> Result<(), String> {
    glue::check_settings::<P>(&settings.to_string())
}

/// Checks the kind and the input of a job, as the host does for a schedule. Returns the job's key, or what is
/// wrong.
pub fn check_job<P: Jobs>(kind: &str, input: &[u8]) -> Result<String, String> {
    glue::check_job::<P>(kind, input)
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

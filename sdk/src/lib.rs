//! Write backup backends for Keepgate.
//!
//! A plugin decides; the host moves the bytes. The plugin sees the head of a request, holds handles to bodies
//! and stores, and says what happens to them:
//!
//! ```
//! use keepgate_sdk::{Description, Failure, Method, Part, Plugin, PutOptions, Reply, Request, Store};
//!
//! struct Shelf;
//!
//! #[derive(Default, serde::Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Settings {
//!     prefix: String,
//! }
//!
//! impl Plugin for Shelf {
//!     type Settings = Settings;
//!
//!     fn describe() -> Description {
//!         Description::new("shelf", "0.1.0").summary("Files on a shelf").store("main")
//!     }
//!
//!     fn handle(request: Request, settings: Settings) -> Result<Reply, Failure> {
//!         let store = Store::open("main")?;
//!         let path = request.path();
//!         match (&request.method, path.as_slice()) {
//!             (Method::Get, [name]) => {
//!                 let found = store.get(&format!("{}{name}", settings.prefix), Part::Whole)?;
//!                 Ok(Reply::ok().body(found.data))
//!             }
//!             (Method::Put, [name]) => {
//!                 let key = format!("{}{name}", settings.prefix);
//!                 store.put(&key, request.body, &PutOptions::absent())?;
//!                 Ok(Reply::new(201))
//!             }
//!             (_, [_]) => Ok(Reply::method_not_allowed("GET, PUT")),
//!             _ => Err(Failure::NotFound),
//!         }
//!     }
//! }
//!
//! keepgate_sdk::export!(Shelf);
//! # fn main() {}
//! ```
//!
//! The same code runs in two places. Built for `wasm32-unknown-unknown` and wrapped as a component it is a plugin.
//! Built natively it is an ordinary library on the in-memory host of [`testing`], so that `cargo test` tests its
//! logic.
//!
//! | for | there is |
//! | --- | --- |
//! | paths and methods | [`Router`], or [`Request::path`] to match by hand |
//! | GET and HEAD of a blob | [`BlobAnswer`]; [`Store::get_range`] for blobs that never change |
//! | a surface's own form of failures | [`Plugin::refuse`] with [`Failure::reply`] |
//! | JSON | [`Request::json`], [`Reply::json`], [`json`] |
//! | what is known of a blob, beside it | [`sidecar`] |
//! | lists in pages | [`Page`] |
//! | a small table of the mount | [`records`] |
//! | keys of the operator, to sign and to seal with | [`secrets`] |
//! | news for whoever waits for it | [`topics`] |
//! | one at a time | [`turns`] |
//! | work that outlives a request | [`jobs`], [`Jobs`], and [`job_api`] for the HTTP API over it |
//! | times, durations, names by time | [`Timestamp`], [`HumanDuration`], [`TimeNames`] |
//! | what is kept, and for how long | [`retention`] |

#[cfg(any(target_family = "wasm", test))]
mod allocator;
#[doc(hidden)]
pub mod bindings;
mod blob_answer;
#[cfg(doctest)]
mod book;
mod capability;
mod describe;
mod failure;
#[doc(hidden)]
pub mod glue;
mod human_duration;
pub mod job_api;
pub mod json;
mod media;
mod negotiate;
mod page;
pub mod range;
mod reason;
mod reply;
mod request;
pub mod retention;
mod router;
pub mod sidecar;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod time_names;
mod timestamp;

pub use bindings::keepgate::plugin::types::{Failure, Principal, Refusal};
pub use blob_answer::BlobAnswer;
pub use capability::*;
pub use describe::Description;
pub use failure::FailureCase;
pub use human_duration::HumanDuration;
pub use page::{Filled, Page};
pub use reason::reason_phrase;
pub use reply::{Content, Reply, StreamWriter};
pub use request::{Method, Request};
pub use router::{Call, Handler, Methods, Router, at};
pub use time_names::{TimeName, TimeNames};
pub use timestamp::Timestamp;

/// A plugin: its description, the check of a mount's settings, and the handler of requests.
pub trait Plugin {
    /// The mount's settings, which the operator writes under `settings`. Deny unknown fields, so that typing
    /// errors are rejected.
    type Settings: serde::de::DeserializeOwned;

    /// Describes the plugin. Called once at load, when nothing is granted.
    fn describe() -> Description;

    /// Checks parsed settings. Accepts everything by default.
    fn check(settings: &Self::Settings) -> Result<(), String> {
        let _ = settings;
        Ok(())
    }

    /// Handles a request. A failure becomes the reply that [`refuse`](Self::refuse) returns.
    fn handle(request: Request, settings: Self::Settings) -> Result<Reply, Failure>;

    /// The reply to a failure of [`handle`](Self::handle), or of a [`Router`] in it, in this surface's own form.
    /// [`Failure::reply`] makes one. If there is none, which is the default, the host replies with the status
    /// that [`Failure`] documents and the message, in the form that `refusals.json` beside the sources declares, or in
    /// plain text. It uses that form for what it refuses itself, too, such as a login. Leave [`Failure::TimedOut`] to
    /// the host: only it knows whether the client was the one that did not send, which is a 408 and not a 504.
    ///
    /// If a router has the path but not the method, the reply gets the status 405 and the header `Allow`,
    /// whatever its form.
    fn refuse(failure: &Failure) -> Option<Reply> {
        let _ = failure;
        None
    }
}

/// A plugin with work that outlives requests; see [`jobs`].
pub trait Jobs: Plugin {
    /// Returns the key of a job that a schedule or an operator starts. Jobs of one kind and key run one after
    /// another. The kind is one that [`Description::job`] declared. An error says what is wrong with the
    /// input. By default, all jobs of a kind have the same key, and any input is accepted.
    fn check_job(kind: &str, input: &[u8], settings: &Self::Settings) -> Result<String, String> {
        let _ = (kind, input, settings);
        Ok(String::new())
    }

    /// Runs one attempt of a job of a kind that [`Description::job`] declared. The output, at most 64 KiB, is
    /// kept with the job. Cancelling the job ends the call at once.
    fn run_job(job: jobs::Job, settings: Self::Settings) -> Result<Vec<u8>, Failure>;
}

/// Exports a type that implements [`Plugin`] as this crate's plugin. With `jobs`, the type also runs the
/// plugin's jobs and must implement [`Jobs`].
#[macro_export]
macro_rules! export {
    ($plugin:ty, jobs) => {
        $crate::export!($plugin);

        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "generated by wit-bindgen")]
        mod keepgate_export_jobs {
            #[allow(unused_imports)]
            use super::*;
            struct Component;

            impl $crate::bindings::worker::exports::keepgate::plugin::job_runner::Guest for Component {
                fn check(kind: String, input: Vec<u8>) -> Result<String, String> {
                    $crate::glue::check_job::<$plugin>(&kind, &input)
                }

                fn run(job: $crate::jobs::Job) -> Result<Vec<u8>, $crate::Failure> {
                    $crate::glue::run_job::<$plugin>(job)
                }
            }

            $crate::bindings::worker::export_worker!(
                Component with_types_in $crate::bindings::worker
            );
        }
    };
    ($plugin:ty) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "generated by wit-bindgen")]
        mod keepgate_export {
            #[allow(unused_imports)]
            use super::*;
            struct Component;

            impl $crate::bindings::exports::keepgate::plugin::guest::Guest for Component {
                fn describe()
                -> $crate::bindings::exports::keepgate::plugin::guest::Description {
                    $crate::glue::describe::<$plugin>()
                }

                fn check_settings(settings: String) -> Result<(), String> {
                    $crate::glue::check_settings::<$plugin>(&settings)
                }

                fn handle(
                    request: $crate::bindings::exports::keepgate::plugin::guest::Request,
                ) -> Result<
                    $crate::bindings::exports::keepgate::plugin::guest::Reply,
                    $crate::Failure,
                > {
                    $crate::glue::handle::<$plugin>(request)
                }
            }

            $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        }
    };
}

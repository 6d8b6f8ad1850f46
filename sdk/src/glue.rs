//! Between the generated bindings and [`Plugin`]. Used by [`export!`](crate::export), not by
//! plugins.

#[cfg(target_family = "wasm")]
use crate::bindings::{exports::keepgate::plugin::guest, keepgate::plugin::http};
use crate::jobs::Job;
#[cfg(target_family = "wasm")]
use crate::{Content, Method};
use crate::{Failure, Jobs, Plugin, Reply, Request, environment, router};

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn describe<P: Plugin>() -> guest::Description {
    say_panics();
    P::describe().0
}

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn check_settings<P: Plugin>(settings: &str) -> Result<(), String> {
    say_panics();
    let settings: P::Settings = parse_with_path(settings)?;
    P::check(&settings)
}

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn handle<P: Plugin>(request: guest::Request) -> Result<guest::Reply, Failure> {
    say_panics();
    let request = Request {
        method: Method::new(&request.method),
        base: request.base,
        target: request.target,
        address: request.address,
        id: request.id,
        segments: request.path,
        trailing_slash: request.trailing_slash,
        query: request.query,
        headers: request.headers,
        principal: request.principal,
        body: request.body,
    };
    let reply = run::<P>(request)?;
    let head = http::Head { status: reply.status, headers: reply.headers };
    let content = match reply.content {
        Content::Streamed => return Ok(guest::Reply::Streamed),
        Content::Empty => http::Content::Empty,
        Content::Bytes(bytes) => http::Content::Bytes(bytes),
        Content::Body(body) => http::Content::Body(body),
    };
    Ok(guest::Reply::Full((head, content)))
}

/// A kind and an input of a job, with the mount's settings.
#[doc(hidden)]
pub fn check_job<P: Jobs>(kind: &str, input: &[u8]) -> Result<String, String> {
    say_panics();
    let settings = settings::<P>().map_err(|failure| failure.message().to_owned())?;
    P::check_job(kind, input, &settings)
}

/// A job with the mount's settings.
#[doc(hidden)]
pub fn run_job<P: Jobs>(job: Job) -> Result<Vec<u8>, Failure> {
    say_panics();
    P::run_job(job, settings::<P>()?)
}

/// A request with the mount's settings.
pub(crate) fn run<P: Plugin>(request: Request) -> Result<Reply, Failure> {
    P::handle(request, settings::<P>()?).or_else(told::<P>)
}

/// A failure in the form of the plugin's surface, where it has one.
fn told<P: Plugin>(failure: Failure) -> Result<Reply, Failure> {
    match (P::refuse(&failure), router::allowed(&failure)) {
        (Some(reply), None) => Ok(reply),
        (Some(reply), Some(allow)) => Ok(Reply { status: 405, ..reply }.header("allow", allow)),
        (None, Some(allow)) => Ok(Reply::method_not_allowed(allow)),
        (None, None) => Err(failure),
    }
}

/// The mount's settings. They were checked at load, so that trouble with them
/// here is a bug.
fn settings<P: Plugin>() -> Result<P::Settings, Failure> {
    parse(&environment::settings()).map_err(|error| Failure::Internal(format!("settings: {error}")))
}

/// A panic is a trap, and a trap has no words: they go to the operator's log before it, with file and
/// line.
fn say_panics() {
    #[cfg(target_family = "wasm")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            std::panic::set_hook(Box::new(|panic| {
                environment::log(crate::Level::Error, &panic.to_string());
            }));
        });
    }
}

/// Settings by name and type; the error names the setting that is wrong.
#[cfg(target_family = "wasm")]
fn parse_with_path<T: serde::de::DeserializeOwned>(settings: &str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(settings);
    serde_path_to_error::deserialize(&mut json).map_err(|error| error.to_string())
}

fn parse<T: serde::de::DeserializeOwned>(settings: &str) -> Result<T, String> {
    serde_json::from_str(settings).map_err(|error| error.to_string())
}

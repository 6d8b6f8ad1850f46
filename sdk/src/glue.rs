//! Connects the generated bindings with [`Plugin`]. Used by [`export!`](crate::export), not by plugins.

#[cfg(target_family = "wasm")]
use crate::bindings::{exports::keepgate::plugin::guest, keepgate::plugin::http};
use crate::jobs::Job;
#[cfg(target_family = "wasm")]
use crate::{Content, Method};
use crate::{Failure, Jobs, Plugin, Reply, Request, environment};

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn describe<P: Plugin>() -> guest::Description {
    log_panics();
    P::describe().0
}

/// Checks a mount's settings. The error names the setting that is wrong.
#[doc(hidden)]
pub fn check_settings<P: Plugin>(settings: &str) -> Result<(), String> {
    log_panics();
    P::check(&parse_settings::<P>(settings)?)
}

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn handle<P: Plugin>(request: guest::Request) -> Result<guest::Reply, Failure> {
    log_panics();
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

/// Checks the input of a job of this kind with the mount's settings.
#[doc(hidden)]
pub fn check_job<P: Jobs>(kind: &str, input: &[u8]) -> Result<String, String> {
    log_panics();
    let kinds = P::describe().0.jobs;
    if !kinds.iter().any(|known| known == kind) {
        return Err(format!("this plugin runs no jobs of the kind {kind:?}; it runs {kinds:?}"));
    }
    let settings = settings::<P>().map_err(|failure| failure.message().to_owned())?;
    P::check_job(kind, input, &settings)
}

/// Runs a job with the mount's settings.
#[doc(hidden)]
pub fn run_job<P: Jobs>(job: Job) -> Result<Vec<u8>, Failure> {
    log_panics();
    P::run_job(job, settings::<P>()?)
}

/// Handles a request with the mount's settings.
pub(crate) fn run<P: Plugin>(request: Request) -> Result<Reply, Failure> {
    P::handle(request, settings::<P>()?)
        .or_else(|failure| Reply::of_failure(P::refuse(&failure), failure))
}

/// The mount's settings. They were checked at load, so an error here is a bug.
fn settings<P: Plugin>() -> Result<P::Settings, Failure> {
    parse_settings::<P>(&environment::settings())
        .map_err(|error| Failure::Internal(format!("settings: {error}")))
}

/// Parses the settings. They come from TOML, so a line and column of the intermediate JSON would mislead the
/// operator; the error names the setting instead.
fn parse_settings<P: Plugin>(settings: &str) -> Result<P::Settings, String> {
    let json: serde_json::Value =
        serde_json::from_str(settings).map_err(|error| error.to_string())?;
    serde_path_to_error::deserialize(json).map_err(|error| error.to_string())
}

/// Logs panics for the operator, with file and line, because the trap that follows has no message.
fn log_panics() {
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

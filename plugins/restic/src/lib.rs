//! restic's REST backend: a drop-in for restic's own rest-server.
//!
//! | request below a repository | answer |
//! | --- | --- |
//! | `POST ?create=true` | makes the repository |
//! | `HEAD`, `GET`, `POST`, `DELETE` `/config` | the repository's configuration |
//! | `GET /TYPE/` | the blobs of a type, in version 1 or 2 of the list |
//! | `HEAD`, `GET`, `POST`, `DELETE` `/TYPE/ID` | one blob, named by its SHA-256 |
//!
//! A repository is at the mount's top, or one or two folders below it. Blobs lie where restic's
//! local backend puts them, so that a repository may be used both ways.
//!
//! `route` reads paths, `blob` and `list` answer, this file ties them together. Differences
//! from rest-server are in this plugin's README.

mod blob;
mod list;
mod route;

use keepgate_sdk::{
    Description, Failure, Level, Method, Plugin, Reply, Request, Store, environment,
};

use route::{Resource, Route};

/// The plugin.
#[derive(Debug)]
pub struct Restic;

keepgate_sdk::export!(Restic);

/// The mount's settings.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Users reach only repositories below a folder of their name.
    private_repos: bool,
}

impl Plugin for Restic {
    type Settings = Settings;

    fn describe() -> Description {
        let description = Description::new("restic", env!("CARGO_PKG_VERSION"))
            .summary("restic's REST backend, a drop-in for rest-server")
            .store("main");
        // The names and texts of rest-server's own.
        [
            ("write_total", "Total number of blobs written"),
            ("write_bytes_total", "Total number of bytes written to blobs"),
            ("read_total", "Total number of blobs read"),
            ("read_bytes_total", "Total number of bytes read from blobs"),
            ("delete_total", "Total number of blobs deleted"),
            ("delete_bytes_total", "Total number of bytes of blobs deleted"),
        ]
        .into_iter()
        .fold(description, |description, (name, help)| {
            let name = format!("rest_server_blob_{name}");
            description.counter(&name, help, &["user", "repo", "type"])
        })
    }

    fn handle(request: Request, settings: Settings) -> Result<Reply, Failure> {
        answer(request, &settings)
    }

    fn refuse(failure: &Failure) -> Option<Reply> {
        // Only the host knows who let whom wait, which is a 408 or a 504.
        (!matches!(failure, Failure::TimedOut)).then(|| refusal(failure))
    }
}

fn answer(request: Request, settings: &Settings) -> Result<Reply, Failure> {
    let route = Route::parse(&request.segments, request.trailing_slash).ok_or(Failure::NotFound)?;
    if settings.private_repos && !route.belongs_to(request.user()) {
        return Ok(status(401, "this user may use only repositories below /their-name/"));
    }
    let store = Store::open("main")?;
    match (&route.resource, &request.method) {
        (Resource::Repository, Method::Post) => create(&store, &route, &request),
        (Resource::Repository, _) => Ok(not_allowed("POST")),

        (Resource::Config, Method::Head) => blob::head(&store, &route.key()),
        (Resource::Config, Method::Get) => blob::get_config(&store, &route.key()),
        (Resource::Config, Method::Post) => blob::post_config(&store, &route.key(), request.body),
        (Resource::Config, Method::Delete) => store.delete(&route.key()).map(|_| Reply::ok()),
        (Resource::Config, _) => Ok(not_allowed("HEAD, GET, POST, DELETE")),

        (Resource::List(_), Method::Get) => list::get(&store, &route, request.header("accept")),
        (Resource::List(_), _) => Ok(not_allowed("GET")),

        (Resource::Blob(..), Method::Head) => blob::head(&store, &route.key()),
        (Resource::Blob(..), Method::Get) => blob::get(&store, &route, &request),
        (Resource::Blob(..), Method::Post) => blob::post(&store, &route, request),
        (Resource::Blob(..), Method::Delete) => blob::delete(&store, &route, request.user()),
        (Resource::Blob(..), _) => Ok(not_allowed("HEAD, GET, POST, DELETE")),
    }
}

/// Makes a repository's folders, all 261 of them, as restic's local backend does.
fn create(store: &Store, route: &Route, request: &Request) -> Result<Reply, Failure> {
    if request.query("create") != Some("true") {
        return Ok(status(400, "a repository is made with `?create=true`"));
    }
    environment::log(Level::Info, &format!("making repository /{}", route.repository));
    store.prepare(&route.folders())?;
    Ok(Reply::ok())
}

/// A failure in rest-server's form: the status in words, and here also the reason.
fn refusal(failure: &Failure) -> Reply {
    match failure {
        // The host has logged what happened to its disk.
        Failure::Internal(_) => status(500, ""),
        // Whatever is under a name already is not to be replaced.
        Failure::AlreadyExists => status(403, "a blob of this name exists, and it is another one"),
        Failure::OutOfRange(size) => status(416, "no byte of the range is inside the blob")
            .header("content-range", format!("bytes */{size}")),
        // A key that no store takes is a name that no repository has.
        Failure::Invalid(_) => status(404, ""),
        Failure::NotFound => status(404, ""),
        other => status(other.status(), other.message()),
    }
}

fn not_allowed(allow: &str) -> Reply {
    status(405, "").header("allow", allow)
}

/// A plain reply: the status in words, with a reason where there is one to give.
fn status(status: u16, why: &str) -> Reply {
    let words = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Request Entity Too Large",
        416 => "Requested Range Not Satisfiable",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    };
    let separator = if why.is_empty() { "" } else { ": " };
    Reply::new(status)
        .text(format!("{words}{separator}{why}\n"))
        .header("x-content-type-options", "nosniff")
}

#[cfg(test)]
mod tests;

//! restic's REST backend: a drop-in for restic's own rest-server.
//!
//! | request below a repository | answer |
//! | --- | --- |
//! | `POST ?create=true` | creates the repository |
//! | `HEAD`, `GET`, `POST`, `DELETE` `/config` | the repository's configuration |
//! | `GET /TYPE/` | the blobs of a type, in version 1 or 2 of the list |
//! | `HEAD`, `GET`, `POST`, `DELETE` `/TYPE/ID` | one blob, named by its SHA-256 |
//!
//! A repository is at the mount's top, or one or two folders below it. Blobs lie where restic's
//! local backend puts them, so that you can use a repository both ways.
//!
//! `route` reads paths, `blob` and `list` answer, this file ties them together. Differences
//! from rest-server are in this plugin's README.

mod blob;
mod list;
mod route;

use keepgate_sdk::{
    Description, Failure, Method, Plugin, Reply, Request, Store, environment, reason_phrase,
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
    /// Users only reach repositories below the folder with their name.
    private_repos: bool,
}

impl Plugin for Restic {
    type Settings = Settings;

    fn describe() -> Description {
        let description = Description::new("restic", env!("CARGO_PKG_VERSION"))
            .summary("restic's REST backend, a drop-in for rest-server")
            .store("main");
        // The names and help texts of rest-server's own metrics.
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
        let route =
            Route::parse(&request.segments, request.trailing_slash).ok_or(Failure::NotFound)?;
        if settings.private_repos && !route.belongs_to(request.user()) {
            let why = "this user may use only repositories below /their-name/";
            return Err(Failure::refused(401, "", why));
        }
        let store = Store::open("main")?;
        match (&route.resource, &request.method) {
            (Resource::Repository, Method::Post) => create(&store, &route, &request),
            (Resource::Repository, _) => Err(Failure::method_not_allowed("POST")),

            (Resource::Config, Method::Head) => blob::head(&store, &route.key()),
            (Resource::Config, Method::Get) => blob::get_config(&store, &route.key()),
            (Resource::Config, Method::Post) => {
                blob::post_config(&store, &route.key(), request.body)
            }
            (Resource::Config, Method::Delete) => store.delete(&route.key()).map(|_| Reply::ok()),

            (Resource::List(_), Method::Get) => list::get(&store, &route, request.header("accept")),
            (Resource::List(_), _) => Err(Failure::method_not_allowed("GET")),

            (Resource::Blob(..), Method::Head) => blob::head(&store, &route.key()),
            (Resource::Blob(..), Method::Get) => blob::get(&store, &route, &request),
            (Resource::Blob(_, id), Method::Post) => blob::post(&store, &route, id, request),
            (Resource::Blob(..), Method::Delete) => blob::delete(&store, &route, request.user()),
            (Resource::Config | Resource::Blob(..), _) => {
                Err(Failure::method_not_allowed("HEAD, GET, POST, DELETE"))
            }
        }
    }

    fn refuse(failure: &Failure) -> Option<Reply> {
        // The host has logged what happened to its disk.
        let silent = matches!(failure, Failure::Internal(_));
        if silent { Some(status(500, "")) } else { failure.reply(|failure| Ok(refusal(failure))) }
    }
}

/// Creates a repository's folders, all 261 of them, as restic's local backend does.
fn create(store: &Store, route: &Route, request: &Request) -> Result<Reply, Failure> {
    if request.query("create") != Some("true") {
        return Err(Failure::refused(400, "", "a repository is made with `?create=true`"));
    }
    store.prepare(&route.folders())?;
    environment::info("repository created", &[("repository", &route.repository)]);
    Ok(Reply::ok())
}

/// A failure in rest-server's form: the text of the status, followed here by the reason.
fn refusal(failure: &Failure) -> Reply {
    match failure {
        // A blob is never replaced by another one.
        Failure::AlreadyExists => status(403, "a blob of this name exists, and it is another one"),
        Failure::OutOfRange(_) => status(416, "no byte of the range is inside the blob"),
        // A key that no store accepts is a name that no repository has.
        Failure::Invalid(_) | Failure::NotFound => status(404, ""),
        Failure::Refused(_) if failure.status() == 405 => status(405, ""),
        other => status(other.status(), other.message()),
    }
}

/// Plain text: the text of the status, with a reason if there is one.
fn status(status: u16, why: &str) -> Reply {
    let words = match status {
        // In the words of rest-server, which come from Go.
        413 => "Request Entity Too Large",
        416 => "Requested Range Not Satisfiable",
        _ => reason_phrase(status),
    };
    let separator = if why.is_empty() { "" } else { ": " };
    Reply::new(status)
        .text(format!("{words}{separator}{why}\n"))
        .header("x-content-type-options", "nosniff")
}

#[cfg(test)]
mod tests;

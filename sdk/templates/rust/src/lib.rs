//! Named archives in the mount's store `main`:
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /` | a JSON list: names, sizes in bytes |
//! | `PUT /NAME` | stores the body: 201, or 409 where another archive has that name |
//! | `GET /NAME` | the bytes, whole or a range; `HEAD` answers without them |
//! | `DELETE /NAME` | removes it: 204 |
//!
//! No byte of an archive enters the plugin: bodies are handles, and the host moves the bytes.

use keepgate_sdk::{
    BlobAnswer, Call, Description, Failure, Plugin, PutOptions, Reply, Request, Router, Store, at,
};

/// The plugin. Each call has an instance of its own: keep what must last in the store.
pub struct Archives;

keepgate_sdk::export!(Archives);

/// What an operator may write below `[mount.settings]`.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A `PUT` may replace an archive.
    replace: bool,
}

/// One archive, as clients see it.
#[derive(serde::Serialize)]
struct Archive {
    name: String,
    /// In bytes.
    size: u64,
}

impl Plugin for Archives {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .summary("Named archives: PUT, GET, DELETE and a list")
            .store("main")
    }

    fn handle(request: Request, settings: Settings) -> Result<Reply, Failure> {
        Router::new()
            .route("/", at().get(list))
            .route("/{name}", at().get(fetch).put(save).delete(remove))
            .handle(request, settings)
    }
}

/// Lists all archives. For a list that is too long for memory use `Reply::stream`.
fn list(_: Call<Settings>) -> Result<Reply, Failure> {
    let mut archives = Vec::new();
    for entry in Store::open("main")?.list("", false)? {
        let entry = entry?;
        archives.push(Archive {
            name: entry.key,
            size: entry.size,
        });
    }
    Reply::ok().json(&archives)
}

fn fetch(call: Call<Settings>) -> Result<Reply, Failure> {
    BlobAnswer::of(&Store::open("main")?, &name(&call)?)?.to(&call.request)
}

/// Stores an archive; durable when it returns. A body that is cut off leaves nothing behind.
fn save(call: Call<Settings>) -> Result<Reply, Failure> {
    let name = name(&call)?;
    // Uploading the same bytes again succeeds: a client whose reply got lost sends them again.
    let mut options = match call.settings.replace {
        true => PutOptions::replace(),
        false => PutOptions::absent_or_identical(),
    };
    if let Some(digest) = call.request.header("x-sha256") {
        options = options.sha256(digest);
    }
    let stored = Store::open("main")?.put(&name, call.request.body, &options)?;
    let archive = Archive {
        name,
        size: stored.info.size,
    };
    let reply = Reply::new(201).header("etag", format!("\"{}\"", stored.info.etag));
    reply.json(&archive)
}

fn remove(call: Call<Settings>) -> Result<Reply, Failure> {
    let removed = Store::open("main")?.delete(&name(&call)?)?;
    removed.map(|_| Reply::new(204)).ok_or(Failure::NotFound)
}

/// The archive that the path names.
fn name(call: &Call<Settings>) -> Result<String, Failure> {
    let name: String = call.param("name")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.len() > 128 || name.starts_with(['.', '_', '-']) || !name.chars().all(plain) {
        return Err(Failure::Invalid(
            "a name has up to 128 letters, digits, dots, dashes and underscores".to_owned(),
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests;

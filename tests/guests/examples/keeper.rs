//! Keeps records and blobs as its requests say: a request has the key in its path and the value in its body. It does
//! nothing wrong: it shows what the host does.

use keepgate_sdk::records::{self, Commit};
use keepgate_sdk::{Description, Failure, Method, Plugin, PutOptions, Reply, Request, Store};
use serde::de::IgnoredAny;

/// The plugin.
#[derive(Debug)]
pub struct Keeper;

keepgate_sdk::export!(Keeper);

/// The longest value.
const MOST: u64 = 1 << 20;

impl Plugin for Keeper {
    type Settings = IgnoredAny;

    fn describe() -> Description {
        Description::new("keeper", "1.0.0").store("main")
    }

    fn handle(request: Request, _: IgnoredAny) -> Result<Reply, Failure> {
        let path = request.path();
        match (&request.method, path.as_slice()) {
            (Method::Get, ["record", key]) => match records::get(key)? {
                Some(record) => Ok(Reply::ok()
                    .header("x-version", record.version.to_string())
                    .bytes(record.value)),
                None => Err(Failure::NotFound),
            },
            (Method::Get, ["records"]) => {
                let prefix = request.query("prefix").unwrap_or_default();
                let keys: Result<Vec<_>, _> =
                    records::scan(prefix).map(|record| Ok::<_, Failure>(record?.key)).collect();
                Reply::ok().json(&keys?)
            }
            (Method::Put, ["record", key]) => {
                let commit = match request.query("if") {
                    Some("absent") => Commit::new().absent(key),
                    Some("present") => Commit::new().present(key),
                    _ => Commit::new(),
                };
                let key = (*key).to_owned();
                let value = request.body.bytes(MOST)?;
                Reply::ok().json(&commit.put(&key, &value).run()?)
            }
            (Method::Delete, ["record", key]) => {
                Reply::ok().json(&Commit::new().delete(key).run()?)
            }
            // Two records that belong together.
            (Method::Put, ["pair", key]) => {
                let (one, two) = (format!("one/{key}"), format!("two/{key}"));
                let value = request.body.bytes(MOST)?;
                let commit = Commit::new().put(&one, &value).put(&two, &value);
                Reply::ok().json(&commit.run()?)
            }
            (Method::Put, ["blob", key]) => {
                let key = (*key).to_owned();
                let options = PutOptions::absent();
                let received = Store::open("main")?.receive(&key, request.body, &options)?;
                Reply::ok().json(&(received.stored.info.size, received.complete))
            }
            _ => Err(Failure::NotFound),
        }
    }
}

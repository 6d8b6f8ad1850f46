//! Backups of etcd: each one is complete and can be restored, or does not exist; and no backup is lost
//! before a newer one is safe.
//!
//! | module | what must hold |
//! | --- | --- |
//! | `restore` | a backup restores every key |
//! | `routes` | every route and every refusal, to the letter |
//! | `rotation` | the right old backups are removed |
//! | `turns` | concurrent backups, asynchronous ones, and clients that disconnect |
//! | `departed` | requests that arrive with the end of their connection |
//! | `clusters` | certificates, passwords, members that are down, several clusters, `check --connect` |
//! | `faults` | members and disks that fail in the middle |
//! | `kill` | `kill -9` of the gateway in the middle |
//! | `schedules` | scheduled backups, and what an alert sees of them |
//! | `jobs` | `keepgate jobs`, and jobs that outlive the gateway |
//! | `memory` | half a gigabyte passes through a few megabytes |
//! | `changes` | a new plugin in the middle of a backup; the example configuration |

mod changes;
mod clusters;
mod departed;
mod faults;
mod jobs;
mod kill;
mod memory;
mod restore;
mod rotation;
mod routes;
mod schedules;
mod turns;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use keepgate_tests::client::Reply;
use keepgate_tests::data::{hex, sha256};
use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::program::keepgate;
use keepgate_tests::{tools, tree};
use serde_json::Value;

/// The list of cluster `main`.
const LIST: &str = "/api/v1/backup";

/// A cluster's table of the configuration.
fn cluster(name: &str, endpoints: &[String], further: &str) -> String {
    format!("[etcd.{name}]\nendpoints = {endpoints:?}\n{further}\n")
}

/// The setup of a gateway with backups of one cluster, `main`, mounted at the root. `further` is added
/// to the mount's table.
fn setup(endpoints: &[String], further: &str) -> Setup {
    setup_with(&cluster("main", endpoints, ""), further)
}

/// The same with these tables, one of which is `[etcd.main]`.
fn setup_with(tables: &str, further: &str) -> Setup {
    let setup = Setup::new().table(tables);
    setup.install("etcd", &tools::plugin("etcd"));
    setup.mount("/", "etcd", &format!("etcd = {{ main = \"main\" }}\n{further}"))
}

/// Takes a backup, and returns the response, whose three fields are those of etcd-backup.
#[track_caller]
fn back_up(gateway: &Gateway) -> Value {
    taken(&gateway.endpoint().post(LIST, b""))
}

/// The response to a successful backup.
#[track_caller]
fn taken(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_json(reply);
    let answer = reply.json();
    assert_eq!(answer["message"], "backup successfully", "{answer}");
    assert!(answer["filename"].is_string() && answer["filesize"].is_u64(), "{answer}");
    answer
}

/// The name in a response like this.
#[track_caller]
fn name(answer: &Value) -> String {
    answer["filename"].as_str().unwrap().to_owned()
}

/// The names of cluster `main`'s backups, oldest first.
#[track_caller]
fn list(gateway: &Gateway) -> Vec<String> {
    list_of(gateway, LIST)
}

#[track_caller]
fn list_of(gateway: &Gateway, path: &str) -> Vec<String> {
    let reply = gateway.endpoint().get(path);
    assert_eq!(reply.status, 200, "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

#[track_caller]
fn assert_json(reply: &Reply) {
    assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
}

/// Checks that a backup failed, and returns the error.
#[track_caller]
fn assert_failed(reply: &Reply) -> String {
    assert_eq!(reply.status, 500, "{}", reply.text());
    assert_json(reply);
    let answer = reply.json();
    assert_eq!(answer["message"], "failed to save an etcd backup");
    answer["error"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Checks that an error contains all of these words, ignoring case.
#[track_caller]
fn assert_says(error: &str, words: &[&str]) {
    let lower = error.to_lowercase();
    for word in words {
        assert!(lower.contains(&word.to_lowercase()), "{word} is missing: {error}");
    }
}

/// The file names at the store's top except the index.
fn stored(setup: &Setup) -> BTreeSet<String> {
    let files = tree::blobs(&setup.store()).into_iter();
    let files = files.filter(|file| !file.starts_with("index"));
    files.map(|file| text(&file).to_owned()).collect()
}

/// Checks that the store has these backups, an index that lists them, and nothing else: no part of a
/// backup under any name.
#[track_caller]
fn assert_store_has(setup: &Setup, names: &[String]) {
    assert_eq!(stored(setup), names.iter().cloned().collect());
    let folder = setup.store().join("index");
    // The index is created when it is first needed.
    let index = if folder.exists() { tree::files(&folder) } else { Vec::new() };
    let index: BTreeSet<_> = index.iter().map(|file| text(file).to_owned()).collect();
    assert_eq!(index, names.iter().map(|name| format!("{name}.json")).collect());
    assert_no_leftovers(setup);
}

#[track_caller]
fn assert_no_leftovers(setup: &Setup) {
    tree::assert_no_leftovers(&setup.store());
}

/// Unpacks a backup with the usual programs into an empty folder, and checks everything that can be
/// checked without etcd. Returns the path of the snapshot.
#[track_caller]
fn unpack(backup: &Path, folder: &Path) -> PathBuf {
    run("gzip", &["--test", text(backup)]);
    let file = text(backup);
    let member = backup.file_name().unwrap().to_str().unwrap();
    let stem = member.strip_suffix(".gz").unwrap();
    let stem = stem.strip_suffix(".tar").unwrap_or_else(|| stem.strip_suffix(".db").unwrap());
    let snapshot = folder.join(format!("{stem}.db"));
    if member.ends_with(".tar.gz") {
        let said = run("tar", &["--list", "--verbose", "--gzip", "--file", file]);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("-rw------- ") && said.trim().ends_with(&format!(" {stem}.db")));
        run("tar", &["--extract", "--gzip", "--file", file, "--directory", text(folder)]);
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", "exec gzip --decompress --stdout -- \"$1\" > \"$2\"", "sh", file]);
        tools::run({
            command.arg(&snapshot);
            command
        })
        .success();
    }
    assert_whole_snapshot(&snapshot);
    snapshot
}

/// A snapshot ends with the SHA-256 of everything before it.
#[track_caller]
fn assert_whole_snapshot(snapshot: &Path) {
    let bytes = fs::read(snapshot).unwrap();
    let (database, trailer) = bytes.split_at(bytes.len() - 32);
    assert_eq!(sha256(database), hex(trailer), "{}", snapshot.display());
    assert_eq!(database.len() % 512, 0);
}

/// Checks that a listed backup is whole: the file matches the index and contains a whole snapshot.
#[track_caller]
fn assert_whole(gateway: &Gateway, name: &str) {
    let digest = assert_whole_file(gateway, name);
    let known = details(gateway);
    let known = known.iter().find(|known| known["filename"] == name);
    let known = known.unwrap_or_else(|| panic!("{name} has no details"));
    assert_eq!(known["sha256"], digest, "{name}");
}

/// The same for a backup that the index may not know yet. Returns the file's hash.
#[track_caller]
fn assert_whole_file(gateway: &Gateway, name: &str) -> String {
    let reply = gateway.endpoint().get(&format!("{LIST}/{name}"));
    assert_eq!(reply.status, 200, "{name}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    fs::write(&file, &reply.body).unwrap();
    unpack(&file, folder.path());
    sha256(&*reply.body)
}

/// The sidecar of each backup, oldest first.
#[track_caller]
fn details(gateway: &Gateway) -> Vec<Value> {
    let reply = gateway.endpoint().get(&format!("{LIST}?details=true"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_json(&reply);
    serde_json::from_slice(&reply.body).unwrap()
}

/// A value with this name, at any depth.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => {
            map.get(name).or_else(|| map.values().find_map(|value| find(value, name)))
        }
        Value::Array(list) => list.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}

/// The jobs on the admin page, newest first.
#[track_caller]
fn jobs(gateway: &Gateway) -> Vec<Value> {
    serde_json::from_slice(&gateway.admin.get("/jobs").body).unwrap()
}

/// The path of a `Location`, which is a URL.
#[track_caller]
fn path_of(location: &str) -> String {
    let (_, rest) = location.split_once("://").unwrap();
    rest[rest.find('/').unwrap()..].to_owned()
}

/// Runs a program, which must succeed.
#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C");
    tools::run(command).success()
}

/// `keepgate check` with these flags.
fn check(setup: &Setup, flags: &[&str]) -> tools::Finished {
    if !setup.config().exists() {
        setup.write();
    }
    let mut command = keepgate(&["check", "--config", text(&setup.config())]);
    command.args(flags);
    tools::run(command)
}

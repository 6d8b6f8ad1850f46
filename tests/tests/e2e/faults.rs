//! What a gateway does when the machine below it, or the client before it, gives way: it says so,
//! keeps what it has acknowledged, leaves nothing behind, and goes on when the fault is over.
//!
//! | module | what gives way |
//! | --- | --- |
//! | `disk` | a disk is full, read-only, or not to be read |
//! | `calls` | single system calls fail |
//! | `kill` | the process, at each step of an upload |
//! | `clients` | clients vanish, dawdle, or come all at once |

mod calls;
mod clients;
mod disk;
mod kill;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use keepgate_tests::client::Endpoint;
use keepgate_tests::data::Blob;
use keepgate_tests::fault::descriptors;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::LONG;
use keepgate_tests::tree;

/// What a running gateway has in `.keepgate`, and nothing more: one folder of its own with a lock.
#[track_caller]
fn assert_no_leftovers(setup: &Setup) {
    let left = tree::files(&setup.store().join(".keepgate"));
    assert!(left.len() == 1 && left[0].ends_with("lock"), "{left:?}");
}

/// The repository has these blobs and no others: in its list, whole when they are asked for, and
/// on disk.
#[track_caller]
fn assert_holds(setup: &Setup, client: &Endpoint, repository: &str, blobs: &[Blob]) {
    let expected: BTreeSet<String> = blobs.iter().map(|blob| blob.id()).collect();
    let list = client.get(&format!("{repository}data/"));
    assert_eq!(list.status, 200, "{}", list.text());
    let names = list.json();
    let names = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
    assert_eq!(names.collect::<BTreeSet<_>>(), expected);
    for blob in blobs {
        let found = client.get(&crate::path(repository, &blob.id()));
        assert!(found.status == 200 && found.body == blob.bytes(), "{blob:?}: {}", found.status);
    }
    let folder = setup.store().join(repository.trim_matches('/')).join("data");
    let files = tree::files(&folder);
    let files = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned());
    assert_eq!(files.collect::<BTreeSet<_>>(), expected);
}

/// That a blob cannot be had, by any way of asking.
#[track_caller]
fn assert_absent(client: &Endpoint, path: &str) {
    assert_eq!((client.status("HEAD", path), client.status("GET", path)), (404, 404), "{path}");
}

/// A gateway at rest: nobody is connected, and so many descriptors are open.
#[track_caller]
fn at_rest(gateway: &Gateway) -> usize {
    gateway.eventually("the end of all connections", |gateway| {
        gateway.metric("keepgate_http_connections") == 0.0
            && gateway.metric("keepgate_http_requests_in_flight{mount=\"/\"}") == 0.0
    });
    descriptors(&gateway.program).len()
}

/// That no more descriptors are open than at rest, once everything has ended.
#[track_caller]
fn assert_at_rest(gateway: &Gateway, open: usize) {
    at_rest(gateway);
    let end = Instant::now() + LONG;
    loop {
        let now = descriptors(&gateway.program);
        if now.len() <= open {
            return;
        }
        // The folder of plugins, for one, is looked at now and then.
        assert!(Instant::now() < end, "{} descriptors and not {open}: {now:#?}", now.len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

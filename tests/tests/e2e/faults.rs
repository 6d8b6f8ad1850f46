//! What a gateway does when the machine or a client fails: it reports the failure, keeps what it has
//! acknowledged, leaves nothing behind, and continues when the failure is over.
//!
//! | module | what fails |
//! | --- | --- |
//! | `disk` | a disk is full, read-only or unreadable |
//! | `calls` | single system calls |
//! | `kill` | the process, at each step of an upload |
//! | `storage` | disks that come and go, and file systems that lack something |
//! | `clients` | clients that vanish, are slow, or come all at once |

mod calls;
mod clients;
mod disk;
mod kill;
mod storage;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use keepgate_tests::client::Endpoint;
use keepgate_tests::data::Blob;
use keepgate_tests::fault::descriptors;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::LONG;
use keepgate_tests::tree;

#[track_caller]
fn assert_no_leftovers(setup: &Setup) {
    tree::assert_no_leftovers(&setup.store());
}

/// Checks that the repository has exactly these blobs: in its list, whole when they are read, and on
/// disk.
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

/// Checks that a blob cannot be read or listed.
#[track_caller]
fn assert_absent(client: &Endpoint, path: &str) {
    assert_eq!((client.status("HEAD", path), client.status("GET", path)), (404, 404), "{path}");
}

/// Waits until nobody is connected, and returns the open descriptors.
#[track_caller]
fn at_rest(gateway: &Gateway) -> usize {
    gateway.eventually("the end of all connections", |gateway| {
        gateway.metric("keepgate_http_connections") == 0.0
            && gateway.metric("keepgate_http_requests_in_flight{mount=\"/\"}") == 0.0
    });
    descriptors(&gateway.program).len()
}

/// Checks that no more descriptors are open than before, once everything has ended.
#[track_caller]
fn assert_at_rest(gateway: &Gateway, open: usize) {
    at_rest(gateway);
    let end = Instant::now() + LONG;
    loop {
        let now = descriptors(&gateway.program);
        if now.len() <= open {
            return;
        }
        // The plugin folder, for example, is read now and then.
        assert!(Instant::now() < end, "{} descriptors and not {open}: {now:#?}", now.len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

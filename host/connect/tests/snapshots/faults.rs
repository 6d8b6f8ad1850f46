//! Members that fail in the middle of a snapshot. The body must end with an error that names the
//! endpoint, and there must be no checksum.

use std::time::Duration;

use keepgate_connect::etcd::{Cluster, ClusterOptions};
use keepgate_connect::{Snapshot, Snapshots as _};
use keepgate_store::BodyError;
use rustix::process::Signal;

use crate::member::{self, LONG, Member, options};

/// Much larger than what is buffered between a member and a reader.
const MEBIBYTES: usize = 24;

async fn fails_after(signal: Signal, stall: Duration, cause: &str) {
    for program in member::programs("a member that fails within a snapshot") {
        let member = Member::start(&program);
        member.fill(MEBIBYTES).await;
        let options = ClusterOptions { stall_timeout: stall, ..options(&[&member.url]) };
        let cluster = Cluster::new(options).unwrap();
        let Snapshot { facts, mut body, sha256 } = cluster.take(&[]).await.unwrap();
        body.chunk().await.unwrap().unwrap();
        member.signal(signal);
        let ended = tokio::time::timeout(LONG, async {
            let mut read = 0;
            loop {
                match body.chunk().await.expect("ended without an error") {
                    Ok(bytes) => read += bytes.len() as u64,
                    Err(error) => return (read, error),
                }
            }
        });
        let (read, error) = ended.await.unwrap();
        assert!(read < facts.size, "{read} of {}", facts.size);
        let BodyError::Unavailable(text) = error else {
            panic!("{error:?}");
        };
        assert!(
            text.starts_with(&format!("{}: the snapshot broke off after ", member.url)),
            "{text}"
        );
        assert!(text.contains(cause), "{text}");
        assert!(body.chunk().await.is_none(), "something follows the error");
        assert_eq!(sha256.get(), None);
    }
}

#[tokio::test]
async fn a_member_that_hangs_during_a_snapshot_is_an_error() {
    let stall = Duration::from_secs(2);
    fails_after(Signal::STOP, stall, "it sent nothing for 2s").await;
}

#[tokio::test]
async fn a_member_that_is_killed_during_a_snapshot_is_an_error() {
    fails_after(Signal::KILL, LONG, "the connection broke (").await;
}

#[tokio::test]
async fn a_member_that_shuts_down_during_a_snapshot_never_delivers_half_of_it() {
    // It may finish the snapshot or break it off; an end without an error means a whole one.
    for program in member::programs("a member that shuts down within a snapshot") {
        let member = Member::start(&program);
        member.fill(MEBIBYTES).await;
        let cluster = Cluster::new(options(&[&member.url])).unwrap();
        let Snapshot { facts, mut body, sha256 } = cluster.take(&[]).await.unwrap();
        body.chunk().await.unwrap().unwrap();
        member.signal(Signal::TERM);
        let ended = tokio::time::timeout(LONG, body.collect(u64::MAX)).await.unwrap();
        match ended {
            Ok(rest) => {
                assert!((rest.len() as u64) < facts.size);
                assert!(sha256.get().is_some());
            }
            Err(BodyError::Unavailable(text)) => {
                assert!(text.starts_with(&member.url), "{text}");
                assert_eq!(sha256.get(), None);
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

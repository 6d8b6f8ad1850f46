//! Members that send something other than a whole snapshot. Whatever it is, reading it must not end
//! without an error.

use bytes::Bytes;
use keepgate_connect::etcd::{Cluster, ClusterOptions};
use keepgate_connect::{ConnectError, Snapshot, Snapshots as _};
use keepgate_store::BodyError;

use crate::fake::{DONE, Fake, SHORT, Step, file, first_page, messages};
use crate::member::{LONG, options};
use crate::reading::read;

fn message(remaining: u64, blob: impl Into<Bytes>) -> Step {
    Step::Message { remaining, blob: blob.into() }
}

fn impatient(url: &str) -> Cluster {
    Cluster::new(ClusterOptions { stall_timeout: SHORT, ..options(&[url]) }).unwrap()
}

/// Reads what a member with these steps sends, and returns the error at its end.
async fn broken(steps: &[Step]) -> String {
    let fake = Fake::start(steps).await;
    let Snapshot { facts, mut body, sha256 } = impatient(&fake.url).take(&[]).await.unwrap();
    let mut read = 0;
    let error = loop {
        match tokio::time::timeout(LONG, body.chunk())
            .await
            .unwrap()
            .expect("ended without an error")
        {
            Ok(bytes) => read += bytes.len() as u64,
            Err(error) => break error,
        }
    };
    assert!(read < facts.size, "all {read} bytes could be read");
    assert!(body.chunk().await.is_none(), "something follows the error");
    assert_eq!(sha256.get(), None);
    let BodyError::Unavailable(text) = error else {
        panic!("{error:?}");
    };
    text.strip_prefix(&format!("{}: ", fake.url)).unwrap().to_owned()
}

/// The steps of a valid snapshot of 20 pages, with its end.
fn right() -> Vec<Step> {
    let mut steps = messages(&file(20));
    steps.push(DONE);
    steps
}

#[tokio::test]
async fn a_valid_snapshot_of_the_fake_member_is_read() {
    let fake = Fake::start(&right()).await;
    let facts = read(&impatient(&fake.url)).await;
    assert_eq!((facts.size, facts.keys), (20 * 4096 + 32, None));
    let ids = (facts.cluster_id, facts.member_id, facts.revision);
    assert_eq!((ids, facts.version.as_str()), ((1111, 7, 42), "3.9.1"));
}

#[tokio::test]
async fn a_snapshot_is_read_however_it_is_split() {
    let file = file(3);
    // The checksum included in the announced size, data in the same message, split over two messages,
    // and empty messages in between.
    let cuts = [0, 5, 5, 17, 4096, 3 * 4096 - 1, 3 * 4096 + 9, file.len()];
    let mut steps: Vec<Step> = cuts
        .windows(2)
        .map(|cut| message((file.len() - cut[1]) as u64, file.slice(cut[0]..cut[1])))
        .collect();
    steps.push(DONE);
    let fake = Fake::start(&steps).await;
    assert_eq!(read(&impatient(&fake.url)).await.size, 3 * 4096 + 32);
}

#[tokio::test]
async fn a_wrong_checksum() {
    let mut steps = right();
    let last = steps.len() - 2;
    steps[last] = message(0, vec![7; 32]);
    assert!(broken(&steps).await.contains("the snapshot does not match its own checksum"));
}

#[tokio::test]
async fn a_flipped_bit() {
    let file = file(20);
    for at in [0, 33, 40_000, 20 * 4096 - 1, 20 * 4096, 20 * 4096 + 31] {
        let mut bytes = file.to_vec();
        bytes[at] ^= 0x10;
        let mut steps = messages(&bytes.into());
        steps.push(DONE);
        assert!(
            broken(&steps).await.contains("the snapshot does not match its own checksum"),
            "{at}"
        );
    }
}

#[tokio::test]
async fn a_call_that_ends_too_early_is_an_error() {
    for kept in 1..messages(&file(20)).len() {
        let mut steps = messages(&file(20));
        steps.truncate(kept);
        steps.push(DONE);
        let told = broken(&steps).await;
        assert!(told.starts_with("it ended the snapshot after "), "{told}");
        assert!(told.ends_with(" of 81952 bytes"), "{told}");
    }
}

#[tokio::test]
async fn a_call_that_ends_without_a_status_is_an_error() {
    // Even if all bytes arrived, because something between us and the member may have failed.
    for kept in 1..=messages(&file(20)).len() {
        let mut steps = messages(&file(20));
        steps.truncate(kept);
        steps.push(Step::Cut);
        let told = broken(&steps).await;
        assert!(told.contains("it ended the call without saying why"), "{told}");
    }
}

#[tokio::test]
async fn excess_bytes_are_an_error() {
    for behind in [Bytes::from_static(b"x"), file(1)] {
        let mut steps = right();
        let end = steps.len() - 1;
        steps.insert(end, message(0, behind));
        assert_eq!(broken(&steps).await, "it sent more than the announced 81952 bytes");
    }
}

#[tokio::test]
async fn an_error_in_the_middle_is_reported() {
    let mut steps = messages(&file(20));
    steps.truncate(2);
    steps.push(Step::End { status: 13, message: "disk on fire" });
    assert_eq!(
        broken(&steps).await,
        "the snapshot broke off after 65536 of 81952 bytes: it failed: disk on fire"
    );
}

#[tokio::test]
async fn silence_in_the_middle_is_an_error() {
    for kept in 1..=messages(&file(20)).len() {
        let mut steps = messages(&file(20));
        steps.truncate(kept);
        steps.push(Step::Hang);
        let told = broken(&steps).await;
        assert!(told.ends_with("bytes: it sent nothing for 1s"), "{told}");
    }
}

#[tokio::test]
async fn empty_messages_count_as_silence() {
    // This is what etcd does if it can no longer read its database.
    let fake = Fake::start_with(7, || {
        let first = messages(&file(20)).into_iter().take(1);
        let idle = Step::Idle { remaining: 49_152, after: SHORT / 10 };
        let nothing = std::iter::repeat(idle);
        Box::new(first.chain(nothing))
    })
    .await;
    let body = impatient(&fake.url).take(&[]).await.unwrap().body;
    let error = tokio::time::timeout(LONG, body.collect(u64::MAX)).await.unwrap().unwrap_err();
    assert!(error.to_string().ends_with("it sent nothing for 1s"), "{error}");
}

/// The error of a member that sends this, so that there is no snapshot at all.
async fn refused(steps: &[Step]) -> String {
    let fake = Fake::start(steps).await;
    let taken = tokio::time::timeout(LONG, impatient(&fake.url).take(&[])).await.unwrap();
    let ConnectError::Unavailable(text) = taken.unwrap_err() else {
        panic!("another kind of error");
    };
    text.strip_prefix(&format!("no snapshot of etcd cluster \"main\": {}: ", fake.url))
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn an_invalid_start_is_refused_before_the_body_begins() {
    assert_eq!(refused(&[DONE]).await, "it sent an empty snapshot");
    assert_eq!(refused(&[message(0, Bytes::new()), DONE]).await, "it sent an empty snapshot");
    assert_eq!(refused(&[Step::Hang]).await, "it sent nothing of a snapshot within 1s");
    assert_eq!(
        refused(&[message(5, vec![0; 4096]), DONE]).await,
        "it announced a snapshot of 4096 and 5 bytes, which cannot be a database"
    );
    assert!(refused(&[message(u64::MAX, first_page()), DONE]).await.contains("it announced"));
    assert_eq!(
        refused(&[message(4096, vec![0; 4096]), DONE]).await,
        "it did not send an etcd database"
    );
    let unknown = [Step::End { status: 12, message: "unknown service" }];
    assert!(refused(&unknown).await.starts_with("it does not offer this"));
}

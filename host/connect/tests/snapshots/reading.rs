//! Snapshots that are taken and read to their end.

use keepgate_connect::etcd::Cluster;
use keepgate_connect::{ConnectError, Snapshots as _};
use rustix::process::Signal;
use sha2::{Digest as _, Sha256};

use crate::member::{self, LONG, Member, cluster, free_port, options};

/// Reads a snapshot, and checks what was reported about it.
pub(crate) async fn read(cluster: &Cluster) -> keepgate_connect::Facts {
    let snapshot = cluster.take(&[]).await.unwrap();
    let keepgate_connect::Snapshot { facts, body, sha256 } = snapshot;
    assert_eq!(body.length(), Some(facts.size));
    assert_eq!(sha256.get(), None);
    let bytes = body.collect(u64::MAX).await.unwrap();
    assert_eq!(bytes.len() as u64, facts.size);
    assert_eq!(facts.size % 512, 32);
    let (database, trailer) = bytes.split_at(bytes.len() - 32);
    assert_eq!(Sha256::digest(database).as_slice(), trailer);
    assert_eq!(sha256.get(), Some(hex::encode(trailer)));
    facts
}

#[tokio::test]
async fn a_snapshot_is_whole_and_its_facts_are_right() {
    for program in member::programs("snapshots of a plain member") {
        let member = Member::start(&program);
        let mut client = member.client(None).await;
        let mut revision = 0;
        for number in 0..500 {
            let put = client.put(format!("key/{number}"), "value", None).await.unwrap();
            revision = put.header().unwrap().revision();
        }
        client.delete("key/7", None).await.unwrap();
        let status = client.status().await.unwrap();
        let facts = read(&cluster(&[&member.url])).await;
        assert_eq!(facts.endpoint, member.url);
        assert_eq!(facts.version, Member::version(&program));
        assert_eq!(facts.revision, revision + 1);
        assert_eq!(facts.keys, Some(499));
        let header = status.header().unwrap();
        assert_eq!(facts.cluster_id, header.cluster_id());
        assert_eq!(facts.member_id, header.member_id());
    }
}

#[tokio::test]
async fn a_snapshot_larger_than_all_buffers_is_whole() {
    for program in member::programs("a large snapshot") {
        let member = Member::start(&program);
        member.fill(12).await;
        let facts = read(&cluster(&[&member.url])).await;
        assert!(facts.size > 12 * 1024 * 1024, "{facts:?}");
    }
}

#[tokio::test]
async fn the_second_endpoint_delivers_if_the_first_is_down() {
    for program in member::programs("a cluster whose first endpoint is down") {
        let member = Member::start(&program);
        let dead = format!("http://127.0.0.1:{}", free_port());
        let cluster = cluster(&[&dead, &member.url]);
        assert_eq!(read(&cluster).await.endpoint, member.url);

        let statuses = cluster.status().await;
        assert_eq!(statuses.len(), 2);
        assert_eq!(statuses[0].endpoint, dead);
        assert_eq!(statuses[0].outcome, Err("connection refused".to_owned()));
        assert_eq!(statuses[1].endpoint, member.url);
        let status = statuses[1].outcome.as_ref().unwrap();
        assert_eq!(status.version, Member::version(&program));
        assert_eq!(status.leader, Some(status.member_id));
        assert!(status.db_size > 0 && status.revision > 0 && !status.learner, "{status:?}");
        assert_eq!(status.errors, [""; 0]);
    }
}

#[tokio::test]
async fn a_member_that_does_not_answer_is_skipped() {
    for program in member::programs("a cluster whose first member hangs") {
        let (hangs, answers) = (Member::start(&program), Member::start(&program));
        hangs.signal(Signal::STOP);
        let cluster = cluster(&[&hangs.url, &answers.url]);
        let facts = tokio::time::timeout(LONG, read(&cluster)).await.unwrap();
        assert_eq!(facts.endpoint, answers.url);
    }
}

#[tokio::test]
async fn an_excepted_endpoint_is_not_asked() {
    for program in member::programs("excepted endpoints") {
        let (one, two) = (Member::start(&program), Member::start(&program));
        let cluster = cluster(&[&one.url, &two.url]);
        assert_eq!(cluster.take(&[]).await.unwrap().facts.endpoint, one.url);
        let snapshot = cluster.take(std::slice::from_ref(&one.url)).await.unwrap();
        assert_eq!(snapshot.facts.endpoint, two.url);
        // A trailing slash makes no difference.
        let snapshot = cluster.take(&[format!("{}/", one.url)]).await.unwrap();
        assert_eq!(snapshot.facts.endpoint, two.url);
        let refused = cluster.take(&[one.url.clone(), two.url.clone()]).await.unwrap_err();
        assert!(
            matches!(&refused, ConnectError::Unavailable(text) if text.contains("no other endpoint is left to ask"))
        );
    }
}

#[tokio::test]
async fn an_abandoned_snapshot_ends_at_the_member() {
    for program in member::programs("snapshots that are left") {
        let member = Member::start(&program);
        member.fill(12).await;
        let cluster = Cluster::new(options(&[&member.url])).unwrap();
        let mut body = cluster.take(&[]).await.unwrap().body;
        body.chunk().await.unwrap().unwrap();
        drop(body);
        // Nothing remains in the member that would keep it from compacting its file, which waits for
        // all readers.
        let mut client = member.client(None).await;
        tokio::time::timeout(LONG, client.defragment()).await.unwrap().unwrap();
        read(&cluster).await;
    }
}

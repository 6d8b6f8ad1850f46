//! Members that have lost their quorum: etcd lets them send snapshots, whose data may be old.

use keepgate_connect::etcd::{Cluster, ClusterOptions};
use keepgate_connect::{ConnectError, Snapshots as _};
use rustix::process::Signal;

use crate::fake::{DONE, Fake, SHORT, Step, file, messages};
use crate::member::{self, Member, options};
use crate::reading::read;

fn allowing(endpoints: &[&str]) -> Cluster {
    Cluster::new(ClusterOptions { allow_stale: true, ..options(endpoints) }).unwrap()
}

#[tokio::test]
async fn a_member_without_quorum_delivers_only_if_that_is_allowed() {
    for program in member::programs("a cluster that has lost its quorum") {
        let members: [Member; 3] = Member::start_cluster(&program);
        let mut client = members[0].client(None).await;
        let put = client.put("key", "value", None).await.unwrap();
        let revision = put.header().unwrap().revision();
        let urls = [0, 1, 2].map(|number| members[number].url.as_str());
        let facts = read(&member::cluster(&urls)).await;
        assert_eq!((facts.stale, facts.revision), (false, revision));

        // One member less is no loss, whichever is asked first.
        members[1].signal(Signal::STOP);
        let facts = read(&member::cluster(&[urls[1], urls[2], urls[0]])).await;
        assert_eq!((facts.stale, facts.endpoint.as_str()), (false, urls[2]));

        members[2].signal(Signal::STOP);
        let refused = member::cluster(&urls[..1]).take(&[]).await.unwrap_err();
        let ConnectError::Unavailable(why) = refused else { panic!("{refused}") };
        let begins =
            format!("no snapshot of etcd cluster \"main\": {}: its data may be old", urls[0]);
        assert!(why.starts_with(&begins), "{why}");
        assert!(why.contains("`allow_stale = true` in [etcd.main]"), "{why}");
        let status = member::cluster(&urls[..1]).status().await.remove(0);
        assert!(status.outcome.unwrap_err().contains("allow_stale"));

        let cluster = allowing(&urls[..1]);
        let facts = read(&cluster).await;
        assert_eq!((facts.stale, facts.revision), (true, revision));
        assert!(facts.version.starts_with(|first: char| first.is_ascii_digit()), "{facts:?}");
        let status = cluster.status().await.remove(0).outcome.unwrap();
        assert!(status.stale.is_some_and(|why| why.contains("majority")));

        // With its quorum back it confirms again.
        members[1].signal(Signal::CONT);
        members[2].signal(Signal::CONT);
        let mut client = members[1].client(None).await;
        while client.put("key", "later", None).await.is_err() {}
        let facts = read(&allowing(&urls)).await;
        assert!(!facts.stale && facts.revision > revision, "{facts:?}");
    }
}

/// Who may take snapshots may do everything: the read that asks for the majority needs no further right.
#[tokio::test]
async fn users_of_a_member_without_quorum_cannot_sign_in() {
    for program in member::programs("a cluster with users that has lost its quorum") {
        let members: [Member; 3] = Member::start_cluster(&program);
        let mut client = members[0].client(None).await;
        client.user_add("root", "correct horse", None).await.unwrap();
        client.role_add("root").await.unwrap();
        client.user_grant_role("root", "root").await.unwrap();
        client.auth_enable().await.unwrap();
        let user = Some(keepgate_connect::etcd::Login {
            user: keepgate_connect::etcd::Secret::Text("root".to_owned()),
            password: keepgate_connect::etcd::Secret::Text("correct horse".to_owned()),
        });
        let options = ClusterOptions { user, allow_stale: true, ..options(&[&members[0].url]) };
        let cluster = Cluster::new(options).unwrap();
        assert!(!read(&cluster).await.stale);
        members[1].signal(Signal::STOP);
        members[2].signal(Signal::STOP);
        let refused = cluster.take(&[]).await.unwrap_err().to_string();
        assert!(refused.contains("quorum") || refused.contains("timed out"), "{refused}");
    }
}

#[tokio::test]
async fn members_whose_data_is_current_come_first_and_failing_ones_last() {
    let file = file(3);
    let right = move || {
        let steps = messages(&file).into_iter().chain([DONE]);
        Box::new(steps) as Box<dyn Iterator<Item = Step> + Send>
    };
    let lonely = Fake::start_with(0, right.clone()).await;
    let wrong = Fake::start(&[DONE]).await;
    let led = Fake::start_with(7, right).await;
    let soon = |endpoints: &[&str], allow_stale| {
        let stall_timeout = SHORT;
        Cluster::new(ClusterOptions { allow_stale, stall_timeout, ..options(endpoints) }).unwrap()
    };
    let (some, all) = ([&*lonely.url, &*wrong.url], [&*lonely.url, &*wrong.url, &*led.url]);
    for cluster in [soon(&all, true), soon(&all, false)] {
        let facts = read(&cluster).await;
        assert_eq!((facts.endpoint, facts.stale), (led.url.clone(), false));
    }
    // Without the others, the remaining one is the last resort.
    let facts = read(&soon(&some, true)).await;
    assert_eq!((facts.endpoint, facts.stale), (lonely.url.clone(), true));
    let status = soon(&some, true).status().await.remove(0).outcome.unwrap();
    assert_eq!(status.leader, None);
    let refused = soon(&some, false).take(&[]).await.unwrap_err().to_string();
    for part in ["no leader", "it sent an empty snapshot", "allow_stale"] {
        assert!(refused.contains(part), "{refused}");
    }
}

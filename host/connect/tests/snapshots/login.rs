//! Clusters that require a user and a password.

use std::fs;
use std::path::PathBuf;

use keepgate_connect::etcd::{Cluster, ClusterOptions, Login, Secret};
use keepgate_connect::{ConnectError, Snapshots as _};

use crate::member::{self, Member, cluster, options};
use crate::reading::read;

/// A member with the users root and `reader`, who may read all keys and nothing more.
async fn member(program: &PathBuf) -> Member {
    let member = Member::start(program);
    let mut client = member.client(None).await;
    client.put("key", "value", None).await.unwrap();
    client.user_add("root", "correct horse", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("reader", "battery", None).await.unwrap();
    client.role_add("reader").await.unwrap();
    let everything = etcd_client::Permission::read("").with_all_keys();
    client.role_grant_permission("reader", everything).await.unwrap();
    client.user_grant_role("reader", "reader").await.unwrap();
    client.auth_enable().await.unwrap();
    member
}

fn text(text: &str) -> Secret {
    Secret::Text(text.to_owned())
}

fn as_user(url: &str, user: Secret, password: Secret) -> Cluster {
    let user = Some(Login { user, password });
    Cluster::new(ClusterOptions { user, ..options(&[url]) }).unwrap()
}

async fn refused(cluster: &Cluster, url: &str, cause: &str) {
    let error = cluster.take(&[]).await.unwrap_err();
    let expected = format!("no snapshot of etcd cluster \"main\": {url}: {cause}");
    assert_eq!(error, ConnectError::Unavailable(expected));
    // The status reports the same.
    let status = cluster.status().await.remove(0);
    assert_eq!(status.outcome, Err(cause.to_owned()));
}

#[tokio::test]
async fn refused_users_are_told_why() {
    for program in member::programs("clusters with users") {
        let member = member(&program).await;
        let url = member.url.as_str();
        let cause = "the cluster requires a user and a password (auth: user name is empty), but none \
                     are configured";
        refused(&cluster(&[url]), url, cause).await;

        let cause = "authentication failed: the cluster has no such user with this password";
        refused(&as_user(url, text("root"), text("wrong")), url, cause).await;
        refused(&as_user(url, text("nobody"), text("wrong")), url, cause).await;

        let cause = "permission denied: the user needs the role root to take snapshots";
        refused(&as_user(url, text("reader"), text("battery")), url, cause).await;

        let cluster = as_user(url, text("root"), text("correct horse"));
        let facts = read(&cluster).await;
        assert_eq!(facts.keys, Some(1));
        assert!(cluster.status().await.remove(0).outcome.is_ok());
    }
}

#[tokio::test]
async fn files_with_user_and_password_are_read_for_each_snapshot() {
    for program in member::programs("files with users") {
        let member = member(&program).await;
        let (user, password) = (member.path("user"), member.path("password"));
        fs::write(&user, "root\n").unwrap();
        fs::write(&password, "old\r\n").unwrap();
        let (from_user, from_password) =
            (Secret::File(user.clone()), Secret::File(password.clone()));
        let cluster = as_user(&member.url, from_user, from_password);
        assert!(matches!(cluster.take(&[]).await, Err(ConnectError::Unavailable(_))));
        fs::write(&password, "correct horse\n").unwrap();
        read(&cluster).await;
        fs::remove_file(&password).unwrap();
        let missing = cluster.take(&[]).await.unwrap_err();
        let ConnectError::Invalid(what) = missing else {
            panic!("{missing}");
        };
        assert!(what.contains(password.to_str().unwrap()), "{what}");
        let status = cluster.status().await.remove(0);
        assert!(status.outcome.unwrap_err().contains(password.to_str().unwrap()));
    }
}

#[tokio::test]
async fn credentials_for_a_cluster_without_users_are_ignored() {
    for program in member::programs("credentials for a cluster without users") {
        let member = Member::start(&program);
        read(&as_user(&member.url, text("root"), text("unneeded"))).await;
    }
}

//! How configurations are kept: sealed, for so long, and whole whatever fails.

use super::*;
use crate::config::revision;

#[test]
fn nothing_that_is_kept_can_be_read_without_the_key() {
    let host = host();
    let client = Client::new(&host);
    let reply = client.put(&host, &local("hunter2"));
    let digest = json_of(&reply)["digest"].as_str().unwrap().to_owned();
    let values = host.record_keys().into_iter().map(|key| host.record(&key).unwrap());
    let blobs = host.keys().into_iter().map(|key| host.blob(&key).unwrap());
    for kept in values.chain(blobs) {
        let text = String::from_utf8_lossy(&kept).into_owned();
        assert!(!text.contains("hunter2") && !text.contains(&digest), "{text}");
    }
    assert!(!host.log().iter().any(|(_, line)| line.contains("hunter2")));
    // Sealed for one revision of one instance.
    let other = Client::with_key(&host, 2, None);
    other.put(&host, &local("x"));
    let [one, two] = [&client, &other].map(|client| {
        let is_its = |key: &String| key.contains(&client.id);
        host.keys().into_iter().find(is_its).unwrap()
    });
    host.put(&two, &host.blob(&one).unwrap());
    assert_eq!(send(other.get(&host, "/")).status, 503);

    host.seal_keys(&[&[8; 32]]);
    let reply = send(client.get(&host, "/"));
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("does not have any more"), "{}", reply.text());
    host.seal_keys(&[]);
    for reply in [send(client.get(&host, "/")), client.put(&host, &local("y"))] {
        assert_eq!(reply.status, 503);
        assert!(reply.text().contains("secrets.seal"), "{}", reply.text());
    }
    host.seal_keys(&[&[8; 32], &[7; 32]]);
    assert_eq!(client.served(&host), local("hunter2"));

    // With the key lost, configurations can be written again.
    host.seal_keys(&[&[8; 32]]);
    let list = ann(host.get(&format!("{}/revisions", client.path())));
    assert_eq!(json_of(&list)[0]["digest"], Value::Null);
    let body = local("y").to_string();
    let known = host.request("PUT", &client.path()).body(body.as_bytes());
    assert_eq!(ann(known.header("if-match", &format!("\"{digest}\""))).status, 412);
    assert_eq!(client.put(&host, &local("y")).status, 200);
    assert_eq!(client.served(&host), local("y"));
}

#[test]
fn only_the_last_revisions_are_kept() {
    let host = host_with(json!({"keep": {"revisions": 2}}));
    let client = Client::new(&host);
    for number in 0..5 {
        assert!(client.put(&host, &local(&number.to_string())).status < 300);
    }
    let list = json_of(&ann(host.get(&format!("{}/revisions", client.path()))));
    assert_eq!((list.as_array().unwrap().len(), &list[1]["revision"]), (2, &json!(4)));
    assert_eq!(host.keys().len(), 2);
    assert_eq!(ann(host.get(&format!("{}/revisions/3", client.path()))).status, 404);
}

#[test]
fn a_commit_that_fails_leaves_nothing_and_one_that_may_have_been_made_is_swept() {
    let host = host();
    let client = Client::new(&host);
    for (failure, status) in
        [(Failure::NoSpace, 503), (Failure::QuotaExceeded("records".to_owned()), 503)]
    {
        host.fail_commit(failure);
        assert_eq!(client.put(&host, &local("x")).status, status);
        assert!(host.keys().is_empty());
    }
    host.fail_commit(Failure::Unavailable("later".to_owned()));
    assert_eq!(client.put(&host, &local("x")).status, 503);
    assert_eq!(host.keys().len(), 1);
    assert_eq!(ann(host.get(&client.path())).status, 404);
    assert_eq!(client.put(&host, &local("x")).status, 201);
    assert_eq!((revision::sweep(), host.keys().len()), (Ok(0), 2));
    host.set_now(NOW + 86_400 * SECOND);
    assert_eq!((revision::sweep(), host.keys().len()), (Ok(1), 1));
    assert_eq!(json_of(&ann(host.get(&client.path()))), local("x"));
    // Another change at the same time.
    host.fail_commit(Failure::PreconditionFailed);
    assert_eq!(client.put(&host, &local("y")).status, 200);
    assert_eq!(host.keys().len(), 2);
    host.full();
    assert_eq!(client.put(&host, &local("z")).status, 503);
}

#[test]
fn what_is_removed_with_its_instance_does_not_come_back() {
    let host = host();
    let client = Client::new(&host);
    for number in 0..3 {
        client.put(&host, &local(&number.to_string()));
    }
    let instance = format!("/admin/instances/{}", client.id);
    // The blobs cannot be removed at once; that does not hinder the rest.
    host.refuse_changes(
        |key| key.starts_with("configs/"),
        Failure::Unavailable("later".to_owned()),
    );
    assert_eq!(ann(host.request("DELETE", &instance)).status, 204);
    assert!(!host.record_keys().iter().any(|key| key.starts_with("c/")));
    assert_eq!(send(client.get(&host, "/")).status, 401);
    host.refuse_changes(|_| false, Failure::NotFound);
    host.set_now(NOW + 86_400 * SECOND);
    assert_eq!((revision::sweep(), host.keys().len()), (Ok(3), 0));
    host.set_now(NOW);
    let body = json!({"publicKey": crate::key::tests::ED25519_PEM, "id": client.id});
    register(&host, &body);
    assert_eq!(ann(host.get(&client.path())).status, 404);
    assert_eq!(json_of(&ann(host.get(&format!("{}/revisions", client.path())))), json!([]));
}

#[test]
fn an_instance_with_as_much_as_it_may_have_is_removed_in_one_commit() {
    let host = host_with(json!({"keep": {"revisions": 100}}));
    let client = Client::new(&host);
    let instance = format!("/admin/instances/{}", client.id);
    for number in 2..=16 {
        let body = json!({"publicKey": key_pair(number).1}).to_string();
        assert_eq!(ann(host.post(&format!("{instance}/keys"), body.as_bytes())).status, 201);
    }
    for number in 0..102 {
        assert!(client.put(&host, &local(&number.to_string())).status < 300);
    }
    assert_eq!(host.keys().len(), 100);
    client.served(&host);
    assert_eq!(ann(host.request("DELETE", &instance)).status, 204);
    assert_eq!(host.keys().len(), 0);
    let left = host.record_keys();
    // What was done stays, and whose its runs and logs are.
    let may_stay = |key: &String| key.starts_with("a/") || key.starts_with("x/");
    assert!(left.iter().all(may_stay), "{left:?}");
}

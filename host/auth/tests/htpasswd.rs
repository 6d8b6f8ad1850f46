//! Files of users: changes while serving, and what password checks cost.

#![expect(
    clippy::unwrap_used,
    reason = "clippy allows it in test functions only, not in what these functions share"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keepgate_auth::Htpasswd;
use keepgate_auth::htpasswd::Options;
use keepgate_auth::htpasswd::Verdict::{Accepted, Rejected};

fn line(user: &str, password: &str) -> String {
    format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap())
}

fn load(folder: &Path, text: &str, options: Options) -> Arc<Htpasswd> {
    let path = folder.join(".htpasswd");
    std::fs::write(&path, text).unwrap();
    Htpasswd::load(path, options).unwrap()
}

/// How many checks it takes to verify a login three times, with this pause before each.
async fn checks(remember: Duration, pause: Duration) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { remember, ..Options::default() };
    let users = load(folder.path(), &line("alice", "secret"), options);
    for _ in 0..3 {
        tokio::time::sleep(pause).await;
        assert_eq!(users.verify("alice", b"secret", None).await, Accepted);
    }
    users.bcrypt_checks()
}

#[tokio::test]
async fn logins_are_remembered_until_their_lifetime_ends() {
    let ms = Duration::from_millis;
    assert_eq!(checks(Duration::from_secs(3600), ms(5)).await, 1);
    assert_eq!(checks(ms(20), ms(30)).await, 3);
    assert_eq!(checks(Duration::ZERO, ms(2)).await, 3);
}

#[tokio::test]
async fn unknown_users_cost_the_same_check_as_known_ones() {
    let folder = tempfile::tempdir().unwrap();
    let sha = "carol:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=\n";
    let users = load(folder.path(), &(line("alice", "a") + sha), Options::default());
    for (checks, user) in [(1, "alice"), (2, "nobody"), (3, "carol"), (4, "a/b")] {
        assert_eq!(users.verify(user, b"wrong", None).await, Rejected);
        assert_eq!(users.bcrypt_checks(), checks, "{user}");
    }
    assert_eq!(users.verify("carol", b"myPassword", None).await, Accepted);
    assert_eq!(users.bcrypt_checks(), 4);
    // If no user has a slow hash, unknown users cost none either.
    let users = load(folder.path(), sha, Options::default());
    assert_eq!(users.verify("nobody", b"wrong", None).await, Rejected);
    assert_eq!(users.bcrypt_checks(), 0);
}

#[tokio::test]
async fn a_changed_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { check_every: Duration::ZERO, ..Options::default() };
    let users = load(folder.path(), &line("alice", "old"), options);
    assert_eq!(users.verify("alice", b"old", None).await, Accepted);

    // Renamed into place: used at once, and the old password is forgotten.
    let replace = |text: &str| {
        std::fs::write(folder.path().join("new"), text).unwrap();
        std::fs::rename(folder.path().join("new"), users.path()).unwrap();
    };
    replace(&line("alice", "new"));
    assert_eq!(users.verify("alice", b"old", None).await, Rejected);
    assert_eq!(users.verify("alice", b"new", None).await, Accepted);

    // Written in place: used at the second look, because it may be incomplete at the first.
    std::fs::write(users.path(), line("alice", "in place") + "# longer\n").unwrap();
    assert_eq!(users.verify("alice", b"new", None).await, Accepted);
    assert_eq!(users.verify("alice", b"new", None).await, Rejected);
    assert_eq!(users.verify("alice", b"in place", None).await, Accepted);

    // An invalid file is rejected and the current users stay active.
    replace("rubbish\n");
    assert_eq!(users.verify("alice", b"in place", None).await, Accepted);
    assert!(users.reload().unwrap_err().to_string().contains("line 1"));
    std::fs::remove_file(users.path()).unwrap();
    assert_eq!(users.verify("alice", b"in place", None).await, Accepted);
    assert!(users.reload().unwrap_err().to_string().contains(".htpasswd"));

    // An empty file is valid and admits nobody.
    std::fs::write(users.path(), "").unwrap();
    users.reload().unwrap();
    assert_eq!(users.verify("alice", b"in place", None).await, Rejected);
    assert_eq!(users.users(), 0);
}

//! Reaching a cluster: certificates, passwords, members that are down. If it cannot be reached, the
//! response comes within seconds and says what a person can do; it never contains a secret.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use keepgate_tests::etcd::{Certificates, Etcd, Gate, Member, assert_same_keys};
use keepgate_tests::gateway::Setup;

use super::{
    LIST, assert_failed, assert_says, assert_store_has, assert_whole, back_up, check, cluster,
    list, list_of, name, setup, setup_with, taken, unpack,
};

/// How long a response may take if a member cannot be used: a few seconds, plus time for a busy
/// machine, but less than the 30 seconds that a member may be silent in the middle of a snapshot.
const SOON: Duration = Duration::from_secs(25);

/// An endpoint that accepts connections and never answers, like a member that hangs.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// An endpoint on which nothing listens.
fn refusing() -> String {
    format!("http://127.0.0.1:{}", keepgate_tests::etcd::free_port())
}

/// A backup of a cluster that cannot be reached fails soon, leaves nothing, and says why.
#[track_caller]
fn refused(setup: &Setup, words: &[&str]) -> String {
    let gateway = setup.start();
    let begun = Instant::now();
    let error = assert_failed(&gateway.endpoint().post(LIST, b""));
    assert!(begun.elapsed() < SOON, "{:?}: {error}", begun.elapsed());
    assert_says(&error, words);
    assert!(list(&gateway).is_empty());
    assert_store_has(setup, &[]);
    let logged = gateway.program.stderr.text();
    for secret in ["correct-horse", "wrong-horse"] {
        assert!(!error.contains(secret) && !logged.contains(secret), "the password is shown");
    }
    gateway.stop();
    // The same is reported by `check --connect`, before anything is served.
    let finished = check(setup, &["--connect"]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stdout);
    let wrong = finished.stdout.lines().find(|line| line.starts_with("wrong: "));
    assert_says(wrong.unwrap_or_else(|| panic!("{}", finished.stdout)), &["main"]);
    error
}

fn tls_setup(member: &Member, files: &[(&str, &Certificates, &str)]) -> Setup {
    let files: Vec<_> = files
        .iter()
        .map(|(key, made, file)| format!("{key} = \"{}\"", made.path(file).display()))
        .collect();
    let tls = format!("tls = {{ {} }}", files.join(", "));
    setup_with(&cluster("main", &[member.url()], &tls), "")
}

#[test]
fn a_cluster_may_require_client_certificates() {
    let Some(etcd) = Etcd::debian("backups of etcd over mutual TLS") else { return };
    let member = etcd.start_with_tls();
    for number in 0..20 {
        member.put(&format!("key-{number}"), &format!("value of {number}"));
    }
    let ours = member.certificates.as_ref().unwrap();
    let (ca, certificate, key) =
        (("ca", ours, "ca.pem"), ("certificate", ours, "client.pem"), ("key", ours, "client.key"));
    let setup = tls_setup(&member, &[ca, certificate, key]);
    let said = check(&setup, &["--connect"]).success();
    assert!(said.contains(&member.url()), "{said}");
    let gateway = setup.start();
    let answer = back_up(&gateway);
    assert_eq!(answer["endpoint"], member.url());
    let folder = tempfile::tempdir().unwrap();
    let file = setup.store().join(name(&answer));
    let restored = etcd.restore(&unpack(&file, folder.path()));
    assert_same_keys(&member.dump(), &restored.dump());
    gateway.stop();

    let address = member.url();
    refused(&tls_setup(&member, &[ca]), &[&address, "certificate"]);
    // The system's authorities did not sign it, nor did another one.
    refused(&tls_setup(&member, &[certificate, key]), &[&address, "certificate"]);
    let other = Certificates::new();
    let stranger = ("ca", &other, "ca.pem");
    refused(&tls_setup(&member, &[stranger, certificate, key]), &[&address, "certificate"]);
    let stranger = [("certificate", &other, "client.pem"), ("key", &other, "client.key")];
    refused(&tls_setup(&member, &[ca, stranger[0], stranger[1]]), &[&address]);
    // Plain HTTP to a server that uses TLS.
    let plain = super::setup(&[format!("http://127.0.0.1:{}", member.port())], "");
    refused(&plain, &[&format!("127.0.0.1:{}", member.port())]);
}

#[test]
fn a_self_signed_certificate_that_is_its_own_authority_is_trusted() {
    let Some(etcd) = Etcd::debian("backups of an etcd with a self-signed certificate") else {
        return;
    };
    let member = etcd.start_with_certificates(Certificates::of_a_self_signed_server());
    let ours = member.certificates.as_ref().unwrap();
    let [ca, certificate, key] =
        [("ca", "ca.pem"), ("certificate", "client.pem"), ("key", "client.key")]
            .map(|(name, file)| (name, ours, file));
    let setup = tls_setup(&member, &[ca, certificate, key]);
    check(&setup, &["--connect"]).success();
    let gateway = setup.start();
    back_up(&gateway);
    gateway.stop();
    // Another one that says the same about itself is not the one in the file.
    let other = Certificates::of_a_self_signed_server();
    let stranger = ("ca", &other, "ca.pem");
    refused(&tls_setup(&member, &[stranger, certificate, key]), &[&member.url(), "CA:TRUE"]);
}

#[test]
fn certificates_are_read_when_they_are_used() {
    let Some(etcd) = Etcd::debian("renewed certificates for etcd") else { return };
    let member = etcd.start_with_tls();
    let (ours, other) = (member.certificates.as_ref().unwrap(), Certificates::new());
    let files = Certificates::new();
    let copy = |from: &Certificates| {
        for file in ["client.pem", "client.key"] {
            fs::copy(from.path(file), files.path(file)).unwrap();
        }
    };
    copy(&other);
    let setup = tls_setup(
        &member,
        &[
            ("ca", ours, "ca.pem"),
            ("certificate", &files, "client.pem"),
            ("key", &files, "client.key"),
        ],
    );
    let gateway = setup.start();
    assert_failed(&gateway.endpoint().post(LIST, b""));
    // Renewed in place, like a certificate manager does; without a reload.
    copy(ours);
    back_up(&gateway);
    gateway.stop();
}

#[test]
fn a_cluster_may_require_a_password() {
    let Some(etcd) = Etcd::debian("backups of etcd with a password") else { return };
    let mut member = etcd.start();
    member.fill(0, 100, 100);
    let before = member.dump();
    member.demand_password("correct-horse");
    let with = |further: &str| setup_with(&cluster("main", &[member.url()], further), "");
    let right = with("user = \"root\"\npassword = \"correct-horse\"");
    let files = with("user_file = \"user\"\npassword_file = \"password\"");
    fs::write(files.path("user"), "root\n").unwrap();
    fs::write(files.path("password"), "correct-horse\n").unwrap();
    for setup in [right, files] {
        let said = check(&setup, &["--connect"]);
        assert!(!format!("{said:?}").contains("correct-horse"), "{said:?}");
        said.success();
        let gateway = setup.start();
        let answer = back_up(&gateway);
        let folder = tempfile::tempdir().unwrap();
        let snapshot = unpack(&setup.store().join(name(&answer)), folder.path());
        // The restored cluster also has the users.
        let mut restored = etcd.restore(&snapshot);
        restored.knows_password("correct-horse");
        assert_same_keys(&before, &restored.dump());
        let known = gateway.status().to_string() + &gateway.program.stderr.text();
        assert!(!known.contains("correct-horse"), "the password is shown");
        gateway.stop();
    }
    let address = member.url();
    refused(&with(""), &[&address, "user", "password"]);
    refused(&with("user = \"root\"\npassword = \"wrong-horse\""), &[&address, "password"]);
    refused(&with("user = \"nobody\"\npassword = \"correct-horse\""), &[&address, "password"]);
}

#[test]
fn members_are_tried_one_after_another() {
    let Some(etcd) = Etcd::debian("backups of etcd with members that are down") else { return };
    let member = etcd.start();
    member.fill(0, 100, 1_000);
    let (_listener, hangs) = silent();
    for dead in [refusing(), hangs.clone()] {
        let setup = setup(&[dead, member.url()], "");
        let gateway = setup.start();
        let begun = Instant::now();
        let answer = back_up(&gateway);
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        assert_eq!(answer["endpoint"], member.url());
        assert_whole(&gateway, &name(&answer));
        gateway.stop();
    }
    let dead = [refusing(), hangs];
    // Each with its own cause.
    refused(&setup(&dead, ""), &[&dead[0], &dead[1], "refused"]);
    drop(member);
}

/// If a member breaks off in the middle, the next one is asked, once.
#[test]
fn the_next_member_takes_over() {
    let Some(etcd) = Etcd::debian("etcd members that break off") else { return };
    let member = etcd.start();
    member.fill(0, 16, 500_000);
    let gate = Gate::before(member.port());
    let setup = setup(&[gate.url(), member.url()], "");
    let gateway = setup.start();
    gate.close_after(1 << 20);
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(|| gateway.endpoint().post(LIST, b""));
        gate.wait_until_closed();
        gate.cut();
        taken(&asked.join().unwrap())
    });
    assert_eq!(answer["endpoint"], member.url());
    assert_store_has(&setup, &[name(&answer)]);
    assert_whole(&gateway, &name(&answer));
    gateway.stop();
}

#[test]
fn one_mount_can_serve_several_clusters() {
    let Some(etcd) = Etcd::debian("backups of several etcd clusters") else { return };
    let (one, other) = (etcd.start(), etcd.start());
    one.put("which", "one");
    other.put("which", "other");
    let tables = cluster("main", &[one.url()], "") + &cluster("second", &[other.url()], "");
    let setup = setup_with(&tables, "settings = { rotate = 2 }");
    setup.write();
    setup.edit(|text| {
        text.replace("etcd = { main = \"main\" }", "etcd = { main = \"main\", other = \"second\" }")
    });
    let gateway = setup.start();
    let client = gateway.endpoint();
    let path = format!("/other{LIST}");
    let first = name(&back_up(&gateway));
    assert!(list_of(&gateway, &path).is_empty());
    let names: Vec<_> = (0..3).map(|_| name(&taken(&client.post(&path, b"")))).collect();
    // Each has its own list and its own rotation.
    assert_eq!(list_of(&gateway, &path), names[1..]);
    assert_eq!(list(&gateway), [first.as_str()]);
    assert_eq!(client.status("GET", &format!("{LIST}/{}", names[2])) == 200, names[2] == first);
    for (file, source) in
        [(setup.store().join(first), &one), (setup.store().join("other").join(&names[2]), &other)]
    {
        let folder = tempfile::tempdir().unwrap();
        let restored = etcd.restore(&unpack(&file, folder.path()));
        assert_same_keys(&source.dump(), &restored.dump());
    }
    // A cluster that the mount does not grant does not exist there, even if it is configured.
    assert_eq!(client.status("GET", &format!("/second{LIST}")), 404);
    assert_eq!(client.status("POST", &format!("/second{LIST}")), 404);
    gateway.stop();
    let said = check(&setup, &["--connect"]).success();
    assert!(said.contains(&one.url()) && said.contains(&other.url()), "{said}");
}

/// Without `--connect` no cluster is contacted, because a configuration may be checked elsewhere.
#[test]
fn check_contacts_no_cluster_by_default() {
    let setup = setup(&[refusing()], "");
    check(&setup, &[]).success();
    let ca = "tls = { ca = \"/no/such/ca.pem\" }";
    for (tables, word) in [
        (cluster("main", &["tcp://x:1".to_owned()], ""), "tcp://x:1"),
        (cluster("main", &[], ""), "endpoints"),
        (cluster("main", &["https://127.0.0.1:1".to_owned()], ca), "/no/such/ca.pem"),
        (cluster("main", &[refusing()], ca), "does not use TLS"),
        (cluster("main", &[refusing()], "password_file = \"/no/such/file\""), "user"),
        (cluster("other", &[refusing()], ""), "unknown etcd cluster \"main\""),
    ] {
        let finished = check(&setup_with(&tables, ""), &[]);
        assert_eq!(finished.status.code(), Some(1), "{tables}");
        let said = finished.stdout + &finished.stderr;
        assert!(said.contains(word), "{tables}: {said}");
    }
}

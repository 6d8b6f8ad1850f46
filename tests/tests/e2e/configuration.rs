//! SIGHUP: changes take effect; invalid settings are rejected and the current ones stay active.

use std::fs;

use keepgate_tests::client::{Endpoint, Trust};
use keepgate_tests::data::Blob;
use keepgate_tests::gateway::{Setup, text};

use crate::store;

#[test]
fn a_changed_policy_takes_effect_and_a_broken_file_does_not() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let client = gateway.endpoint();
    let (one, two) =
        (store(&client, "/r/", Blob::new(1, 10)), store(&client, "/r/", Blob::new(2, 10)));
    assert_eq!(client.status("DELETE", &one), 200);

    setup.edit(|text| text + "policy = { append_only = true }\n");
    gateway.reload();
    assert_eq!(client.status("DELETE", &two), 403);
    assert_eq!(client.status("HEAD", &two), 200);

    // An unknown key at a known position; the current configuration stays active.
    let good = fs::read_to_string(setup.config()).unwrap();
    let line = good.lines().count() + 1;
    setup.edit(|text| text + "appendonly = false\n");
    let said = gateway.reload();
    let place = format!("{}:{line}:1: unknown field `appendonly`", text(&setup.config()));
    assert!(said.contains("configuration rejected") && said.contains(&place), "{said}");
    assert_eq!(client.status("DELETE", &two), 403);

    // A missing store, and a file that is not TOML.
    for broken in [good.replace("main = \"main\"", "main = \"gone\""), "[[[".to_owned()] {
        fs::write(setup.config(), broken).unwrap();
        let said = gateway.reload();
        assert!(said.contains(&format!("{}:", text(&setup.config()))), "{said}");
        assert_eq!(client.status("DELETE", &two), 403);
    }
    // Settings that the plugin rejects, which only the plugin can know.
    fs::write(setup.config(), format!("{good}settings = {{ private_repo = true }}\n")).unwrap();
    let said = gateway.reload();
    assert!(said.contains("configuration rejected, the current one stays active error="), "{said}");
    assert!(said.contains(": mount /: "), "{said}");
    assert!(said.contains("unknown field `private_repo`"), "{said}");
    assert_eq!(client.status("DELETE", &two), 403);
    fs::remove_file(setup.config()).unwrap();
    assert!(gateway.reload().contains("cannot read the configuration"));
    assert_eq!(client.status("DELETE", &two), 403);

    fs::write(setup.config(), good.replace("append_only = true", "append_only = false")).unwrap();
    let said = gateway.reload();
    assert!(!said.contains("ERROR"), "{said}");
    assert_eq!(client.status("DELETE", &two), 200);
    gateway.stop();
}

#[test]
fn mounts_can_be_added_and_removed() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let client = gateway.endpoint();
    let path = store(&client, "/r/", Blob::new(1, 10));
    setup.edit(|text| text.replace("path = \"/\"", "path = \"/backup\""));
    gateway.reload();
    assert_eq!(client.status("HEAD", &path), 404);
    assert_eq!(client.status("HEAD", &format!("/backup{path}")), 200);
    setup.edit(|text| {
        text.replace("auth = [\"none\"]", "auth = [\"none\"]\nsettings = { oops = 1 }")
    });
    let said = gateway.reload();
    assert!(
        said.contains("does not accept the mount's settings") && said.contains("oops"),
        "{said}"
    );
    // A mount would be lost, so the whole change is rejected.
    let status = gateway.status();
    assert_eq!(status["refused"].as_array().map(Vec::len), Some(0), "{status}");
    assert_eq!(client.status("HEAD", &format!("/backup{path}")), 200);
    gateway.stop();
}

#[test]
fn users_can_change() {
    let setup = Setup::new().user("alice", "one").mount("/", "restic", "");
    let gateway = setup.start();
    let status = |name, password| gateway.as_user(name, password).status("GET", "/config");
    assert_eq!(status("alice", "one"), 404);
    setup.set_password("alice", "two");
    setup.set_password("bob", "three");
    gateway.reload();
    // The password that was correct a moment ago is refused as well.
    assert_eq!(status("alice", "one"), 401);
    assert_eq!((status("alice", "two"), status("bob", "three")), (404, 404));

    let good = fs::read(setup.path("htpasswd")).unwrap();
    fs::write(setup.path("htpasswd"), "this is no file of users\n").unwrap();
    let said = gateway.reload();
    assert!(said.contains("users rejected"), "{said}");
    assert_eq!(status("alice", "two"), 404);

    // A change is also noticed without a signal, within seconds.
    fs::write(setup.path("htpasswd"), good).unwrap();
    setup.set_password("carol", "four");
    gateway.eventually("carol's password", |_| status("carol", "four") == 404);
    gateway.stop();
}

#[test]
fn certificates_can_change() {
    let setup = Setup::restic().tls();
    let gateway = setup.start();
    let address = ([127, 0, 0, 1], gateway.port()).into();
    let trusting = || Endpoint::tcp(address).tls(&Trust::file(&setup.certificate()));
    // A new client, because one that has connected before may resume without a check.
    let old = trusting();
    let mut connected = gateway.endpoint().connect();
    let first = connected.send("GET", "/config", &[], b"").unwrap();
    assert_eq!(first.status, 404);
    setup.renew_certificate();
    gateway.reload();
    let new = trusting();
    assert_eq!(new.status("GET", "/config"), 404);
    assert!(old.connect().send("GET", "/config", &[], b"").is_err(), "the old one is still used");
    assert_eq!(connected.send("GET", "/config", &[], b"").unwrap().status, 404);

    fs::write(setup.certificate(), "no certificate").unwrap();
    let said = gateway.reload();
    assert!(said.contains("certificate rejected"), "{said}");
    assert_eq!(new.status("GET", "/config"), 404);
    gateway.stop();
}

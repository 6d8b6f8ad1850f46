//! Keys of the operator with the real program: granted, replaced, taken away and missing. What was sealed opens
//! whatever becomes of the mount and the process, and keys show up nowhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use keepgate_tests::client::Endpoint;
use keepgate_tests::gateway::{Setup, text};
use keepgate_tests::program::keepgate;
use keepgate_tests::tools;

/// HMAC-SHA256 of `message` under the two keys below, by Python's `hmac`.
const MAC: &str = "a3caf9542d85f72d1d871f1c219560039bd8f0cff2df5d1a2f9ef09ad5aad80d";
const OTHER_MAC: &str = "3cffe9c0b3e93abea120c560947285f291010dfa7b34bb493a9a7b3de7e944b4";

fn write(file: &Path, key: &str) {
    fs::write(file, key).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

fn mac(client: &Endpoint, mount: &str) -> String {
    let signed = client.post(&format!("{mount}/sign?key=hook"), b"message");
    assert_eq!(signed.status, 200, "{}", signed.text());
    signed.body.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seal(client: &Endpoint, mount: &str) -> Vec<u8> {
    let sealed = client.post(&format!("{mount}/seal?context=ann"), b"open sesame");
    assert_eq!(sealed.status, 200, "{}", sealed.text());
    sealed.body
}

/// Whether something opens; if not, checks that the refusal says no more than that.
fn opens(client: &Endpoint, mount: &str, sealed: &[u8]) -> bool {
    let opened = client.post(&format!("{mount}/open?context=ann"), sealed);
    if opened.status != 200 {
        assert_eq!(opened.status, 400);
        let said = opened.text();
        assert!(
            said.contains("this was not sealed here for this purpose, or is damaged"),
            "{said}"
        );
        return false;
    }
    assert_eq!(opened.body, b"open sesame");
    true
}

#[test]
fn keys_are_granted_replaced_and_taken_away() {
    let keys = "secrets.hmac = { hook = \"hook\" }\n\
                secrets.seal = { name = \"vault\", keys = [\"first\"] }";
    let setup = Setup::restic().mount("/vault", "secrets", keys).mount("/bare", "secrets", "");
    setup.install("secrets", &tools::guest("secrets"));
    write(&setup.path("hook"), "sixteen characters\n");
    write(&setup.path("first"), "the first key to seal with, long enough\n");
    write(&setup.path("second"), "the second key to seal with, long enough\n");
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(mac(&client, "/vault"), MAC);
    let old = seal(&client, "/vault");
    assert!(opens(&client, "/vault", &old));
    let refused = client.post("/bare/seal", b"");
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("grants no key for sealing"), "{}", refused.text());

    // A newer key seals, and the older one still opens; then it is taken away.
    setup.edit(|text| text.replace("[\"first\"]", "[\"second\", \"first\"]"));
    gateway.reload();
    assert!(opens(&client, "/vault", &old));
    let new = seal(&client, "/vault");
    setup.edit(|text| text.replace("[\"second\", \"first\"]", "[\"second\"]"));
    gateway.reload();
    assert!(opens(&client, "/vault", &new) && !opens(&client, "/vault", &old));

    // A file is read again although the configuration is the same.
    write(&setup.path("hook"), "another key of the hook");
    assert_eq!(mac(&client, "/vault"), MAC);
    gateway.reload();
    assert_eq!(mac(&client, "/vault"), OTHER_MAC);

    // A file that is missing changes nothing, and the log says how to make one.
    fs::rename(setup.path("second"), setup.path("elsewhere")).unwrap();
    let log = gateway.reload();
    let command = format!("head -c 32 /dev/urandom | base64 > {}", setup.path("second").display());
    assert!(log.contains("configuration rejected") && log.contains(&command), "{log}");
    assert!(opens(&client, "/vault", &new));
    fs::rename(setup.path("elsewhere"), setup.path("second")).unwrap();

    let status = gateway.status().to_string();
    assert!(status.contains("hmac hook") && status.contains("seal vault"), "{status}");
    let log = gateway.program.stderr.text();
    for secret in ["sixteen", "another key", "key to seal with", "open sesame"] {
        assert!(!status.contains(secret) && !log.contains(secret), "{secret}");
    }
    gateway.stop();

    // Another path and another process, with the same name and files.
    setup.edit(|text| text.replace("\"/vault\"", "\"/safe\""));
    let gateway = setup.start();
    assert!(opens(&gateway.endpoint(), "/safe", &new));
    gateway.stop();
    setup.edit(|text| text.replace("name = \"vault\"", "name = \"other\""));
    let gateway = setup.start();
    assert!(!opens(&gateway.endpoint(), "/safe", &new), "the name is part of the keys");
    gateway.stop();
}

#[test]
fn check_reads_the_files_and_names_each_that_cannot_be_used() {
    let keys = "secrets.hmac = { hook = \"hook\", none = \"none\" }\n\
                secrets.seal = { name = \"vault\", keys = [\"short\"] }";
    let setup = Setup::restic().mount("/vault", "secrets", keys);
    setup.install("secrets", &tools::guest("secrets"));
    setup.write();
    write(&setup.path("hook"), "sixteen characters\n");
    write(&setup.path("short"), "sixteen characters\n");
    let check = || tools::run(keepgate(&["check", "--config", text(&setup.config())]));
    let checked = check();
    assert_eq!(checked.status.code(), Some(1));
    for part in
        ["none: No such file", "restore it", "short: it has 18 bytes; a key needs 32 or more"]
    {
        assert!(checked.stdout.contains(part), "{part}: {checked:?}");
    }
    write(&setup.path("none"), "seventeen letters");
    write(&setup.path("short"), "long enough to seal something with it");
    fs::set_permissions(setup.path("none"), fs::Permissions::from_mode(0o644)).unwrap();
    let said = check().success();
    assert!(said.contains("warning: every user of this machine may read the key"), "{said}");
    assert!(said.contains(&format!("chmod o-r {}", setup.path("none").display())), "{said}");
}

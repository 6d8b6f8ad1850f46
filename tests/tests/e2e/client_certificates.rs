//! Clients that present certificates instead of passwords: real clients with the real program, whose users have rules,
//! quotas and private repositories like any others.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use keepgate_tests::client::{Endpoint, Trust};
use keepgate_tests::data::{Blob, sha256};
use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::program::keepgate;
use keepgate_tests::restic::Restic;
use keepgate_tests::{tools, tree};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};

const METHOD: &str = "[auth.clients]\nfingerprints = \"clients\"\nclient_ca = [\"ca.pem\"]";

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority() -> CertificateParams {
    let mut params = params("the tests' authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Writes `NAME.pem`, `NAME.key` and `NAME-both.pem`.
fn write(setup: &Setup, name: &str, certificate: &Certificate, key: &KeyPair) {
    fs::write(setup.path(&format!("{name}.pem")), certificate.pem()).unwrap();
    fs::write(setup.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    let both = certificate.pem() + &key.serialize_pem();
    fs::write(setup.path(&format!("{name}-both.pem")), both).unwrap();
}

fn write_self_signed(setup: &Setup, name: &str, params: &CertificateParams) {
    let key = KeyPair::generate().unwrap();
    write(setup, name, &params.self_signed(&key).unwrap(), &key);
}

/// A line of the list, as the program prints it.
fn listed(setup: &Setup, certificate: &str, name: &str) -> String {
    let file = setup.path(certificate);
    tools::run(keepgate(&["certificate", "fingerprint", text(&file), "--name", name])).success()
}

/// `ann` is on the list, `bob` has a certificate of the authority, `eve` has one of her own.
fn setup() -> Setup {
    let setup = Setup::new()
        .tls()
        .table(METHOD)
        .table("[log]\naccess = \"access.log\"")
        .accepting("clients")
        .mount(
            "/",
            "restic",
            "settings = { private_repos = true }\npolicy = { append_only = true, except = [\"**/locks/*\"] }\n\
             [[mount.rule]]\nuser = \"bob\"\npolicy = { quota = 5_000 }\n",
        );
    for name in ["ann", "eve"] {
        write_self_signed(&setup, name, &params("not the name of the user"));
    }
    let (key, authority) = (KeyPair::generate().unwrap(), authority());
    fs::write(setup.path("ca.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
    let bob = KeyPair::generate().unwrap();
    let issued = params("bob").signed_by(&bob, &Issuer::new(authority, key)).unwrap();
    write(&setup, "bob", &issued, &bob);
    fs::write(setup.path("clients"), listed(&setup, "ann.pem", "ann")).unwrap();
    setup
}

fn presenting(gateway: &Gateway, setup: &Setup, name: &str) -> Endpoint {
    let (certificate, key) =
        (setup.path(&format!("{name}.pem")), setup.path(&format!("{name}.key")));
    gateway.endpoint().tls(&Trust::file_presenting(&setup.certificate(), &certificate, &key))
}

#[test]
fn users_with_certificates_have_rules_quotas_and_private_repositories() {
    let setup = setup();
    let gateway = setup.start();
    let client = |name| presenting(&gateway, &setup, name);
    let (ann, bob, eve, nobody) = (client("ann"), client("bob"), client("eve"), gateway.endpoint());
    for (client, path, status) in [
        (&ann, "/ann/?create=true", 200),
        (&bob, "/bob/?create=true", 200),
        (&ann, "/bob/?create=true", 401),
        (&eve, "/eve/?create=true", 403),
        (&nobody, "/eve/?create=true", 403),
    ] {
        let reply = client.post(path, b"");
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        assert_eq!(reply.header("www-authenticate"), None);
    }
    // The rule replaces the mount's policy: bob may remove, and has a quota.
    let put = |client: &Endpoint, folder, blob: Blob| {
        let path = crate::path(folder, &blob.id());
        (client.post(&path, &blob.bytes()).status, path)
    };
    let (stored, path) = put(&ann, "/ann/", Blob::new(1, 6_000));
    assert_eq!((stored, ann.status("DELETE", &path)), (200, 403));
    let blob = Blob::new(2, 6_000);
    let refused = bob.post(&crate::path("/bob/", &blob.id()), &blob.bytes());
    assert!(refused.status == 507 && refused.text().contains("bob"), "{}", refused.text());
    let (stored, path) = put(&bob, "/bob/", Blob::new(3, 5_000));
    assert_eq!((stored, bob.status("DELETE", &path)), (200, 200));

    let fingerprint = listed(&setup, "eve.pem", "eve");
    let (fingerprint, _) = fingerprint.split_once(' ').unwrap();
    let (_, line) = gateway.program.stderr.wait_for(0, &["login failed", fingerprint]);
    let parts = ["subject=", "127.0.0.1", "is not in the list; no trusted authority has issued it"];
    assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    assert_eq!(gateway.metric("keepgate_http_login_failures_total{mount=\"/\"}"), 1.0);
    gateway.stop();
    let log = fs::read_to_string(setup.path("access.log")).unwrap();
    let of = |user: &str| log.lines().filter(|line| line.contains(&format!(" - {user} ["))).count();
    assert_eq!((of("ann"), of("bob"), of("eve"), of("-")), (4, 4, 0, 2), "{log}");
}

#[test]
fn restic_and_curl_present_certificates_until_they_are_taken_off_the_list() {
    let setup = setup();
    let gateway = setup.start();
    let check = "backups by restic with a client certificate";
    let Some(restic) = Restic::find(check, gateway.repository("", "/ann/")) else { return };
    let restic = restic.trusting(&setup.certificate());
    let (code, said) = restic.fails(&["init"]);
    assert!(code != 0 && said.contains("403"), "{said}");
    let restic = restic.presenting(&setup.path("ann-both.pem"));
    restic.run(&["init"]);
    let source = setup.path("source");
    tree::make(&source);
    restic.run_in(&setup.path(""), &["backup", "source"]);
    restic.assert_restores(&source);

    let Some(curl) = tools::find_for("curl", "curl with a client certificate") else { return };
    let ask = |presented: Option<&str>, version: &str, tls: &[&str]| {
        let mut command = Command::new(&curl);
        command.args(["--silent", "--show-error", version, "--output"]).arg(setup.path("reply"));
        command.args(["--write-out", "%{http_version} %{http_code}"]).args(tls);
        command.arg("--cacert").arg(setup.certificate());
        if let Some(name) = presented {
            let file = |end: &str| -> PathBuf { setup.path(&format!("{name}.{end}")) };
            command.arg("--cert").arg(file("pem")).arg("--key").arg(file("key"));
        }
        command.arg(format!("https://localhost:{}/ann/config", gateway.port()));
        tools::run(command).success().trim_end().to_owned()
    };
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for tls in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
            assert_eq!(ask(Some("ann"), flag, tls), format!("{version} 200"));
            assert_eq!(ask(Some("eve"), flag, tls), format!("{version} 403"));
            let said = fs::read_to_string(setup.path("reply")).unwrap();
            assert!(said.starts_with("Forbidden: a client certificate"), "{said}");
            assert_eq!(ask(None, flag, tls), format!("{version} 403"));
        }
    }

    // Without a signal, and on a connection that is open.
    let mut open = presenting(&gateway, &setup, "ann").connect();
    let mut ask_again = || open.send("GET", "/ann/config", &[], b"").unwrap().status;
    assert_eq!(ask_again(), 200);
    let before = gateway.program.stderr.count();
    fs::write(setup.path("new"), format!("# ann has left\n{}", listed(&setup, "eve.pem", "eve")))
        .unwrap();
    fs::rename(setup.path("new"), setup.path("clients")).unwrap();
    gateway.eventually("the list is read again", |_| ask_again() == 403);
    let (_, line) = gateway.program.stderr.wait_for(before, &["fingerprints reloaded"]);
    assert!(line.contains("certificates=1"), "{line}");
    let (_, said) = restic.fails(&["snapshots"]);
    assert!(said.contains("403"), "{said}");
    // On SIGHUP at once.
    fs::write(setup.path("clients"), listed(&setup, "ann.pem", "ann")).unwrap();
    gateway.reload();
    assert_eq!(restic.snapshots(), 1);
    gateway.stop();
}

#[test]
fn listeners_ask_when_a_reload_adds_the_first_mount_with_certificates() {
    let setup = Setup::restic().tls();
    write_self_signed(&setup, "ann", &params("ann"));
    fs::write(setup.path("clients"), listed(&setup, "ann.pem", "ann")).unwrap();
    let gateway = setup.start();
    // Resumes its sessions, and the first one began without a certificate.
    let ann = presenting(&gateway, &setup, "ann");
    assert_eq!(ann.status("GET", "/r/config"), 404);
    setup.edit(|text| {
        let text = text.replace("auth = [\"none\"]", "auth = [\"clients\"]");
        text.replace("[store.main]", "[auth.clients]\nfingerprints = \"clients\"\n[store.main]")
    });
    gateway.reload();
    assert_eq!(ann.status("GET", "/r/config"), 404);
    assert_eq!(gateway.endpoint().status("GET", "/r/config"), 403);
    // A list that cannot be read is rejected, and the current one stays active.
    fs::write(setup.path("clients"), "rubbish\n").unwrap();
    gateway.reload();
    gateway.program.stderr.wait_for(0, &["fingerprints rejected", "line 1"]);
    assert_eq!(ann.status("GET", "/r/config"), 404);
    gateway.stop();
}

#[test]
fn check_says_what_is_wrong_with_lists_authorities_and_listeners() {
    let setup = setup();
    setup.write();
    let good = fs::read_to_string(setup.config()).unwrap();
    let check = || tools::run(keepgate(&["check", "--config", text(&setup.config())]));
    let said = check().success();
    assert!(!said.contains("warning"), "{said}");

    // A listener without TLS beside the other one, and without it.
    let plain = good.replacen("[admin]", "[[listener]]\naddress = \"unix:plain.sock\"\n[admin]", 1);
    fs::write(setup.config(), plain).unwrap();
    let said = check().success();
    let warning = said.lines().find(|line| line.starts_with("warning: listener unix:"));
    assert!(warning.is_some_and(|line| line.ends_with("or use mount \"/\"")), "{said}");
    let without = good.lines().filter(|line| !line.starts_with("tls = "));
    fs::write(setup.config(), without.collect::<Vec<_>>().join("\n")).unwrap();
    let error = check().fails_with(1);
    assert!(
        error.contains("mount \"/\": nobody can get in, because no listener has TLS"),
        "{error}"
    );
    fs::write(setup.config(), &good).unwrap();

    let wrong = |expected: &[&str]| {
        let finished = check();
        assert_eq!(finished.status.code(), Some(1), "{}", finished.stdout);
        let mut lines = finished.stdout.lines().filter(|line| line.starts_with("wrong: "));
        let found = lines.any(|line| expected.iter().all(|part| line.contains(part)));
        assert!(found, "{expected:?}: {}", finished.stdout);
    };
    let list = fs::read_to_string(setup.path("clients")).unwrap();
    fs::write(setup.path("clients"), format!("{list}1a2b eve\n")).unwrap();
    wrong(&[
        text(&setup.path("clients")),
        "line 2: expected the 64 hexadecimal digits of SHA-256, found 4",
    ]);
    fs::write(setup.path("clients"), list).unwrap();

    let mut expired = authority();
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    write_self_signed(&setup, "ca", &expired);
    wrong(&[text(&setup.path("ca.pem")), "has expired; renew it"]);
    fs::copy(setup.path("ann.pem"), setup.path("ca.pem")).unwrap();
    wrong(&[text(&setup.path("ca.pem")), "is not an authority's", "list the fingerprint"]);
    fs::remove_file(setup.path("ca.pem")).unwrap();
    wrong(&[text(&setup.path("ca.pem"))]);
}

#[test]
fn fingerprints_are_printed_as_lists_have_them() {
    let setup = Setup::restic();
    let key = KeyPair::generate().unwrap();
    let certificate = params("x").self_signed(&key).unwrap();
    write(&setup, "x", &certificate, &key);
    fs::write(setup.path("x.der"), certificate.der()).unwrap();
    let expected = sha256(certificate.der().as_ref());
    for file in ["x.pem", "x.der", "x-both.pem"] {
        let file = setup.path(file);
        let said = tools::run(keepgate(&["certificate", "fingerprint", text(&file)])).success();
        assert_eq!(said.trim_end(), expected);
    }
    assert_eq!(listed(&setup, "x.pem", "ann"), format!("{expected} ann\n"));
    for (file, further, expected) in
        [("x.key", &[][..], "private key"), ("x.pem", &["--name", "a/b"], "only letters")]
    {
        let file = setup.path(file);
        let arguments = [&["certificate", "fingerprint", text(&file)], further].concat();
        let error = tools::run(keepgate(&arguments)).fails_with(1);
        assert!(error.contains(expected), "{error}");
    }
}

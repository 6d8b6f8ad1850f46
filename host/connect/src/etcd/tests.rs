//! What is refused when the configuration is read, before anything is connected.

use std::fs;
use std::path::PathBuf;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;

/// A folder with `ca.pem`, `client.pem`, `client.key`, `other.key`, `password`, and broken ones.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let made = || generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let CertifiedKey { cert, signing_key } = made();
    write("ca.pem", &cert.pem());
    write("client.pem", &cert.pem());
    write("client.key", &signing_key.serialize_pem());
    write("other.key", &made().signing_key.serialize_pem());
    write("password", "hunter2\n");
    write("empty", "\n");
    write("text", "no certificate at all\n");
    folder
}

fn options(endpoint: &str) -> ClusterOptions {
    ClusterOptions {
        name: "main".to_owned(),
        endpoints: vec![endpoint.to_owned()],
        tls: None,
        user: None,
        timeout: None,
        stall_timeout: STALL_TIMEOUT,
        allow_stale: false,
    }
}

fn refused(options: ClusterOptions) -> String {
    match Cluster::new(options).unwrap_err() {
        ConnectError::Invalid(text) => {
            assert!(text.starts_with("etcd cluster \"main\": "), "{text}");
            text
        }
        error => panic!("{error:?}"),
    }
}

#[test]
fn valid_files_are_accepted() {
    let folder = folder();
    let path = |name: &str| Some(folder.path().join(name));
    for tls in [
        TlsFiles { ca: path("ca.pem"), certificate: path("client.pem"), key: path("client.key") },
        TlsFiles { ca: path("ca.pem"), certificate: None, key: None },
    ] {
        Cluster::new(ClusterOptions { tls: Some(tls), ..options("https://localhost:2379") })
            .unwrap();
    }
}

#[test]
fn unusable_files_are_named() {
    let folder = folder();
    let path = |name: &str| Some(folder.path().join(name));
    let tls = |ca: Option<PathBuf>, certificate: Option<PathBuf>, key: Option<PathBuf>| {
        let tls = Some(TlsFiles { ca, certificate, key });
        refused(ClusterOptions { tls, ..options("https://localhost:2379") })
    };
    for (text, file, reason) in [
        (tls(path("missing"), None, None), "missing", "cannot read"),
        (tls(path("text"), None, None), "text", "no certificate found in"),
        (tls(None, path("client.pem"), None), "client.pem", "has no key"),
        (tls(None, None, path("client.key")), "client.key", "has no certificate"),
        (tls(path("ca.pem"), path("missing"), path("client.key")), "missing", "cannot read"),
        (tls(path("ca.pem"), path("text"), path("client.key")), "text", "no certificate found in"),
        (tls(path("ca.pem"), path("client.pem"), path("text")), "text", "no private key found in"),
        (
            tls(path("ca.pem"), path("client.pem"), path("other.key")),
            "client.pem",
            "does not match",
        ),
    ] {
        assert!(text.contains(file) && text.contains(reason), "{file}: {text}");
        assert!(!text.contains("PRIVATE KEY-----\n"), "{text}");
    }
}

#[test]
fn secrets_are_read_but_not_shown() {
    let folder = folder();
    let login =
        |password: Secret| Some(Login { user: Secret::Text("operator".to_owned()), password });
    let with = |password| ClusterOptions { user: login(password), ..options("http://localhost:1") };
    let file = |name: &str| Secret::File(folder.path().join(name));
    let right = with(file("password"));
    let shown = format!("{right:?} {:?}", Cluster::new(right.clone()).unwrap());
    assert!(!shown.contains("operator") && !shown.contains("hunter2"), "{shown}");
    let shown = format!("{:?}", with(Secret::Text("hunter2".to_owned())));
    assert!(!shown.contains("hunter2"), "{shown}");

    assert!(refused(with(file("missing"))).contains("missing: "));
    assert!(refused(with(file("empty"))).contains("empty is empty"));
    assert!(refused(with(Secret::Text(String::new()))).contains("the password is empty"));
}

#[test]
fn invalid_values_are_refused() {
    let none = ClusterOptions { endpoints: Vec::new(), ..options("") };
    assert!(refused(none).contains("it has no endpoints"));
    assert!(refused(options("localhost:2379")).contains("must begin with http://"));
    let no_time = ClusterOptions { timeout: Some(Duration::ZERO), ..options("http://localhost:1") };
    assert!(refused(no_time).contains("timeout of zero"));
    let folder = folder();
    let tls = Some(TlsFiles { ca: Some(folder.path().join("ca.pem")), ..TlsFiles::default() });
    let mixed = ClusterOptions { tls, ..options("http://localhost:1") };
    assert!(refused(mixed).contains("http://localhost:1 does not use TLS"));
}

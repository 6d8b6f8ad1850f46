//! Clients of LXD, who prove who they are by certificates.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use keepgate_tests::gateway::{Setup, text};
use keepgate_tests::lxd::LxdServer;
use keepgate_tests::program::keepgate;
use keepgate_tests::s3::S3Server;
use keepgate_tests::tools;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::UPSTREAMS;

/// A certificate and its key, in files.
fn certificate(setup: &Setup, name: &str, params: &CertificateParams) -> [PathBuf; 2] {
    let key = KeyPair::generate().unwrap();
    let files = [setup.path(&format!("{name}.crt")), setup.path(&format!("{name}.key"))];
    fs::write(&files[0], params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&files[1], key.serialize_pem()).unwrap();
    files
}

#[test]
fn clients_of_lxd_present_certificates() {
    let check = "LXD's clients with certificates";
    let (Some(lxd), Some(server)) = (LxdServer::find(check), S3Server::find(check)) else { return };
    let Some(curl) = tools::find_for("curl", check) else { return };
    let setup = Setup::new()
        .tls()
        .in_bucket(&server, "backups", "")
        .table(&lxd.by_socket())
        .table("[auth.clients]\nfingerprints = \"clients\"")
        .accepting("clients")
        .mount(
            "/",
            "lxd",
            &format!("{UPSTREAMS}\nsettings = {{ instances = {{ ann = [\"c*\"] }} }}"),
        );
    setup.install("lxd", &tools::plugin("lxd"));
    let params = || CertificateParams::new(Vec::new()).unwrap();
    let ann = certificate(&setup, "ann", &params());
    let foreign = certificate(&setup, "foreign", &params());
    let mut params = params();
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2019, 1, 1), rcgen::date_time_ymd(2020, 1, 1));
    let expired = certificate(&setup, "expired", &params);
    let mut list = String::new();
    for [file, _] in [&ann, &expired] {
        let line = keepgate(&["certificate", "fingerprint", text(file), "--name", "ann"]);
        list += &tools::run(line).success();
    }
    fs::write(setup.path("clients"), list).unwrap();
    let gateway = setup.start();
    let port = gateway.port();
    let ask = |version: &str, pair: Option<&[PathBuf; 2]>, path: &str| {
        let mut command = Command::new(&curl);
        command.args(["--silent", "--show-error", version, "--write-out", "\n%{http_code}"]);
        command.arg("--cacert").arg(setup.certificate());
        if let Some([file, key]) = pair {
            command.arg("--cert").arg(file).arg("--key").arg(key);
        }
        command.arg(format!("https://127.0.0.1:{port}/1.0/{path}"));
        let said = tools::run(command).success();
        let (body, status) = said.trim_end().rsplit_once('\n').unwrap();
        (status.to_owned(), serde_json::from_str::<Value>(body).unwrap_or_default())
    };
    for version in ["--http1.1", "--http2"] {
        let (status, answer) = ask(version, Some(&ann), "instances/c1/backups");
        assert_eq!((status.as_str(), &answer["metadata"]), ("200", &json!([])));
        for (pair, path) in [
            (Some(&ann), "instances/d1/backups"),
            (None, "instances/c1/backups"),
            (None, "health"),
            (Some(&foreign), "instances/c1/backups"),
            (Some(&expired), "instances/c1/backups"),
        ] {
            let (status, answer) = ask(version, pair, path);
            let asked = format!("{version} {pair:?} {path}");
            assert_eq!((status.as_str(), &answer["type"]), ("403", &json!("error")), "{asked}");
            assert_eq!(answer["error"], "not authorized", "{asked}");
            assert_eq!((&answer["error_code"], &answer["code"]), (&json!(403), &json!(403)));
        }
    }
    gateway.stop();
}

//! curl over HTTP/2 and HTTP/1.1, through TLS.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use keepgate_tests::data::{Blob, sha256};
use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::tools;

struct Curl {
    program: PathBuf,
    setup: Setup,
    base: String,
}

impl Curl {
    fn find(check: &str, setup: &Setup, gateway: &Gateway) -> Option<Self> {
        let program = tools::find_for("curl", check)?;
        let base = format!("https://localhost:{}", gateway.port());
        Some(Self { program, setup: setup.clone(), base })
    }

    /// Runs curl, which must succeed. Returns the output of `--write-out`.
    fn run(&self, flags: &[&str], path: &str) -> String {
        let mut command = Command::new(&self.program);
        command
            .args(["--silent", "--show-error", "--fail-with-body", "--user", "alice:secret"])
            .args(["--write-out", "%{http_version} %{http_code}", "--cacert"])
            .arg(self.setup.certificate())
            .args(flags)
            .arg(format!("{}{path}", self.base));
        tools::run(command).success().trim_end().to_owned()
    }
}

#[test]
fn curl_uploads_and_downloads() {
    let setup = Setup::new().tls().user("alice", "secret").mount("/", "restic", "");
    let gateway = setup.start();
    let Some(curl) = Curl::find("curl over HTTP/2", &setup, &gateway) else { return };
    let (source, target) = (setup.path("source"), setup.path("target"));
    for (flag, version, seed) in [("--http2", "2", 1), ("--http1.1", "1.1", 2)] {
        let blob = Blob::new(seed, 32 << 20);
        fs::write(&source, blob.bytes()).unwrap();
        let path = crate::path("/r/", &blob.id());
        let (data, done) = (format!("@{}", text(&source)), format!("{version} 200"));
        let from_file = ["--request", "POST", "--data-binary", &data];
        assert_eq!(curl.run(&[&[flag][..], &from_file].concat(), &path), done);
        let to_file = [flag, "--output", text(&target)];
        assert_eq!(curl.run(&to_file, &path), done);
        assert_eq!(sha256(fs::File::open(&target).unwrap()), blob.id());

        let part = [flag, "--range", "1000-2999", "--output", text(&target)];
        assert_eq!(curl.run(&part, &path), format!("{version} 206"));
        assert!(fs::read(&target).unwrap() == blob.bytes()[1000..3000]);
        let head = curl.run(&[flag, "--head"], &path);
        assert!(head.contains(&format!("content-length: {}", 32 << 20)), "{head}");
        let delete = [flag, "--request", "DELETE"];
        assert_eq!(curl.run(&delete, &path), done);
    }
    gateway.stop();
}

#[test]
fn many_requests_on_one_http2_connection() {
    let setup = Setup::new().tls().user("alice", "secret").mount("/", "restic", "");
    let gateway = setup.start();
    let check = "many requests on one HTTP/2 connection";
    let Some(curl) = Curl::find(check, &setup, &gateway) else { return };
    let client = gateway.as_user("alice", "secret");
    let blobs: Vec<_> = (0..40).map(|seed| Blob::new(seed, 300_000)).collect();
    let mut config = String::new();
    for blob in &blobs {
        let path = crate::store(&client, "/r/", *blob);
        let target = setup.path(&blob.id());
        config += &format!("url = \"{}{path}\"\noutput = \"{}\"\n", curl.base, text(&target));
    }
    let list = setup.path("list");
    fs::write(&list, config).unwrap();
    let mut command = Command::new(&curl.program);
    command
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--http2",
            "--parallel",
            "--parallel-max",
            "40",
        ])
        .args(["--user", "alice:secret", "--cacert"])
        .arg(setup.certificate())
        .args(["--write-out", "%{http_version} %{num_connects}\\n", "--config", text(&list)]);
    let said = tools::run(command).success();
    assert_eq!(said.matches("2 ").count(), blobs.len(), "{said}");
    for blob in &blobs {
        assert_eq!(sha256(fs::File::open(setup.path(&blob.id())).unwrap()), blob.id());
    }
    gateway.stop();
}

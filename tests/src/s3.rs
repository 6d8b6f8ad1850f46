//! S3 servers that keep their buckets as folders: versitygw, and s3s-fs, whose conditional writes race. Each has its own
//! folder and port, and is killed when it is dropped.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::gateway::Setup;
use crate::program::{LONG, Program};
use crate::{tools, tree};

/// The access key of every server.
pub const KEY: &str = "AKTEST";
/// Its secret.
pub const SECRET: &str = "SKSKSKSK";

/// A running server.
#[derive(Debug)]
pub struct S3Server {
    /// The process.
    pub program: Program,
    kind: Kind,
    binary: PathBuf,
    port: u16,
    folder: TempDir,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Versitygw,
    /// With versions of objects.
    WithVersions,
    S3sFs,
}

impl S3Server {
    /// Starts one; if it is not installed, reports that `check` is skipped.
    #[track_caller]
    pub fn find(check: &str) -> Option<Self> {
        Self::find_kind(check, Kind::Versitygw)
    }

    /// The same with versions of objects, which object lock needs.
    #[track_caller]
    pub fn find_with_versions(check: &str) -> Option<Self> {
        Self::find_kind(check, Kind::WithVersions)
    }

    /// The same of a server whose conditional writes race.
    #[track_caller]
    pub fn find_racing(check: &str) -> Option<Self> {
        Self::find_kind(check, Kind::S3sFs)
    }

    #[track_caller]
    fn find_kind(check: &str, kind: Kind) -> Option<Self> {
        let program = if kind == Kind::S3sFs { "s3s-fs" } else { "versitygw" };
        let binary = tools::find_for(program, check)?;
        let folder = tempfile::tempdir().unwrap();
        for name in ["data", "versions"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = Program::start(command(kind, &binary, port, &folder));
        let server = Self { program, kind, binary, port, folder };
        server.wait_until_ready();
        Some(server)
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Starts it again, with the same data and port.
    #[track_caller]
    pub fn start_again(&mut self) {
        let command = command(self.kind, &self.binary, self.port, &self.folder);
        self.program = Program::start(command);
        self.wait_until_ready();
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        let end = Instant::now() + LONG;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "{}", self.program.stderr.text());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The folder of all buckets.
    pub fn buckets(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Makes a bucket. Its objects are the files of this folder.
    #[track_caller]
    pub fn bucket(&self, name: &str) -> PathBuf {
        let bucket = self.buckets().join(name);
        fs::create_dir(&bucket).unwrap();
        bucket
    }

    /// Makes a bucket whose objects can be locked. The server must have versions.
    #[track_caller]
    pub fn bucket_with_lock(&self, name: &str) {
        let mut curl = Command::new("curl");
        curl.args(["--fail", "--silent", "--show-error", "--request", "PUT"]);
        curl.args(["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &format!("{KEY}:{SECRET}")]);
        curl.args(["--header", "x-amz-bucket-object-lock-enabled: true"]);
        // Of nothing; older versions of curl do not send it by themselves.
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        curl.args(["--header", &format!("x-amz-content-sha256: {digest}")]);
        curl.arg(format!("{}/{name}", self.url()));
        tools::run(curl).success();
    }

    /// How many uploads in parts were neither completed nor aborted, in all buckets.
    pub fn unfinished_uploads(&self) -> usize {
        let buckets = tree::files(&self.buckets());
        let parts =
            buckets.iter().filter(|file| file.to_string_lossy().contains("/.sgwtmp/multipart/"));
        parts.count()
    }

    /// The value of `s3` in a configuration, for a bucket or a prefix in it: `bucket/the/prefix`. `further` are more
    /// keys of `s3`.
    pub fn toml(&self, place: &str, further: &str) -> String {
        let url = self.url();
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let comma = if further.is_empty() { "" } else { ", " };
        format!(
            "{{ bucket = \"{bucket}\", prefix = \"{prefix}\", endpoint = \"{url}\"{comma}{further} }}"
        )
    }
}

fn command(kind: Kind, binary: &PathBuf, port: u16, folder: &TempDir) -> Command {
    // Its files are as private as those of a store in a folder.
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(binary);
    let port = port.to_string();
    if kind == Kind::S3sFs {
        command.args(["--host", "127.0.0.1", "--port", &port]);
        command.args(["--access-key", KEY, "--secret-key", SECRET]);
    } else {
        command.args(["--port", &format!("127.0.0.1:{port}")]);
        command.args(["--access", KEY, "--secret", SECRET, "--quiet", "posix"]);
    }
    if kind == Kind::WithVersions {
        command.arg("--versioning-dir").arg(folder.path().join("versions"));
    }
    command.arg(folder.path().join("data"));
    command
}

impl Setup {
    /// Keeps the blobs of the store `main` in a new bucket, or below a prefix in it: `bucket/the/prefix`. `further`
    /// are keys of `s3`. The keys to the bucket come from the environment.
    #[must_use]
    pub fn in_bucket(self, server: &S3Server, place: &str, further: &str) -> Self {
        server.bucket(place.split('/').next().unwrap());
        self.at_bucket(server, place, further)
    }

    /// The same in a bucket that others use too, or that does not exist.
    #[must_use]
    pub fn at_bucket(self, server: &S3Server, place: &str, further: &str) -> Self {
        let s3 = server.toml(place, further);
        self.store_at(&format!("s3 = {s3}"), &server.buckets().join(place)).with_keys_to_buckets()
    }

    /// Gives the gateway the keys of every server in its environment.
    #[must_use]
    pub fn with_keys_to_buckets(self) -> Self {
        self.environment("AWS_ACCESS_KEY_ID", KEY).environment("AWS_SECRET_ACCESS_KEY", SECRET)
    }
}

//! S3 servers for tests, each started once per program, and stores in new buckets of theirs.
//!
//! A server runs as a child of this process, on a free port, with its data in a temporary folder. It ends with the
//! process, because its standard input closes: see `start`.

#![allow(dead_code, unreachable_pub, reason = "no test file uses all of it")]

pub mod client;
pub mod forward;
pub mod proxy;

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use keepgate_store_s3::{Credentials, OpenError, S3Options, S3Store};
use tempfile::TempDir;

pub const KEY: &str = "AKTEST";
pub const SECRET: &str = "SKSKSKSK";

/// A server that runs until this process ends.
#[derive(Debug)]
pub struct Server {
    pub url: String,
    /// Where it keeps its buckets, as folders.
    pub data: PathBuf,
    /// For tests that stop it.
    pub process: u32,
    /// For those that start it again.
    command: Option<(PathBuf, Vec<String>)>,
}

/// Reports that something is not checked, where people and xtask see it.
pub fn skip(what: &str, how_to_get_it: &str) {
    let line = format!("skipped: {what} ({how_to_get_it})\n");
    // The test harness captures `eprintln!`, but not this.
    let _ = io::stderr().write_all(format!("    {line}").as_bytes());
    if let Some(file) = env::var_os("KEEPGATE_SKIP_FILE") {
        let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// A program that xtask installed, or one of the path.
pub fn program(name: &str) -> Option<PathBuf> {
    let tools = env::var_os("KEEPGATE_TOOLS").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = tools.into_iter().chain(env::split_paths(&path));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a program that ends when this process does, however it does: a shell waits for the end of its standard
/// input, whose other end this process holds, then stops it and removes its folder.
pub fn start(program: &Path, arguments: &[String], folder: &Path) -> u32 {
    let script = r#"exec 3<&0; "$@" </dev/null & pid=$!; echo $pid >"$FOLDER/pid"; read -r _ <&3
        kill "$pid"; wait "$pid"; rm -rf "$FOLDER" || rm -rf "$FOLDER""#;
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let child = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(program)
        .args(arguments)
        .env("FOLDER", folder)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    // Its standard input stays open.
    std::mem::forget(child);
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let said = std::fs::read_to_string(folder.join("pid")).unwrap_or_default();
        if let Ok(process) = said.trim().parse() {
            return process;
        }
        assert!(Instant::now() < until, "the shell did not start");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn wait_for(port: u16) {
    let until = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "the server did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts a versitygw of one's own, with more arguments; `None` if there is none.
pub fn new_versitygw(more: &[String]) -> Option<Server> {
    new_versitygw_of(more, &[])
}

fn new_versitygw_of(more: &[String], of_posix: &[String]) -> Option<Server> {
    let program = program("versitygw")?;
    let (port, folder) = (free_port(), TempDir::new().unwrap().keep());
    let data = folder.join("data");
    std::fs::create_dir(&data).unwrap();
    let mut arguments: Vec<String> =
        ["--port", &format!("127.0.0.1:{port}"), "--access", KEY, "--secret", SECRET, "--quiet"]
            .map(str::to_owned)
            .to_vec();
    arguments.extend(more.iter().cloned());
    arguments.push("posix".to_owned());
    arguments.extend(of_posix.iter().cloned());
    arguments.push(data.display().to_string());
    let process = start(&program, &arguments, &folder);
    wait_for(port);
    let url = format!("http://127.0.0.1:{port}");
    Some(Server { url, data, process, command: Some((program, arguments)) })
}

/// The versitygw of this process; `None` if it is not installed.
pub fn versitygw() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(|| new_versitygw(&[])).as_ref()
}

/// A versitygw whose buckets can keep versions; `None` if it is not installed.
pub fn versitygw_with_versions() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let start = || {
        program("versitygw")?;
        let versions = TempDir::new().unwrap().keep();
        new_versitygw_of(&[], &["--versioning-dir".to_owned(), versions.display().to_string()])
    };
    SERVER.get_or_init(start).as_ref()
}

/// The s3s-fs of this process, whose conditional writes race; `None` if it is not installed.
pub fn s3s_fs() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let start = || {
        let program = program("s3s-fs")?;
        let (port, folder) = (free_port(), TempDir::new().unwrap().keep());
        let data = folder.join("data");
        std::fs::create_dir(&data).unwrap();
        let mut arguments: Vec<String> = [
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--access-key",
            KEY,
            "--secret-key",
            SECRET,
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push(data.display().to_string());
        let process = start(&program, &arguments, &folder);
        wait_for(port);
        Some(Server { url: format!("http://127.0.0.1:{port}"), data, process, command: None })
    };
    SERVER.get_or_init(start).as_ref()
}

/// A server that was started by hand and has a bucket `conformance`, by its URL in `KEEPGATE_TEST_S3`.
pub fn other() -> Option<Server> {
    let url = env::var("KEEPGATE_TEST_S3").ok()?;
    Some(Server { url, data: PathBuf::new(), process: 0, command: None })
}

impl Server {
    /// Ends it, as a crash does.
    pub fn stop(&mut self) {
        let killed = Command::new("kill").args(["-KILL", &self.process.to_string()]).status();
        assert!(killed.unwrap().success());
        let port = self.port();
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_ok() {
            assert!(Instant::now() < until, "the server goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it again on the same port, with the same data.
    pub fn start_again(&mut self) {
        let (program, arguments) = self.command.clone().unwrap();
        let folder = TempDir::new().unwrap().keep();
        self.process = start(&program, &arguments, &folder);
        wait_for(self.port());
    }

    fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Options for a new bucket.
    pub fn bucket(&self) -> S3Options {
        let name = self.new_name();
        // For servers that keep files, a bucket is a folder.
        std::fs::create_dir(self.data.join(&name)).unwrap();
        self.options(&name)
    }

    /// Options for a new bucket that keeps versions, and can lock them.
    pub async fn bucket_with_versions(&self, locks: bool) -> S3Options {
        let (client, name) = (self.client(), self.new_name());
        let create = client.create_bucket().bucket(&name).object_lock_enabled_for_bucket(locks);
        create.send().await.unwrap();
        let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let versioning = client.put_bucket_versioning().bucket(&name);
        versioning.versioning_configuration(on).send().await.unwrap();
        self.options(&name)
    }

    /// A name that no bucket has.
    pub fn new_name(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        format!("bucket{}", NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    /// The SDK's own client, to prepare buckets and to look behind a store.
    pub fn client(&self) -> aws_sdk_s3::Client {
        let keys = aws_sdk_s3::config::Credentials::new(KEY, SECRET, None, None, "test");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
            .region(aws_sdk_s3::config::Region::new("us-east-1"))
            .credentials_provider(keys)
            .endpoint_url(&self.url)
            .http_client(client::Plain::new())
            .force_path_style(true)
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// Options for a bucket.
    pub fn options(&self, bucket: &str) -> S3Options {
        S3Options {
            endpoint: Some(self.url.clone()),
            path_style: true,
            credentials: Credentials::Keys {
                id: env::var("KEEPGATE_TEST_S3_KEY").unwrap_or_else(|_| KEY.to_owned()),
                secret: env::var("KEEPGATE_TEST_S3_SECRET").unwrap_or_else(|_| SECRET.to_owned()),
                token: None,
            },
            ..S3Options::new(bucket)
        }
    }
}

/// Opens a store.
pub async fn open(options: S3Options) -> S3Store {
    let store = S3Store::new(options).unwrap_or_else(|error| panic!("{error}"));
    store.open().await.unwrap_or_else(|error| panic!("{error}"));
    store
}

/// Why a store cannot be opened.
pub async fn refused(options: S3Options) -> OpenError {
    match S3Store::new(options) {
        Ok(store) => store.open().await.unwrap_err(),
        Err(error) => error,
    }
}

/// Shows the store's log if the test fails.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::new("keepgate_store_s3=debug");
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

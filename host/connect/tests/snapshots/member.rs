//! A real etcd member on loopback, with its data in a temporary folder. It is killed by its process id.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use keepgate_connect::etcd::{Cluster, ClusterOptions};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than anything takes that works at all.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Options for a cluster, with limits that hold on a machine that is busy with other tests.
pub(crate) fn options(endpoints: &[&str]) -> ClusterOptions {
    ClusterOptions {
        name: "main".to_owned(),
        endpoints: endpoints.iter().map(|&url| url.to_owned()).collect(),
        tls: None,
        user: None,
        connect_timeout: Duration::from_secs(5),
        stall_timeout: LONG,
    }
}

pub(crate) fn cluster(endpoints: &[&str]) -> Cluster {
    Cluster::new(options(endpoints)).unwrap()
}

/// The programs to test with: Debian's etcd, and the newest one if xtask has installed it. If there is
/// none, reports that `check` is skipped.
pub(crate) fn programs(check: &str) -> Vec<PathBuf> {
    let built = env::var_os("KEEPGATE_TOOLS").map(|folder| PathBuf::from(folder).join("etcd-new"));
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = env::split_paths(&path).map(|folder| folder.join("etcd"));
    let installed = installed.into_iter().find(|file| file.is_file());
    let found: Vec<_> =
        installed.into_iter().chain(built).filter(|program| program.is_file()).collect();
    if found.is_empty() {
        skip(check, "etcd is not installed; on Debian, install etcd-server");
    }
    found
}

/// Reports that something is not checked, where people and xtask see it.
fn skip(what: &str, how_to_get_it: &str) {
    let line = format!("skipped: {what} ({how_to_get_it})\n");
    // The test harness captures `eprintln!`, but not this.
    let _ = io::stderr().write_all(format!("    {line}").as_bytes());
    if let Some(file) = env::var_os("KEEPGATE_SKIP_FILE") {
        let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A member, running or not.
pub(crate) struct Member {
    pub(crate) url: String,
    process: Child,
    folder: TempDir,
}

impl Member {
    pub(crate) fn start(program: &PathBuf) -> Self {
        Self::start_with(program, "http", &[])
    }

    /// A member that serves clients over `scheme`.
    pub(crate) fn start_with(program: &PathBuf, scheme: &str, further: &[&str]) -> Self {
        // Another process may take the ports before etcd does.
        for _ in 0..10 {
            if let Some(member) = Self::try_start(program, scheme, further) {
                return member;
            }
        }
        panic!("{} does not start", program.display());
    }

    fn try_start(program: &PathBuf, scheme: &str, further: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("{scheme}://127.0.0.1:{}", free_port());
        let peers = format!("http://127.0.0.1:{}", free_port());
        let mut process = Command::new(program)
            .args(["--name=default", "--logger=zap", "--log-outputs=stderr"])
            .arg(format!("--data-dir={}", folder.path().join("data").display()))
            .arg(format!("--listen-client-urls={url}"))
            .arg(format!("--advertise-client-urls={url}"))
            .arg(format!("--listen-peer-urls={peers}"))
            .arg(format!("--initial-advertise-peer-urls={peers}"))
            .arg(format!("--initial-cluster=default={peers}"))
            .args(further)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut said = String::new();
        while log.read_line(&mut said).unwrap() > 0 {
            if said.contains("serving client traffic") {
                // It must never wait for somebody to read its output.
                std::thread::spawn(move || io::copy(&mut log, &mut io::sink()));
                return Some(Self { url, process, folder });
            }
        }
        process.wait().unwrap();
        assert!(said.contains("address already in use"), "{said}");
        None
    }

    /// The version according to its program.
    pub(crate) fn version(program: &PathBuf) -> String {
        let output = Command::new(program).arg("--version").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "));
        version.unwrap().to_owned()
    }

    /// A client of it.
    pub(crate) async fn client(&self, login: Option<(&str, &str)>) -> Client {
        let options = login.map(|(user, password)| ConnectOptions::new().with_user(user, password));
        Client::connect([&self.url], options).await.unwrap()
    }

    /// Stores values of 1 MiB, in which no two pages are the same.
    pub(crate) async fn fill(&self, values: usize) {
        let mut client = self.client(None).await;
        let mut random = std::fs::File::open("/dev/urandom").unwrap();
        let mut value = vec![0; 1024 * 1024];
        for number in 0..values {
            random.read_exact(&mut value).unwrap();
            client.put(format!("large/{number}"), value.clone(), None).await.unwrap();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.process);
        kill_process(id, signal).unwrap();
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // This also kills a stopped process.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

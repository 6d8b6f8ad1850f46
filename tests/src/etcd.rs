//! Real etcd members to back up and to restore to: Debian's etcd and, if xtask could build it, the
//! newest one. Each has its own folder and ports, and is killed when it is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Endpoint;
use crate::data::Blob;
use crate::program::{LONG, Program};
use crate::tools;

pub use certificates::Certificates;
pub use gate::Gate;

mod certificates;
mod gate;
#[cfg(test)]
mod tests;

/// Prefix of the keys that [`Member::fill`] puts.
pub const PREFIX: &str = "/registry/key-";

/// The programs of one release of etcd.
#[derive(Clone, Debug)]
pub struct Etcd {
    server: PathBuf,
    control: PathBuf,
    /// The program with `snapshot restore` and `snapshot status`: etcdctl up to 3.5, then etcdutl.
    files: PathBuf,
    /// Whether the server can be told not to sync; the tests' data need not survive a power cut.
    without_fsync: bool,
}

impl Etcd {
    /// Debian's etcd. If it is not installed, reports that `check` is skipped and returns none.
    pub fn debian(check: &str) -> Option<Self> {
        let control = tools::find_for("etcdctl", check)?;
        Some(Self::new(tools::find_for("etcd", check)?, control.clone(), control))
    }

    /// The newest etcd that xtask installs. If it could not, reports that and returns none.
    pub fn newest(check: &str) -> Option<Self> {
        let server = tools::find_for("etcd-new", check)?;
        let control = tools::find_for("etcdctl-new", check)?;
        Some(Self::new(server, control, tools::find_for("etcdutl-new", check)?))
    }

    /// All releases that are installed.
    pub fn each(check: &str) -> Vec<Self> {
        let newest = Self::newest(&format!("{check}, with the newest etcd"));
        Self::debian(check).into_iter().chain(newest).collect()
    }

    fn new(server: PathBuf, control: PathBuf, files: PathBuf) -> Self {
        let mut command = Command::new(&server);
        command.arg("--help");
        let help = tools::run(command);
        let without_fsync = (help.stdout + &help.stderr).contains("--unsafe-no-fsync");
        Self { server, control, files, without_fsync }
    }

    /// A new member of a cluster of its own, which everybody may use.
    #[track_caller]
    pub fn start(&self) -> Member {
        Member::start(self, None, None)
    }

    /// The same with TLS, which requires a client certificate.
    #[track_caller]
    pub fn start_with_tls(&self) -> Member {
        Member::start(self, Some(Certificates::new()), None)
    }

    /// The same with these certificates.
    #[track_caller]
    pub fn start_with_certificates(&self, certificates: Certificates) -> Member {
        Member::start(self, Some(certificates), None)
    }

    /// A new member whose data is a snapshot, restored by etcd's own program.
    #[track_caller]
    pub fn restore(&self, snapshot: &Path) -> Member {
        Member::start(self, None, Some(snapshot))
    }

    /// The output of `snapshot status` for a file.
    #[track_caller]
    pub fn snapshot_status(&self, snapshot: &Path) -> Value {
        let mut command = self.command(&self.files);
        command.args(["snapshot", "status", "--write-out", "json"]).arg(snapshot);
        serde_json::from_str(&tools::run(command).success()).unwrap()
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // Required before 3.4.
        command.env("ETCDCTL_API", "3");
        command
    }
}

/// A running etcd, the only member of its cluster.
#[derive(Debug)]
pub struct Member {
    /// The process.
    pub program: Program,
    /// Certificates for TLS, if it uses TLS.
    pub certificates: Option<Certificates>,
    etcd: Etcd,
    port: u16,
    folder: TempDir,
    login: Option<String>,
}

impl Member {
    #[track_caller]
    fn start(etcd: &Etcd, certificates: Option<Certificates>, snapshot: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        if let Some(snapshot) = snapshot {
            let mut command = etcd.command(&etcd.files);
            command.args(["snapshot", "restore"]).arg(snapshot).arg("--data-dir").arg(&data);
            tools::run(command).success();
        }
        let port = free_port();
        let program = Program::start(server(etcd, &data, port, certificates.as_ref()));
        let (etcd, login) = (etcd.clone(), None);
        let member = Self { program, certificates, etcd, port, folder, login };
        member.wait_until_healthy();
        member
    }

    /// Starts it again after it was killed, with the same data and port.
    #[track_caller]
    pub fn start_again(&mut self) {
        let data = self.folder.path().join("data");
        let certificates = self.certificates.as_ref();
        self.program = Program::start(server(&self.etcd, &data, self.port, certificates));
        self.wait_until_healthy();
    }

    #[track_caller]
    fn wait_until_healthy(&self) {
        self.program.stderr.wait_for(0, &["serving client traffic"]);
        let end = Instant::now() + LONG;
        // It listens now, but no log line says that it responds.
        while !self.is_healthy() {
            assert!(Instant::now() < end, "{}", self.program.stderr.text());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_healthy(&self) -> bool {
        if self.certificates.is_some() {
            return tools::run(self.control(&["endpoint", "health"])).status.success();
        }
        // etcdctl would need a password here, if the member requires one.
        let endpoint = Endpoint::tcp(([127, 0, 0, 1], self.port).into());
        let asked = endpoint.try_connect().and_then(|mut it| it.send("GET", "/health", &[], b""));
        asked.is_ok_and(|reply| reply.text().contains("\"health\":\"true\""))
    }

    /// Its URL for clients.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Its port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// An `etcdctl` command for this member.
    pub fn control(&self, arguments: &[&str]) -> Command {
        let mut command = self.etcd.command(&self.etcd.control);
        command.args(["--endpoints", &self.url()]);
        if let Some(certificates) = &self.certificates {
            command.arg("--cacert").arg(certificates.path("ca.pem"));
            command.arg("--cert").arg(certificates.path("client.pem"));
            command.arg("--key").arg(certificates.path("client.key"));
        }
        if let Some(login) = &self.login {
            command.args(["--user", login]);
        }
        command.args(arguments);
        command
    }

    /// From now on requires the user `root` with this password.
    #[track_caller]
    pub fn demand_password(&mut self, password: &str) {
        let login = format!("root:{password}");
        tools::run(self.control(&["user", "add", &login])).success();
        tools::run(self.control(&["user", "grant-role", "root", "root"])).success();
        tools::run(self.control(&["auth", "enable"])).success();
        self.knows_password(password);
    }

    /// Sets the password of `root` for a member that already requires one.
    pub fn knows_password(&mut self, password: &str) {
        self.login = Some(format!("root:{password}"));
    }

    /// Puts `keys` keys, starting with number `first`, each with `size` random bytes. Not for members
    /// with TLS or a password.
    #[track_caller]
    pub fn fill(&self, first: u64, keys: u64, size: u64) {
        self.fill_with(first, keys, size, |number| Blob::new(number, size).bytes().to_vec());
    }

    /// The same with the given values, of about `size` bytes.
    #[track_caller]
    pub fn fill_with(&self, first: u64, keys: u64, size: u64, value: impl Fn(u64) -> Vec<u8>) {
        let mut connection = Endpoint::tcp(([127, 0, 0, 1], self.port).into()).connect();
        // A request may have 1.5 MB and 128 operations.
        let together = (1_000_000 / size.max(1)).clamp(1, 100);
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let mut next = first;
        while next < first + keys {
            let last = (next + together).min(first + keys);
            let puts: Vec<_> = (next..last)
                .map(|number| {
                    let key = encode(format!("{PREFIX}{number:08}").as_bytes());
                    let value = encode(&value(number));
                    json!({ "requestPut": { "key": key, "value": value } })
                })
                .collect();
            let body = json!({ "success": puts }).to_string();
            let sent = connection.send("POST", "/v3/kv/txn", &[], body.as_bytes()).unwrap();
            assert!(sent.status == 200, "{} {}", sent.status, sent.text());
            next = last;
        }
    }

    /// Puts one key, whatever credentials the member requires.
    #[track_caller]
    pub fn put(&self, key: &str, value: &str) {
        tools::run(self.control(&["put", key, value])).success();
    }

    /// All keys with value, version and revisions, by their names in base64.
    #[track_caller]
    pub fn dump(&self) -> BTreeMap<String, Value> {
        let said = tools::run(self.control(&["get", "", "--prefix", "--write-out", "json"]));
        let answer: Value = serde_json::from_str(&said.success()).unwrap();
        let keys = answer["kvs"].as_array().into_iter().flatten();
        keys.map(|key| (key["key"].as_str().unwrap().to_owned(), key.clone())).collect()
    }

    /// Sends a signal. With `STOP`, returns once the member has stopped, because it responds until
    /// then.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.program.signal(signal);
        let end = Instant::now() + LONG;
        while signal == Signal::STOP && !self.has_stopped() {
            assert!(Instant::now() < end, "the member does not stop");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Checks all of its threads, because each is stopped separately.
    fn has_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.program.id())).unwrap();
        let mut states = threads.map(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
            // The state follows the name, which is in parentheses and may contain anything.
            stat.rsplit(')').next().unwrap_or_default().trim_start().chars().next()
        });
        states.all(|state| state == Some('T'))
    }
}

fn server(etcd: &Etcd, data: &Path, port: u16, certificates: Option<&Certificates>) -> Command {
    let mut command = etcd.command(&etcd.server);
    let scheme = if certificates.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://127.0.0.1:{port}");
    // It has no peers, so any free port will do.
    let peers = "http://127.0.0.1:0";
    command.arg("--data-dir").arg(data).args(["--logger", "zap", "--log-outputs", "stderr"]);
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]);
    command.args(["--initial-cluster", &format!("default={peers}")]);
    // As the only member, it need not wait long before it elects itself.
    command.args(["--heartbeat-interval", "20", "--election-timeout", "200"]);
    command.args(["--snapshot-count", "10000", "--quota-backend-bytes", "2147483648"]);
    if etcd.without_fsync {
        command.arg("--unsafe-no-fsync");
    }
    if let Some(certificates) = certificates {
        command.arg("--client-cert-auth");
        command.arg("--trusted-ca-file").arg(certificates.path("ca.pem"));
        command.arg("--cert-file").arg(certificates.path("server.pem"));
        command.arg("--key-file").arg(certificates.path("server.key"));
    }
    command
}

/// A free port on loopback that the system does not assign by itself. Port 0 will not do, because a
/// member's JSON gateway dials the address from its configuration.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Concurrent runs of the tests start at different ports.
    let base = 20_000 + u16::try_from(std::process::id() % 60 * 200).unwrap();
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Panics if two clusters do not have the same keys, and says which differ.
#[track_caller]
pub fn assert_same_keys(one: &BTreeMap<String, Value>, other: &BTreeMap<String, Value>) {
    assert!(!one.is_empty(), "nothing to compare");
    let differences = differences(one, other);
    assert!(differences.is_empty(), "{} differ: {:?}", differences.len(), &differences[..1]);
}

/// The keys that differ between two clusters, or that only one of them has.
fn differences(one: &BTreeMap<String, Value>, other: &BTreeMap<String, Value>) -> Vec<String> {
    let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differ = keys.into_iter().filter(|key| one.get(*key) != other.get(*key));
    differ.map(|key| format!("{key}: {:?} and {:?}", one.get(key), other.get(key))).collect()
}

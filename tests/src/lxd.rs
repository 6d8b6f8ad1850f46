//! A real LXD with its own folder, socket and port, one storage pool, and an image of a megabyte, because tests must not
//! need the internet. Its instances are never started by the tests themselves. It is killed when it is dropped, and what
//! it has mounted is unmounted.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::program::Program;
use crate::tools;

/// The storage pool, the only one.
const PRESEED: &str = "config: {}\nstorage_pools:\n- {name: default, driver: dir}\nnetworks: []\n\
                       profiles:\n- {name: default, devices: {root: {path: /, pool: default, type: disk}}}\n";
const METADATA: &str = "architecture: x86_64\ncreation_date: 1700000000\n\
                        properties: {description: busybox, os: busybox, release: \"1\"}\n";

/// A running LXD.
#[derive(Debug)]
pub struct LxdServer {
    program: Option<Program>,
    lxd: PathBuf,
    lxc: PathBuf,
    port: u16,
    folder: TempDir,
}

impl LxdServer {
    /// Starts one. If it is not installed or cannot run here, reports that `check` is skipped.
    #[track_caller]
    pub fn find(check: &str) -> Option<Self> {
        let lxd = tools::find_for("lxd", check)?;
        let (lxc, busybox) = (tools::find_for("lxc", check)?, tools::find_for("busybox", check)?);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("lxd")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { program: None, lxd, lxc, port, folder };
        if let Err(why) = server.try_start() {
            tools::skip(check, &format!("LXD does not run here: {}", why.trim()));
            return None;
        }
        let mut init = server.command(&server.lxd);
        init.args(["init", "--preseed"]);
        tools::run_with(init, PRESEED.as_bytes(), crate::program::LONG).success();
        server.run(&["config", "set", "core.https_address", &format!("127.0.0.1:{port}")]);
        server.import_image(&busybox);
        Some(server)
    }

    fn try_start(&mut self) -> Result<(), String> {
        let mut command = self.command(&self.lxd);
        command.args(["--group", "root", "--logfile"]).arg(self.folder.path().join("lxd.log"));
        self.program = Some(Program::start(command));
        let mut wait = self.command(&self.lxd);
        wait.args(["waitready", "--timeout=30"]);
        let waited = tools::run(wait);
        if waited.status.success() { Ok(()) } else { Err(waited.stderr) }
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        self.program = None;
    }

    /// Starts it again, with the same instances.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.try_start().unwrap();
    }

    /// A program that works with this LXD.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("LXD_DIR", self.path()).env("HOME", self.folder.path());
        command.env("LXD_CONF", self.folder.path().join("client"));
        command
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("lxd")
    }

    /// The folder with `lxc`.
    pub fn programs(&self) -> &Path {
        self.lxc.parent().unwrap()
    }

    /// Makes a pool of the driver btrfs in a file. If that cannot be had here, reports that `check` is skipped.
    #[track_caller]
    pub fn make_btrfs_pool(&self, name: &str, check: &str) -> bool {
        if tools::find_for("mkfs.btrfs", check).is_none() {
            return false;
        }
        let mut command = self.command(&self.lxc);
        command.args(["storage", "create", name, "btrfs", "size=400MB"]);
        let made = tools::run(command);
        if !made.status.success() {
            tools::skip(check, &format!("LXD makes no pool of btrfs here: {}", made.stderr.trim()));
        }
        made.status.success()
    }

    /// `lxc` with these arguments, and its output.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let mut command = self.command(&self.lxc);
        command.args(arguments);
        tools::run(command).success()
    }

    /// The metadata of a GET.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.run(&["query", path])).unwrap()
    }

    fn import_image(&self, busybox: &Path) {
        let image = self.folder.path().join("image");
        let root = image.join("rootfs");
        for folder in ["bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "root", "run"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        symlink("busybox", root.join("bin/sh")).unwrap();
        symlink("../bin/busybox", root.join("sbin/init")).unwrap();
        fs::write(root.join("etc/inittab"), "::respawn:/bin/busybox sleep 3600\n").unwrap();
        fs::write(image.join("metadata.yaml"), METADATA).unwrap();
        let archive = self.folder.path().join("image.tar.gz");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&image).arg("-czf").arg(&archive).args(["metadata.yaml", "rootfs"]);
        tools::run(tar).success();
        self.run(&["image", "import", archive.to_str().unwrap(), "--alias", "busybox"]);
    }

    /// Makes an instance with a file of its own, and does not start it.
    #[track_caller]
    pub fn instance(&self, name: &str, bytes: &[u8]) {
        self.run(&["init", "busybox", name]);
        fs::write(self.file(name), bytes).unwrap();
    }

    /// The file of an instance.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join("storage-pools/default/containers").join(name).join("rootfs/root/data")
    }

    /// The names of all instances.
    pub fn instances(&self) -> Vec<String> {
        let listed = self.run(&["list", "--format", "csv", "--columns", "n"]);
        listed.lines().map(str::to_owned).collect()
    }

    /// How many backups it has of an instance. LXD fails to tell while it removes one, which then counts.
    pub fn backups(&self, instance: &str) -> usize {
        let mut query = self.command(&self.lxc);
        query.args(["query", &format!("/1.0/instances/{instance}/backups")]);
        let said = tools::run(query);
        if !said.status.success() {
            return 1;
        }
        serde_json::from_str::<Value>(&said.stdout).unwrap().as_array().unwrap().len()
    }

    /// The table of an upstream, over its socket.
    pub fn by_socket(&self) -> String {
        let socket = self.path().join("unix.socket");
        format!(
            "[upstream.lxd]\nurl = \"unix:{}\"\nhost = \"lxd\"\ncheck = \"/1.0\"",
            socket.display()
        )
    }

    /// The same over TLS: its certificate is pinned, and it trusts the client certificate in this folder, which is made
    /// here.
    #[track_caller]
    pub fn by_tls(&self, folder: &Path) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let (file, key_file) = (folder.join("gateway.crt"), folder.join("gateway.key"));
        fs::write(&file, certificate.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        self.run(&["config", "trust", "add", file.to_str().unwrap(), "--name", "gateway"]);
        format!(
            "[upstream.lxd]\nurl = \"https://127.0.0.1:{}\"\ncheck = \"/1.0\"\n\
             tls = {{ fingerprint = \"{}\", certificate = \"{}\", key = \"{}\" }}",
            self.port,
            self.fingerprint(),
            file.display(),
            key_file.display()
        )
    }

    fn fingerprint(&self) -> String {
        let pem = fs::read_to_string(self.path().join("server.crt")).unwrap();
        let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
        hex::encode(Sha256::digest(der))
    }
}

impl Drop for LxdServer {
    fn drop(&mut self) {
        if self.program.is_some() {
            // Those that a test has started; they would outlive it.
            let mut stop = self.command(&self.lxc);
            stop.args(["stop", "--all", "--force"]);
            let _ = stop.output();
        }
        self.program = None;
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let below = |line: &&str| line.starts_with(self.folder.path().to_str().unwrap_or("?"));
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let places: Vec<&str> = places.filter(below).collect();
        for place in places.into_iter().rev() {
            let _ = Command::new("umount").args(["--lazy", place]).output();
        }
    }
}

//! A real MariaDB with a folder, a socket and a port of its own. It is killed when it is dropped.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use crate::program::{LONG, Program};
use crate::tools::{self, Finished};

/// The user whom [`MariaDb::fill`] adds, and whose password it sets.
pub const USER: (&str, &str) = ("backup", "a password of a test");

/// A running MariaDB.
#[derive(Debug)]
pub struct MariaDb {
    #[expect(dead_code, reason = "it ends with it")]
    program: Program,
    client: PathBuf,
    dump: PathBuf,
    port: u16,
    folder: TempDir,
}

impl MariaDb {
    /// Starts one. If it is not installed or cannot run here, reports that `check` is skipped.
    #[track_caller]
    pub fn find(check: &str) -> Option<Self> {
        let server = tools::find_for("mariadbd", check)?;
        let installer = tools::find_for("mariadb-install-db", check)?;
        let client = tools::find_for("mariadb", check)?;
        let dump = tools::find_for("mariadb-dump", check)?;
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let as_user = own(folder.path(), &data);

        let mut install = Command::new(installer);
        install.arg("--no-defaults").arg(format!("--datadir={}", data.display())).args(&as_user);
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        let installed = tools::run(install);
        if !installed.status.success() {
            let why = installed.stdout + &installed.stderr;
            tools::skip(check, &format!("MariaDB cannot be set up here: {}", why.trim()));
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(server);
        command.arg("--no-defaults").arg(format!("--datadir={}", data.display())).args(&as_user);
        command.args(["--bind-address=127.0.0.1", &format!("--port={port}")]);
        command.arg(format!("--socket={}", folder.path().join("socket").display()));
        command.arg(format!("--pid-file={}", folder.path().join("pid").display()));
        let program = Program::start(command);
        if let Err(said) = program.stderr.find(0, &[&["ready for connections"]]) {
            tools::skip(check, &format!("MariaDB does not run here: {said}"));
            return None;
        }
        Some(Self { program, client, dump, port, folder })
    }

    /// Its port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements as root.
    #[track_caller]
    pub fn run(&self, statements: &str) -> String {
        let mut command = Command::new(&self.client);
        let socket = self.folder.path().join("socket");
        command.arg("--no-defaults").arg(format!("--socket={}", socket.display()));
        command.args(["--user=root", "--batch", "--skip-column-names"]);
        tools::run_with(command, statements.as_bytes(), LONG).success()
    }

    /// Makes a database with a table of rows, and a user who may read it.
    #[track_caller]
    pub fn fill(&self, database: &str, rows: u32) {
        let (user, password) = USER;
        self.run(&format!(
            "CREATE DATABASE {database};\n\
             USE {database};\n\
             CREATE TABLE orders (id INT PRIMARY KEY, what VARCHAR(80));\n\
             INSERT INTO orders SELECT seq, SHA2(seq, 256) FROM seq_1_to_{rows};\n\
             CREATE USER IF NOT EXISTS '{user}'@'127.0.0.1' IDENTIFIED BY '{password}';\n\
             GRANT ALL ON {database}.* TO '{user}'@'127.0.0.1';\n"
        ));
    }

    /// Dumps a database over TCP. What it says is the failure that clients report.
    ///
    /// # Errors
    ///
    /// What the program has said, if it failed.
    pub fn dump(&self, database: &str, password: &str) -> Result<Vec<u8>, String> {
        let mut command = Command::new(&self.dump);
        command.args(["--no-defaults", "--host=127.0.0.1", &format!("--port={}", self.port)]);
        command.args([&format!("--user={}", USER.0), &format!("--password={password}")]);
        command.args(["--single-transaction", "--databases", database]);
        let Finished { status, stdout, stderr, .. } = tools::run(command);
        if status.success() { Ok(stdout.into_bytes()) } else { Err(stderr.trim().to_owned()) }
    }

    /// Runs what was dumped.
    #[track_caller]
    pub fn restore(&self, dump: &[u8]) {
        self.run(std::str::from_utf8(dump).unwrap());
    }
}

/// Compresses a dump into a file, and returns its size.
#[track_caller]
pub fn write_gzip(dump: &[u8], file: &Path) -> u64 {
    let mut encoder = GzEncoder::new(File::create(file).unwrap(), Compression::default());
    encoder.write_all(dump).unwrap();
    encoder.finish().unwrap();
    file.metadata().unwrap().len()
}

/// Lets the user `mysql` have the folders, if this is root, as whom MariaDB does not run.
fn own(folder: &Path, data: &Path) -> Vec<String> {
    if folder.metadata().unwrap().uid() != 0 {
        return Vec::new();
    }
    for path in [folder, data] {
        fs::set_permissions(path, Permissions::from_mode(0o711)).unwrap();
        owned_by_mysql(path).unwrap();
    }
    vec!["--user=mysql".to_owned()]
}

fn owned_by_mysql(path: &Path) -> io::Result<()> {
    let users = fs::read_to_string("/etc/passwd")?;
    let found = users.lines().find_map(|line| line.strip_prefix("mysql:")?.split(':').nth(1));
    let user = found.and_then(|number| number.parse().ok());
    let user = user.ok_or_else(|| io::Error::other("there is no user mysql"))?;
    std::os::unix::fs::chown(path, Some(user), None)
}

//! `keepgate rest-server` can replace restic's own: the same flags, the line that clients look for, the
//! same folder.

use std::path::Path;
use std::process::Command;

use keepgate_tests::client::Endpoint;
use keepgate_tests::gateway::text;
use keepgate_tests::program::{LONG, Program, keepgate};
use keepgate_tests::restic::Restic;
use keepgate_tests::{tools, tree};
use rustix::process::Signal;

/// A rest-server, ours or restic's, and its port.
pub(crate) struct RestServer {
    program: Program,
    port: u16,
}

impl RestServer {
    fn start(command: Command) -> Self {
        let program = Program::start(command);
        let (_, line) = program.stderr.wait_for(0, &["start server on "]);
        let (_, address) = line.split_once("start server on ").unwrap();
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        Self { program, port }
    }

    pub(crate) fn keepgate(path: &Path, flags: &[&str]) -> Self {
        let mut command = keepgate(&["rest-server", "--listen", "127.0.0.1:0", "--path"]);
        command.arg(path).args(flags);
        let server = Self::start(command);
        // rest-server's own format, at the start of a line.
        let said = server.program.stderr.text();
        assert!(said.lines().any(|line| line.starts_with("start server on 127.0.0.1:")), "{said}");
        server
    }

    /// restic's own, without authentication. If it is missing, `check` is skipped; none then.
    pub(crate) fn original(path: &Path, check: &str) -> Option<Self> {
        let mut command = Command::new(tools::find_for("rest-server", check)?);
        command.args(["--no-auth", "--listen", "127.0.0.1:0", "--path"]).arg(path);
        Some(Self::start(command))
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::tcp(([127, 0, 0, 1], self.port).into())
    }

    fn url(&self, login: &str, path: &str) -> String {
        format!("rest:http://{login}127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// Waits for a line that contains this.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        self.program.stderr.wait_for(0, &[text]);
    }

    /// Its standard error so far.
    pub(crate) fn said(&self) -> String {
        self.program.stderr.text()
    }

    /// Waits until a condition is true, for what no line announces.
    #[track_caller]
    pub(crate) fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let end = std::time::Instant::now() + LONG;
        while !condition() {
            assert!(std::time::Instant::now() < end, "did not happen: {what}\n{}", self.said());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Tells it to exit, and returns its standard error.
    pub(crate) fn stop(mut self) -> String {
        self.program.signal(Signal::TERM);
        assert!(self.program.wait(LONG).success());
        self.said()
    }
}

fn back_up(restic: &Restic) {
    let folder = tempfile::tempdir().unwrap();
    tree::make(&folder.path().join("source"));
    restic.run(&["init"]);
    restic.run_in(folder.path(), &["backup", "source"]);
    restic.run(&["check", "--read-data"]);
}

#[test]
fn without_authentication_either_program_can_serve_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let server = RestServer::keepgate(folder.path(), &["--no-auth"]);
    let said = server.program.stderr.text();
    assert!(said.contains("Authentication disabled"), "{said}");
    let Some(restic) = Restic::find("keepgate rest-server", server.url("", "/")) else { return };
    back_up(&restic);
    server.stop();

    // restic's own server takes over the folder, and hands it back.
    let check = "a folder that keepgate and restic's rest-server take turns at";
    let Some(original) = RestServer::original(folder.path(), check) else { return };
    let restic = restic.at(original.url("", "/"));
    let more = tempfile::tempdir().unwrap();
    tree::make(&more.path().join("more"));
    restic.run(&["check", "--read-data"]);
    restic.run_in(more.path(), &["backup", "more"]);
    drop(original);
    let server = RestServer::keepgate(folder.path(), &["--no-auth"]);
    let restic = restic.at(server.url("", "/"));
    assert_eq!(restic.snapshots(), 2);
    restic.run(&["check", "--read-data"]);
    server.stop();
}

#[test]
fn private_repositories_with_users() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("people");
    let add = keepgate(&["user", "--file", text(&users), "add", "alice"]);
    tools::run_with(add, b"secret\n", LONG).success();
    let flags = ["--htpasswd-file", text(&users), "--private-repos"];
    let server = RestServer::keepgate(&folder.path().join("data"), &flags);
    let client = server.endpoint();
    assert_eq!(client.status("GET", "/alice/config"), 401);
    let alice = client.credentials("alice", "secret");
    assert_eq!(alice.status("GET", "/alice/config"), 404);
    assert_eq!(alice.status("GET", "/bob/config"), 401);
    let url = server.url("alice:secret@", "/alice/");
    let Some(restic) = Restic::find("keepgate rest-server --private-repos", url) else { return };
    back_up(&restic);
    server.stop();
}

#[test]
fn append_only() {
    let folder = tempfile::tempdir().unwrap();
    let server = RestServer::keepgate(folder.path(), &["--no-auth", "--append-only"]);
    let url = server.url("", "/r/");
    let Some(restic) = Restic::find("keepgate rest-server --append-only", url) else { return };
    back_up(&restic);
    let client = server.endpoint();
    let snapshots = client.get("/r/snapshots/").json();
    let snapshot = format!("/r/snapshots/{}", snapshots[0].as_str().unwrap());
    assert_eq!(client.status("DELETE", &snapshot), 403);
    assert_eq!(restic.snapshots(), 1);
    server.stop();
}

#[test]
fn a_unix_socket_is_removed_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listen = format!("unix:{}", text(&socket));
    let arguments =
        ["rest-server", "--no-auth", "--listen", &listen, "--path", text(folder.path())];
    let mut program = Program::keepgate(&arguments);
    let (_, line) = program.stderr.wait_for(0, &["start server on "]);
    assert!(line.ends_with(text(&socket)), "{line}");
    assert_eq!(Endpoint::unix(&socket).status("GET", "/config"), 404);
    program.signal(Signal::TERM);
    assert!(program.wait(LONG).success());
    assert!(!socket.exists());
}

#[test]
fn it_does_not_start_without_users() {
    let folder = tempfile::tempdir().unwrap();
    let path = text(folder.path());
    let arguments = ["rest-server", "--listen", "127.0.0.1:0", "--path", path];
    let said = tools::run(keepgate(&arguments)).fails_with(1);
    let file = folder.path().join(".htpasswd");
    assert!(said.contains(text(&file)) && said.contains("--no-auth"), "{said}");

    let missing = folder.path().join("nobody");
    let arguments = [&arguments[..], &["--htpasswd-file", text(&missing)]].concat();
    let said = tools::run(keepgate(&arguments)).fails_with(1);
    assert!(said.contains(text(&missing)) && said.contains("--no-auth"), "{said}");

    let said = tools::run(keepgate(&["rest-server", "--no-such-flag"])).fails_with(1);
    assert!(said.contains("--no-such-flag"), "{said}");
}

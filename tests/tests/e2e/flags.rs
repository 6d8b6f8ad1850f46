//! `keepgate rest-server` accepts every flag of restic's rest-server, and prints and does the same.
//! What is visible in single requests is tested by the conformance suite.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use keepgate_tests::client::{Endpoint, Trust};
use keepgate_tests::data::Blob;
use keepgate_tests::gateway::text;
use keepgate_tests::program::{LONG, Program, keepgate};
use keepgate_tests::tools;
use rustix::process::Signal;

use crate::rest_server::RestServer;
use crate::store;

fn add_user(file: &Path, name: &str, password: &str) {
    let add = keepgate(&["user", "--file", text(file), "add", name]);
    tools::run_with(add, password.as_bytes(), LONG).success();
}

#[test]
fn an_inherited_socket_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let fd = listener.as_raw_fd();
    // systemd's protocol: descriptor 3, and the process's own id, which only it knows.
    let script = format!("exec 3<&{fd}; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"");
    let server = keepgate(&["rest-server", "--no-auth", "--listen", "127.0.0.1:1", "--path"]);
    let mut command = Command::new("bash");
    command.args(["-c", &script, "bash"]).arg(server.get_program()).args(server.get_args());
    command.arg(folder.path());
    for (name, value) in server.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    // Programs started from now on may inherit it.
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    let mut program = Program::start(command);
    program.stderr.wait_for(0, &["start server on"]);
    let said = program.stderr.text();
    assert!(said.contains("systemd socket activation mode"), "{said}");
    assert_eq!(Endpoint::tcp(address).status("GET", "/config"), 404);
    program.signal(Signal::TERM);
    assert!(program.wait(LONG).success());
}

#[test]
fn sighup_reopens_the_log_and_reloads_the_users() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    add_user(&data.join(".htpasswd"), "alice", "one");
    let server = RestServer::keepgate(&data, &["--log", text(&log)]);
    let client = server.endpoint().credentials("alice", "one");
    assert_eq!(client.status("GET", "/first"), 404);
    assert_eq!(server.endpoint().status("GET", "/nobody"), 401);

    // Like logrotate, and like somebody who adds a user.
    let rotated = folder.path().join("access.log.1");
    fs::rename(&log, &rotated).unwrap();
    add_user(&data.join(".htpasswd"), "bob", "two");
    server.signal(Signal::HUP);
    let bob = server.endpoint().credentials("bob", "two");
    server.eventually("the log is there again", || log.exists());
    server.eventually("bob may come in", || bob.status("GET", "/second") == 404);
    server.stop();

    let (first, second) =
        (fs::read_to_string(&rotated).unwrap(), fs::read_to_string(&log).unwrap());
    let lines: Vec<&str> = first.lines().collect();
    assert!(lines[0].starts_with("127.0.0.1 - alice ["), "{first}");
    assert!(lines[0].contains("\"GET /first HTTP/1.1\" 404 "), "{first}");
    assert!(lines[1].starts_with("127.0.0.1 - - ["), "{first}");
    assert!(lines[1].contains("\"GET /nobody HTTP/1.1\" 401 "), "{first}");
    assert!(second.contains("- bob [") && !second.contains("/first"), "{second}");
}

#[test]
fn tls_follows_the_flags() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.path().join("public_key"), made.cert.pem()).unwrap();
    fs::write(folder.path().join("private_key"), made.signing_key.serialize_pem()).unwrap();
    let server =
        RestServer::keepgate(folder.path(), &["--no-auth", "--tls", "--tls-min-ver", "1.3"]);
    server.wait_for("TLS enabled, private key ");
    let trust = Trust::file(&folder.path().join("public_key"));
    let client = server.endpoint().tls(&trust);
    store(&client, "/r/", Blob::new(1, 100_000));
    let curl = |version: &str| {
        let mut curl = Command::new(tools::find("curl")?);
        curl.args(["--silent", "--insecure", "--tls-max", version, "-o", "/dev/null"]);
        curl.args(["-w", "%{http_code}"]).arg(format!("https://localhost:{}/x", server.port()));
        Some(tools::run(curl))
    };
    if let Some(refused) = curl("1.2") {
        assert!(!refused.status.success(), "{refused:?}");
        assert_eq!(curl("1.3").unwrap().success().trim(), "404");
    }
    server.stop();
}

#[test]
fn files_are_group_accessible_if_requested() {
    let folder = tempfile::tempdir().unwrap();
    for (flags, file, directory) in [
        (&["--no-auth"][..], 0o600, 0o700),
        (&["--no-auth", "--group-accessible-repos"], 0o660, 0o770),
    ] {
        let data = folder.path().join(flags.len().to_string());
        let server = RestServer::keepgate(&data, flags);
        let client = server.endpoint();
        assert_eq!(client.post("/r/?create=true", b"").status, 200);
        let blob = Blob::new(1, 10);
        store(&client, "/r/", blob);
        server.stop();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let id = blob.id();
        let stored = data.join("r/data").join(&id[..2]);
        let expected = (file & !umask(), directory & !umask());
        assert_eq!((mode(&stored.join(&id)), mode(&stored)), expected, "{flags:?}");
    }
}

/// The umask of this process and those that it starts.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    u32::from_str_radix(line.unwrap().trim(), 8).unwrap()
}

#[test]
fn a_profile_is_written_at_exit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile");
    let server = RestServer::keepgate(folder.path(), &["--no-auth", "--cpu-profile", text(&file)]);
    let client = server.endpoint();
    // Hashing and requests: something to sample.
    for seed in 0..40 {
        store(&client, "/r/", Blob::new(seed, 2_000_000));
    }
    let said = server.stop();
    assert!(
        said.contains("CPU profiling enabled") && said.contains("Stopped CPU profiling"),
        "{said}"
    );
    // It contains names of functions.
    let profile = fs::read(&file).unwrap();
    let has = |name: &[u8]| profile.windows(name.len()).any(|part| part == name);
    assert!(profile.len() > 1_000 && has(b"nanoseconds"), "{} bytes", profile.len());

    let nowhere = folder.path().join("no/such/folder");
    let arguments = ["rest-server", "--no-auth", "--cpu-profile", text(&nowhere)];
    let said = tools::run(keepgate(&arguments)).fails_with(1);
    assert!(said.contains(text(&nowhere)), "{said}");
}

#[test]
fn a_link_named_rest_server_is_enough_and_prints_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("rest-server");
    symlink(tools::keepgate(), &link).unwrap();
    let mut version = Command::new(&link);
    version.arg("--version");
    let said = tools::run(version).success();
    assert!(said.starts_with("rest-server version rest-server 0.14.0 "), "{said}");
    let mut wrong = Command::new(&link);
    wrong.args(["--append-only=perhaps"]);
    let said = tools::run(wrong).fails_with(1);
    assert!(said.contains("append-only"), "{said}");
}

#[test]
fn debug_logs_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let server = RestServer::keepgate(folder.path(), &["--no-auth", "--debug"]);
    assert_eq!(server.endpoint().status("GET", "/some/config?secret=1"), 404);
    server.wait_for("method=GET url_path=\"/some/config\"");
    assert!(!server.stop().contains("secret"));
}

#[test]
fn contradictory_flags_are_refused_at_startup() {
    let folder = tempfile::tempdir().unwrap();
    let path = text(folder.path());
    for (flags, expected) in [
        (&["--tls"][..], "public_key"),
        (&["--tls-key", "x"], "requires enabled TLS"),
        (&["--tls-min-ver", "1.1"], "Unsupported TLS min version: 1.1"),
        (&["--listen", "bogus"], "\"bogus\" is not an address"),
        (&["--listen", "unix:"], "unix:"),
        (&["--log", "/no/such/folder/log"], "/no/such/folder/log"),
        (&["--max-size", "10k"], "10k"),
        (&["argument"], "argument"),
    ] {
        let arguments = [&["rest-server", "--no-auth", "--path", path][..], flags].concat();
        let said = tools::run(keepgate(&arguments)).fails_with(1);
        assert!(said.contains(expected), "{flags:?}: {said}");
    }
}

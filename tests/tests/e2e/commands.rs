//! `check`, `user`, `init`, `--version`: exit codes, and messages that say what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use keepgate_tests::gateway::{Setup, text};
use keepgate_tests::program::{LONG, keepgate};
use keepgate_tests::tools::{self, Finished};

fn run(arguments: &[&str]) -> Finished {
    tools::run(keepgate(arguments))
}

fn run_with(arguments: &[&str], input: &str) -> Finished {
    tools::run_with(keepgate(arguments), input.as_bytes(), LONG)
}

#[test]
fn check_accepts_a_configuration_that_serves() {
    let setup = Setup::new().tls().user("alice", "secret").mount("/", "restic", "");
    setup.write();
    let said = run(&["check", "--config", text(&setup.config())]).success();
    assert!(said.contains("/  restic "), "{said}");
    assert!(said.contains("keepgate.toml is fine"), "{said}");
    // Also while the gateway is running.
    let gateway = setup.start();
    run(&["check", "--config", text(&setup.config())]).success();
    gateway.assert_alive();
    gateway.stop();
}

#[test]
fn check_reports_file_line_and_column() {
    let setup = Setup::restic();
    setup.write();
    let good = fs::read_to_string(setup.config()).unwrap();
    for (from, to, said) in [
        (
            "auth = [\"none\"]",
            "auth = [\"none\"]\nappend_onyl = true",
            "unknown field `append_onyl`",
        ),
        ("{ main = \"main\" }", "{ main = \"mian\" }", "unknown store \"mian\""),
        ("auth = [\"none\"]", "auth = [\"people\"]", "unknown auth \"people\""),
        ("path = \"/\"", "path = \"/x/\"", "does not end with it"),
        ("address = \"127.0.0.1:0\"", "address = 8000", "invalid type"),
        ("plugin_dir = \"plugins\"", "plugin_dir = \"plugins", ""),
    ] {
        assert!(good.contains(from), "{from}");
        let bad = good.replacen(from, to, 1);
        let changed = good.lines().zip(bad.lines()).position(|(old, new)| old != new).unwrap();
        fs::write(setup.config(), &bad).unwrap();
        for command in ["check", "serve"] {
            let error = run(&[command, "--config", text(&setup.config())]).fails_with(1);
            let place = format!("keepgate: {}:{}:", text(&setup.config()), changed + 1);
            assert!(error.starts_with(&place) && error.contains(said), "{to}: {error}");
        }
    }
    // Several errors at once, in the order of the file, one line each.
    let bad = good.replace("auth = [\"none\"]", "auth = [\"people\"]\nappend_onyl = true");
    fs::write(setup.config(), bad.replace("{ main = \"main\" }", "{ main = \"mian\" }")).unwrap();
    for command in ["check", "serve"] {
        let error = run(&[command, "--config", text(&setup.config())]).fails_with(1);
        let place = format!("keepgate: {}:", text(&setup.config()));
        assert!(error.lines().all(|line| line.starts_with(&place)), "{error}");
        for (line, said) in error.lines().zip(["\"people\"", "`append_onyl`", "\"mian\""]) {
            assert!(line.contains(said), "{said}: {error}");
        }
        assert_eq!(error.lines().count(), 3, "{error}");
    }
    let error = run(&["check", "--config", "/no/such/keepgate.toml"]).fails_with(1);
    assert!(error.contains("/no/such/keepgate.toml"), "{error}");
}

#[test]
fn check_looks_at_every_file_that_is_named() {
    let setup = Setup::new()
        .tls()
        .user("alice", "secret")
        .mount("/", "restic", "")
        .mount("/gone", "gone", "")
        .mount("/odd", "restic", "settings = { no_such_setting = 1 }");
    setup.install("half", &tools::plugin("restic")[..1000]);
    fs::write(setup.path("key.pem"), "no key").unwrap();
    setup.write();
    let finished = run(&["check", "--config", text(&setup.config())]);
    assert_eq!(finished.status.code(), Some(1));
    for wrong in ["key.pem", "half.wasm", "gone.wasm", "no_such_setting"] {
        let line = finished.stdout.lines().find(|line| line.contains(wrong));
        assert!(
            line.is_some_and(|line| line.starts_with("wrong: ")),
            "{wrong}: {}",
            finished.stdout
        );
    }
    // A gateway without its htpasswd file does not start.
    setup.renew_certificate();
    fs::remove_file(setup.path("htpasswd")).unwrap();
    let error = run(&["serve", "--config", text(&setup.config())]).fails_with(1);
    assert!(error.contains(text(&setup.path("htpasswd"))), "{error}");
}

#[test]
fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let setup = Setup::restic();
    setup.write();
    setup.edit(|text| text.replace("127.0.0.1:0", &address));
    let error = run(&["serve", "--config", text(&setup.config())]).fails_with(1);
    assert!(error.contains(&address), "{error}");
}

#[test]
fn users_are_managed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    let user = |arguments: &[&str], input: &str| {
        run_with(&[&["user", "--file", text(&file)], arguments].concat(), input)
    };
    let password = user(&["add", "alice", "--generate"], "").success();
    let password = password.trim_end();
    assert!(password.len() >= 20 && !password.contains(char::is_whitespace), "{password}");
    user(&["add", "bob"], "hunter2\n").success();
    assert_eq!(user(&["list"], "").success(), "alice\nbob\n");
    user(&["verify", "alice"], password).success();
    user(&["verify", "bob"], "hunter2\n").success();
    for (name, wrong) in [("bob", "hunter3"), ("alice", ""), ("carol", "x")] {
        let error = user(&["verify", name], wrong).fails_with(1);
        assert!(error.contains(name), "{error}");
    }
    user(&["add", "bob"], "changed").success();
    user(&["verify", "bob"], "changed").success();
    user(&["verify", "bob"], "hunter2").fails_with(1);

    user(&["remove", "bob"], "").success();
    assert_eq!(user(&["list"], "").success(), "alice\n");
    let error = user(&["remove", "bob"], "").fails_with(1);
    assert!(error.contains("bob"), "{error}");
    for name in ["a/b", "a:b", "", "a b"] {
        user(&["add", "--", name], "x").fails_with(1);
    }
    user(&["add", "dave"], "").fails_with(1);
    assert_eq!(user(&["list"], "").success(), "alice\n");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("alice:$2") && !text.contains(password), "{text}");
}

/// htpasswd files of Apache's own program work, if their hashes are strong enough.
#[test]
fn apaches_htpasswd_is_supported() {
    let Some(htpasswd) = tools::find_for("htpasswd", "files of Apache's htpasswd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    for (flags, name) in [("-cbB", "bcrypt"), ("-bs", "sha"), ("-bm", "apache")] {
        let mut command = Command::new(&htpasswd);
        command.args([flags, text(&file), name, "secret"]);
        tools::run(command).success();
    }
    let verify = |name| run_with(&["user", "--file", text(&file), "verify", name], "secret\n");
    verify("bcrypt").success();
    verify("sha").success();
    verify("apache").fails_with(1);
}

#[test]
fn init_writes_a_working_configuration_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new");
    let said = run(&["init", text(&new), "--name", "backup.example.org"]).success();
    let config = new.join("keepgate.toml");
    assert!(said.contains(text(&config)) && said.contains("password "), "{said}");
    run(&["check", "--config", text(&config)]).success();
    let before = fs::read(new.join("htpasswd")).unwrap();
    let error = run(&["init", text(&new)]).fails_with(1);
    assert!(error.contains("already exists"), "{error}");
    assert!(fs::read(new.join("htpasswd")).unwrap() == before);
    let (_, password) = said.split_once("password ").unwrap();
    let password = password.split_whitespace().next().unwrap();
    let htpasswd = new.join("htpasswd");
    run_with(&["user", "--file", text(&htpasswd), "verify", "keepgate"], password).success();
}

#[test]
fn versions_and_unknown_commands() {
    let said = run(&["--version"]).success();
    assert!(said.starts_with("keepgate ") && said.contains("contract 0.1.1"), "{said}");
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    for arguments in [&["no-such-command"][..], &[], &["serve", "--no-such-flag"]] {
        let error = run(arguments).fails_with(2);
        assert!(error.contains("Usage"), "{arguments:?}: {error}");
    }
    let said = run(&["help"]).success();
    for command in ["serve", "init", "check", "rest-server", "user"] {
        assert!(said.contains(command), "{said}");
    }
}

/// The tools for plugin authors are a program of their own, which is missing at first.
#[test]
fn plugin_tools_are_found_on_the_path_or_reported_missing() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("keepgate");
    // Not a symbolic link: the program would find the tools beside the file that it points to.
    if fs::hard_link(tools::keepgate(), &alone).is_err() {
        fs::copy(tools::keepgate(), &alone).unwrap();
    }
    let run = |path: &str| {
        let mut command = Command::new(&alone);
        command.args(["plugin", "test", "--json", "a b"]).env("PATH", path);
        tools::run(command)
    };
    let missing = run("/nonexistent");
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    for part in ["needs the program keepgate-plugin", text(folder.path()), "PATH", "cargo build"] {
        assert!(missing.stderr.contains(part), "{part}: {missing:?}");
    }
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let script = bin.join("keepgate-plugin");
    fs::write(&script, "#!/bin/sh\nfor word; do echo \"$word\"; done\nexit 7\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let found = run(text(&bin));
    assert_eq!(found.status.code(), Some(7), "{found:?}");
    assert_eq!(found.stdout, "test\n--json\na b\n");
}

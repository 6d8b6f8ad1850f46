//! `keepgate plugin`: from nothing to a plugin that serves, and messages about invalid files.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use keepgate_tests::component;
use keepgate_tests::gateway::{Setup, text};
use keepgate_tests::program::keepgate;
use keepgate_tests::tools::{self, Finished};
use serde_json::Value;

/// Time for compiling a plugin and its tests on a machine that is busy with other things.
const COMPILING: Duration = Duration::from_secs(900);

fn plugin(arguments: &[&str]) -> Finished {
    tools::run(keepgate(&[&["plugin"], arguments].concat()))
}

fn check(arguments: &[&str]) -> (Option<i32>, Value) {
    let finished = plugin(&[&["check", "--json"], arguments].concat());
    let report = serde_json::from_str(&finished.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    (finished.status.code(), report)
}

/// Checks a file with these bytes, which must be refused for a single reason, which is returned.
#[track_caller]
fn refused(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let file = folder.join(name);
    fs::write(&file, bytes).unwrap();
    let (code, report) = check(&[text(&file)]);
    assert_eq!((code, &report["served"]), (Some(1), &Value::Bool(false)), "{report}");
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{report}");
    problems[0].as_str().unwrap().to_owned()
}

/// What a new author does, in order: every command that the program itself suggests.
#[test]
fn from_nothing_to_a_plugin_that_serves() {
    let folder = tempfile::tempdir().unwrap();
    let hello = folder.path().join("hello");
    let said = plugin(&["new", text(&hello)]).success();
    assert!(said.contains("keepgate plugin build"), "{said}");
    let again = plugin(&["new", text(&hello)]).fails_with(1);
    assert!(again.contains("exists already"), "{again}");

    // The crates of this workspace's own lock file are available offline; others need not be.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    fs::copy(lock, hello.join("Cargo.lock")).unwrap();
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.args(arguments).current_dir(&hello).env("CARGO_NET_OFFLINE", "true");
        // Kept, so that only the first run compiles the template's dependencies.
        command.env("CARGO_TARGET_DIR", tools::plugin_dir().join("../plugin-author"));
        // A template with warnings teaches authors to overlook warnings.
        command.env("RUSTFLAGS", "-D warnings");
        tools::run_with(command, b"", COMPILING).success()
    };
    cargo(&["fmt", "--check"]);
    let tested = cargo(&["test"]);
    assert!(tested.contains("test result: ok. 5 passed"), "{tested}");

    let mut build = keepgate(&["plugin", "build", text(&hello)]);
    build.env("CARGO_NET_OFFLINE", "true");
    let built = tools::run_with(build, b"", COMPILING).success();
    let file = hello.join("hello.wasm");
    assert!(built.contains(text(&file)), "{built}");
    let said = plugin(&["test", text(&hello)]).success();
    assert!(said.contains("10 passed, 0 failed"), "{said}");
    // Somebody who changes a source and forgets to build would test the old component.
    let touched = File::options().append(true).open(hello.join("src/lib.rs")).unwrap();
    touched.set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap();
    let said = plugin(&["test", text(&hello)]).stderr;
    assert!(said.contains("src/lib.rs; run `keepgate plugin build"), "{said}");

    let setup = Setup::new().mount("/hello", "hello", "");
    setup.install("hello", &fs::read(&file).unwrap());
    setup.write();
    let (code, report) = check(&[text(&file), "--config", text(&setup.config())]);
    assert_eq!((code, &report["mounts"][0]["path"]), (Some(0), &"/hello".into()), "{report}");
    assert_eq!(report["description"]["stores"][0], "main");
    let words: Vec<_> = report["inspection"]["imports"].as_array().unwrap().iter().collect();
    let blobs = words.iter().find(|import| import["name"] == "blobs").unwrap();
    assert_eq!(blobs["words"], "stores: open, get, put, delete, list, next");

    let gateway = setup.start();
    let endpoint = gateway.endpoint();
    let put = |body: &[u8]| endpoint.send("PUT", "/hello/monday.tar", &[], body).status;
    assert_eq!((put(b"all my files"), put(b"others")), (201, 409));
    assert_eq!(endpoint.get("/hello/monday.tar").body, b"all my files");
    assert_eq!(endpoint.get("/hello/").json()[0]["size"], 12);

    let listed = plugin(&["list", "--config", text(&setup.config())]).success();
    let line = listed.lines().find(|line| line.starts_with("hello ")).unwrap();
    // Four calls, one of them a failure, and none of them a trap.
    let words: Vec<_> = line.split_whitespace().rev().take(5).collect();
    assert_eq!(words, ["0", "1", "4", "serves", "/hello"], "{listed}");
    gateway.stop();
    plugin(&["list", "--config", text(&setup.config())]).fails_with(1);

    let upload = ["--upload", "/a{n}", "--size", "1MiB", "--rounds", "20", "--json"];
    let measured = plugin(&[&["bench", text(&file)][..], &upload].concat()).success();
    let measured: Value = serde_json::from_str(&measured).unwrap();
    assert_eq!(
        (&measured["status"], &measured["call_warm"]["rounds"]),
        (&"200".into(), &20.into())
    );
    // The point of the whole contract: not a byte of a body enters the plugin.
    assert!(measured["upload"]["guest_share"].as_f64().unwrap() < 0.01, "{measured}");
    assert_eq!(measured["download"]["guest_share"], 0.0, "{measured}");
}

#[test]
fn files_that_are_not_plugins_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let restic = tools::plugin("restic");
    for (name, bytes, said) in [
        ("notes.txt", b"These are my notes.\n".as_slice(), "a text file"),
        ("module.wasm", b"\0asm\x01\0\0\0", "core module"),
        ("empty.wasm", b"\0asm\x0d\0\x01\0", "it exports nothing"),
        ("half.wasm", component::half(&restic), "is truncated"),
        ("other.wasm", &component::of_another_version(&restic), "built for version 0.9.0"),
        ("program", &fs::read("/proc/self/exe").unwrap(), "machine code"),
    ] {
        let why = refused(folder.path(), name, bytes);
        assert!(why.contains(said), "{name}: {why}");
    }
    let gone = plugin(&["check", "/no/such.wasm"]);
    assert_eq!(gone.status.code(), Some(2), "{gone:?}");
    assert!(gone.stderr.contains("/no/such.wasm"), "{gone:?}");
}

/// The same component with another name for one function, everywhere in it.
fn renamed(component: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut patched = component.to_vec();
    let mut at = 0;
    while at + from.len() <= patched.len() {
        if patched[at..].starts_with(from.as_bytes()) {
            patched[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        at += 1;
    }
    assert_ne!(patched, component, "{from} is nowhere in it");
    patched
}

/// Not the linker's words: the interface, the function, which side lacks it, and what to do.
#[test]
fn a_function_that_one_side_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let stat = renamed(&tools::plugin("restic"), "[method]store.head", "[method]store.stat");
    let why = refused(folder.path(), "restic.wasm", &stat);
    for part in
        ["keepgate:plugin/blobs@0.1.1", "`store.stat`", "this gateway does not", "use a gateway"]
    {
        assert!(why.contains(part), "{part}: {why}");
    }
    // The gateway reports the same if it refuses the file.
    let setup = Setup::restic();
    setup.install("stat", &stat);
    let gateway = setup.start();
    let refused = gateway.status()["refused"].to_string();
    assert!(refused.contains("`store.stat`") && !refused.contains("linker"), "{refused}");
    let listed = plugin(&["list", "--config", text(&setup.config())]).success();
    assert!(listed.contains("refused: ") && listed.contains("store.stat"), "{listed}");
    gateway.stop();
}

#[test]
fn a_mount_is_checked_against_what_the_plugin_requires() {
    let setup = Setup::new()
        .mount("/good", "restic", "")
        .mount("/odd", "restic", "settings = { no_such_setting = 1 }")
        .mount("/small", "restic", "limits = { memory = \"64KiB\" }")
        .mount("/etcd", "etcd", "");
    setup.write();
    let file = setup.plugin("restic");
    let of = |mount: &str| {
        let config = setup.config();
        check(&[text(&file), "--config", text(&config), "--mount", mount])
    };
    assert_eq!(of("/good").0, Some(0));
    for (mount, said) in [("/odd", "no_such_setting"), ("/small", "limits.memory")] {
        let (code, report) = of(mount);
        let problem = report["problems"][0].as_str().unwrap();
        assert_eq!(code, Some(1), "{report}");
        assert!(
            problem.starts_with(&format!("mount {mount}: ")) && problem.contains(said),
            "{problem}"
        );
    }
    // Without a mount's name, every mount of the plugin is checked.
    let (_, report) = check(&[text(&file), "--config", text(&setup.config())]);
    assert_eq!(report["mounts"].as_array().unwrap().len(), 3, "{report}");
    let etcd = setup.path("etcd.wasm");
    fs::write(&etcd, tools::plugin("etcd")).unwrap();
    let said = plugin(&["check", text(&etcd), "--config", text(&setup.config())]);
    assert_eq!(said.status.code(), Some(1));
    assert!(said.stdout.contains("the mount grants none; add `etcd = { main = "), "{said:?}");
    let error =
        plugin(&["check", text(&file), "--config", text(&setup.config()), "--mount", "/no"]);
    assert!(error.fails_with(1).contains("/no"));
}

#[test]
fn inspect_prints_wit_and_parts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("restic.wasm");
    fs::write(&file, tools::plugin("restic")).unwrap();
    let said = plugin(&["inspect", text(&file)]).success();
    for part in [
        "world root",
        "import keepgate:plugin/blobs@0.1.1;",
        "export keepgate:plugin/guest@0.1.1;",
        "resource store",
        "  code",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    fs::write(&file, "no component").unwrap();
    assert!(plugin(&["inspect", text(&file)]).fails_with(1).contains("a text file"));
}

/// If a builder is missing, one line says how to get it; nothing is installed unasked.
#[test]
fn a_missing_builder_is_reported_with_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    for (language, by_hand) in [("js", "npm install"), ("python", "pip install")] {
        let hello = folder.path().join(language);
        plugin(&["new", text(&hello), "--lang", language]).success();
        let cache = folder.path().join("cache");
        let mut build = keepgate(&["plugin", "build", text(&hello)]);
        build.env("KEEPGATE_CACHE", &cache).env("PATH", "/usr/bin:/bin");
        let said = tools::run(build).fails_with(1);
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        // Without node, npm could not install anything.
        let node = said.contains("need node; get it with");
        assert!(node || said.contains("--install") && said.contains(by_hand), "{said}");
        assert!(!cache.exists(), "nothing was installed");
    }
    let none = folder.path().join("cache");
    fs::create_dir(&none).unwrap();
    let said = plugin(&["build", text(&none)]).fails_with(1);
    assert!(said.contains("no sources of a plugin"), "{said}");
    let said = plugin(&["new", text(&folder.path().join("x")), "--lang", "cobol"]).fails_with(2);
    assert!(said.contains("rust, js, python"), "{said}");
}

/// A list piped to `head`: the reader goes away, and the command does not fail.
#[test]
fn a_reader_that_goes_away_does_not_break_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("restic.wasm");
    fs::write(&file, tools::plugin("restic")).unwrap();
    fs::create_dir(folder.path().join("cases")).unwrap();
    let case =
        "[[case]]\nname = \"c\"\n[[case.step]]\nsend = \"GET /config\"\nexpect.status = 200\n";
    fs::write(folder.path().join("cases/c.toml"), case).unwrap();
    let (file, cases) = (text(&file), text(folder.path()));
    // The exit code still reports the result: this case fails.
    for (arguments, code) in [
        (&["plugin", "inspect", file][..], 0),
        (&["plugin", "check", file], 0),
        (&["plugin", "check", "--json", file], 0),
        (&["plugin", "test", cases], 1),
        (&["plugin", "test", "--json", cases], 1),
        (&["plugin", "--help"], 0),
    ] {
        let run = |stdout: Stdio, stderr: Stdio| {
            let mut command = keepgate(arguments);
            command.env("KEEPGATE_CACHE", folder.path().join("cache"));
            command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).output().unwrap()
        };
        let gone = || Stdio::from(io::pipe().unwrap().1);
        let ended = run(gone(), Stdio::piped());
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!((ended.status.code(), said.contains("panicked")), (Some(code), false), "{said}");
        assert_eq!(run(gone(), gone()).status.code(), Some(code), "{arguments:?}, nobody listens");
        if arguments[1] == "--help" {
            continue;
        }
        // A full disk is different: the requested output is lost.
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = run(full.into(), Stdio::piped());
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success(), "{arguments:?}");
        assert!(said.contains("cannot write to standard output: No space left"), "{said}");
    }
}

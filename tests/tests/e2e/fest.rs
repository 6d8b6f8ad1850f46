//! fest with its client: trees with odd names, kills in the middle, many clients with one file, and large manifests.

mod bucket;
mod damage;
mod refusals;
mod resumed;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::client::Endpoint;
use keepgate_tests::data::{Blob, sha256};
use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::program::{LONG, Program};
use keepgate_tests::tools;
use serde_json::{Value, json};

/// What a mount should have for large manifests.
const LIMITS: &str = "limits = { memory = \"256MiB\", cpu = \"10s\" }";

fn setup(settings: &str) -> Setup {
    let mount = format!("{LIMITS}\nsettings = {{ {settings} }}");
    let setup = Setup::new()
        .user("ann", "annspassword")
        .user("bob", "bobspassword")
        .mount("/", "fest", &mount);
    setup.install("fest", &tools::plugin("fest"));
    setup
}

/// The client, with a cache of its own.
fn fest(gateway: &Gateway, user: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(tools::fest());
    command.env("FEST_URL", format!("http://127.0.0.1:{}", gateway.port()));
    command.env("FEST_USER", user).env("FEST_PASSWORD", format!("{user}spassword"));
    command.env("XDG_CACHE_HOME", folder.join("cache")).args(arguments);
    command
}

/// The result of a backup or a restore.
#[track_caller]
fn result(command: Command) -> Value {
    serde_json::from_str(&tools::run(command).success()).unwrap()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A tree with odd names, links, empty folders and equal files; the times are in the past.
fn tree(top: &Path, files: usize) {
    for number in 0..files {
        let folder = format!("folder {}/{}", number % 37, number % 5);
        write(
            &top.join(folder).join(format!("{number}.txt")),
            format!("{}", number % 4000).as_bytes(),
        );
    }
    for name in [
        &b"a b"[..],
        b"new\nline",
        b"quote\"s",
        b"caf\xc3\xa9",
        b"not-utf8-\xff\xfe",
        b"not-utf8-\xfe",
        b"100%",
        b"~",
    ] {
        write(&top.join("odd").join(OsStr::from_bytes(name)), name);
    }
    write(&top.join("empty file"), b"");
    write(&top.join("large"), &Blob::new(5, 3_000_001).bytes());
    fs::create_dir_all(top.join("empty folder/in another")).unwrap();
    symlink("large", top.join("a link")).unwrap();
    symlink("/nowhere/at all", top.join("a broken link")).unwrap();
    symlink("empty folder", top.join("a link to a folder")).unwrap();
    fs::set_permissions(top.join("large"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(top.join("empty folder"), fs::Permissions::from_mode(0o711)).unwrap();
    age(top);
}

/// Sets all times back, each to another one.
fn age(top: &Path) {
    let mut seconds = 1_600_000_000;
    for path in paths(top).into_keys().map(|path| top.join(path)) {
        if !path.is_symlink() {
            seconds += 7;
            let time = std::time::UNIX_EPOCH + Duration::new(seconds, 123_000_000);
            fs::File::open(&path)
                .unwrap()
                .set_times(fs::FileTimes::new().set_modified(time))
                .unwrap();
        }
    }
}

/// What is in a tree: kind, mode, time, and bytes or target, by path.
fn paths(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, metadata) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let about =
                format!("{:o} {}.{}", metadata.mode(), metadata.mtime(), metadata.mtime_nsec());
            let said = if metadata.is_dir() {
                folders.push(path.clone());
                about
            } else if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else {
                format!("{about} {}", sha256(fs::read(&path).unwrap().as_slice()))
            };
            found.insert(path.strip_prefix(top).unwrap().to_owned(), said);
        }
    }
    found
}

#[track_caller]
fn assert_same(one: &Path, two: &Path) {
    let (one, two) = (paths(one), paths(two));
    for (path, said) in &one {
        assert_eq!(two.get(path), Some(said), "{path:?}");
    }
    assert_eq!(one.len(), two.len());
}

#[test]
fn a_tree_is_backed_up_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    tree(&source, 5000);
    let gateway = setup("deletes = true").start();
    let fest = |arguments: &[&str]| fest(&gateway, "ann", folder.path(), arguments);
    let first = result(fest(&["--json", "backup", text(&source), "tree"]));
    assert_eq!((&first["files"], &first["problems"]), (&json!(5010), &json!(0)));
    // 4000 contents, seven odd ones ("~" and the others differ), and the large one; the empty one need not be sent.
    assert_eq!(first["sent_files"], 4009, "{first}");
    let again = result(fest(&["--json", "backup", text(&source), "tree"]));
    assert_eq!(again["sent_files"], 0);
    result(fest(&["--json", "restore", "tree", text(&target)]));
    assert_same(&source, &target);
    assert!(tools::run(fest(&["diff", "tree", text(&target)])).success().is_empty());

    write(&source.join("odd/new"), b"new");
    fs::remove_file(source.join("folder 0/0/0.txt")).unwrap();
    let said = tools::run(fest(&["diff", "tree", text(&source)]));
    assert_eq!(said.status.code(), Some(3));
    assert!(
        said.stdout.contains("added: ./odd/new")
            && said.stdout.contains("removed: ./folder 0/0/0.txt"),
        "{}",
        said.stdout
    );
    let changed = result(fest(&["--json", "backup", text(&source), "tree", "--omit", "*.txt"]));
    assert_eq!((&changed["sent_files"], &changed["files"]), (&json!(1), &json!(11)));
    let listed: Value =
        serde_json::from_str(&tools::run(fest(&["--json", "list"])).success()).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert!(
        listed.as_array().unwrap().iter().all(|version| version["complete"] == true),
        "{listed}"
    );
    tools::run(fest(&["verify", "tree", "--read"])).success();
    tools::run(fest(&["rm", "tree", "--timestamp", listed[2]["timestamp"].as_str().unwrap()]))
        .success();
    assert_eq!(tools::run(fest(&["list", "tree"])).success().lines().count(), 2);

    // Another user, who has the same files and not the same manifests.
    let of_bob = |arguments: &[&str]| super::fest::fest(&gateway, "bob", folder.path(), arguments);
    assert!(tools::run(of_bob(&["list"])).success().is_empty());
    let missing =
        tools::run(of_bob(&["restore", "tree", text(&folder.path().join("x"))])).fails_with(1);
    assert!(missing.contains("404"), "{missing}");
    assert_eq!(result(of_bob(&["--json", "backup", text(&target), "mine"]))["sent_files"], 0);
    gateway.stop();
}

/// The client and the gateway are killed in the middle. What has arrived is not sent again.
#[test]
fn a_backup_goes_on_where_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    for number in 0..6 {
        write(&source.join(format!("large {number}")), &Blob::new(number, 40_000_000).bytes());
    }
    age(&source);
    let setup = setup("");
    let mut gateway = setup.start();
    let stored = |setup: &Setup| -> u64 {
        let files = keepgate_tests::tree::files(&setup.store());
        files
            .iter()
            .map(|file| setup.store().join(file).metadata().map_or(0, |file| file.len()))
            .sum()
    };
    for round in 0..4 {
        let before = stored(&setup);
        let command = fest(
            &gateway,
            "ann",
            folder.path(),
            &["backup", text(&source), "large", "--jobs", "2"],
        );
        let mut client = Program::start(command);
        let until = Instant::now() + LONG;
        while stored(&setup) < before + 25_000_000 {
            assert!(
                Instant::now() < until && client.try_wait(Duration::ZERO).is_none(),
                "{}",
                client.stderr.text()
            );
            thread::sleep(Duration::from_millis(5));
        }
        if round % 2 == 0 {
            client.kill();
        } else {
            gateway.program.kill();
            client.kill();
            drop(gateway);
            gateway = setup.start();
        }
    }
    let whole =
        result(fest(&gateway, "ann", folder.path(), &["--json", "backup", text(&source), "large"]));
    assert!(whole["sent_bytes"].as_u64().unwrap() < 200_000_000, "{whole}");
    result(fest(&gateway, "ann", folder.path(), &["--json", "restore", "large", text(&target)]));
    assert_same(&source, &target);
    gateway.stop();
}

fn put(
    endpoint: &Endpoint,
    hash: &str,
    bytes: &[u8],
    (first, last): (usize, usize),
    total: usize,
) -> u16 {
    let range = format!("bytes {first}-{last}/{total}");
    endpoint
        .send("PUT", &format!("/files/{hash}"), &[("content-range", &range)], &bytes[first..=last])
        .status
}

/// Fifty clients send one file in pieces of their own, and one of them lies.
#[test]
fn many_clients_make_one_right_copy() {
    let gateway = setup("").start();
    let bytes = Blob::new(9, 2_000_000).bytes();
    let (hash, total) = (sha256(bytes.as_slice()), bytes.len());
    let lying = gateway.as_user("bob", "bobspassword");
    let lies = vec![7; total];
    assert_eq!(put(&lying, &hash, &lies, (0, 1_999_998), total), 202);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let clients: Vec<_> = (0..50_usize)
            .map(|client| {
                let endpoint = gateway.as_user("ann", "annspassword");
                let (bytes, hash) = (&bytes, &hash);
                scope.spawn(move || {
                    let piece = 100_000 + client * 1_000;
                    let mut pieces: Vec<usize> = (0..total).step_by(piece).collect();
                    let length = pieces.len();
                    pieces.rotate_left(client % length);
                    let mut statuses = Vec::new();
                    for first in pieces {
                        let last = (first + piece).min(total) - 1;
                        statuses.push(put(&endpoint, hash, bytes, (first, last), total));
                    }
                    statuses
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| [200, 201, 202].contains(status)), "{statuses:?}");
    let endpoint = gateway.as_user("ann", "annspassword");
    let got = endpoint.get(&format!("/files/{hash}"));
    assert!(got.status == 200 && got.body == bytes);
    assert_eq!(
        put(&lying, &hash, &lies, (1_999_999, 1_999_999), total),
        200,
        "it is there already"
    );
    gateway.stop();
}

/// 200,000 files: within the memory and the time that the mount has, and that are stated in its README.
#[test]
fn a_manifest_may_be_large() {
    let gateway = setup("").start();
    let endpoint = gateway.as_user("ann", "annspassword");
    let files: BTreeMap<String, Value> = (0..200_000)
        .map(|number| {
            let entry = json!({
                "hash": sha256(format!("{number}").as_bytes()), "size": number + 1, "permissions": 644,
                "timestamp": "2026-01-31T00:00:00Z", "user": "root", "group": "root",
            });
            (format!("./folder {}/file {number}", number % 1000), entry)
        })
        .collect();
    let manifest =
        json!({"name": "large", "timestamp": "2026-01-31T00:00:00Z", "files": files}).to_string();
    let timed = |what: &str, limit: u64, ask: &dyn Fn() -> keepgate_tests::client::Reply| {
        let begun = Instant::now();
        let reply = ask();
        let took = begun.elapsed();
        tools::report(&format!("fest, {what} of 200,000 files: {} ms", took.as_millis()));
        assert!(took < Duration::from_secs(limit), "{what}: {took:?}");
        reply
    };
    let posted =
        timed("POST of a manifest", 60, &|| endpoint.post("/manifests", manifest.as_bytes()));
    assert_eq!(posted.status, 201, "{}", posted.text().chars().take(300).collect::<String>());
    let answer: Value = serde_json::from_slice(&posted.body).unwrap();
    assert_eq!(answer["files"].as_object().unwrap().len(), 200_000);
    let got = timed("GET of a manifest", 60, &|| endpoint.get("/manifests/large"));
    assert!(got.status == 200 && got.body == posted.body);
    let list = timed("the list", 60, &|| endpoint.get("/manifests"));
    assert_eq!(
        (list.json()[0]["files"].as_u64(), list.json()[0]["complete"].as_bool()),
        (Some(200_000), Some(false))
    );
    let memory = gateway.program.memory("VmHWM") >> 20;
    tools::report(&format!("fest, the gateway after that: {memory} MiB"));
    assert!(memory < 256, "{memory} MiB");
    gateway.stop();
}

/// Sweeps run all the time, without any grace, while manifests are posted: what is told to be there is there, and stays.
#[test]
fn what_a_manifest_is_told_stays_whatever_is_swept() {
    let setup = setup("grace = \"1ms\"")
        .table("[schedule.sweep]\nmount = \"/\"\njob = \"sweep\"\nevery = \"1s\"");
    let gateway = setup.start();
    let (mut told, mut missing) = (Vec::new(), 0);
    let endpoint = gateway.as_user("ann", "annspassword");
    let bytes = |round: u32| format!("the bytes of round {round}").into_bytes();
    for round in 0..1000 {
        let (bytes, hash) = (bytes(round), sha256(bytes(round).as_slice()));
        let stored = endpoint.send("PUT", &format!("/files/{hash}"), &[], &bytes).status;
        assert_eq!(stored, 201);
        // Now and then a sweep comes in between.
        if round % 200 == 100 {
            let swept = || {
                keepgate_tests::tree::files(&setup.store())
                    .iter()
                    .all(|file| !file.to_string_lossy().contains(&hash))
            };
            gateway.eventually("the file is swept", |_| swept());
        }
        let manifest = json!({
            "name": format!("round {}", round % 40), "timestamp": format!("2026-01-31T00:00:00.{round:06}Z"),
            "files": {"./a": {"hash": hash, "size": bytes.len()}},
        });
        let posted = endpoint.post("/manifests", manifest.to_string().as_bytes());
        assert_eq!(posted.status, 201, "{}", posted.text());
        if posted.json()["files"]["./a"]["is_available"] == true {
            told.push(hash);
        } else {
            missing += 1;
        }
    }
    tools::report(&format!("fest: {} files told to be there, {missing} swept before", told.len()));
    assert!(told.len() > 100 && missing > 0, "{} {missing}", told.len());
    for hash in told {
        let got = endpoint.get(&format!("/files/{hash}"));
        assert_eq!(got.status, 200, "{}", got.text());
    }
    gateway.stop();
}

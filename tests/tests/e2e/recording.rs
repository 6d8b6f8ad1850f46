//! `serve --record`: exchanges are recorded without secrets and within bounds; a full disk affects no
//! request; recordings can be replayed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use keepgate_tests::data::{Blob, sha256};
use keepgate_tests::fault::Tmpfs;
use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::restic::Restic;
use keepgate_tests::tools;

/// A gateway that records, with further flags.
fn start(setup: &Setup, folder: &Path, flags: &[&str]) -> Gateway {
    let mut command = setup.command();
    command.arg("--record").arg(folder).args(flags);
    setup.start_by(command)
}

/// The exchanges of a recording, in order, with the names of their files.
fn exchanges(folder: &Path) -> Vec<(PathBuf, toml::Table)> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        (file, table)
    };
    files.into_iter().map(read).collect()
}

fn texts<'a>(table: &'a toml::Table, name: &str) -> Option<&'a str> {
    table.get(name).and_then(toml::Value::as_str)
}

/// The bytes of a recorded body, if all of them were recorded.
fn body(folder: &Path, part: &toml::Table) -> Option<Vec<u8>> {
    let Some(body) = part.get("body") else { return Some(Vec::new()) };
    let body = body.as_table().unwrap();
    match (texts(body, "text"), texts(body, "file")) {
        _ if body.contains_key("partial") => None,
        (Some(text), _) => Some(text.as_bytes().to_vec()),
        (_, Some(file)) => Some(fs::read(folder.join(file)).unwrap()),
        _ => None,
    }
}

/// Checks that none of these texts is in any file of a folder, neither in its name nor its bytes.
#[track_caller]
fn assert_nowhere(folder: &Path, secrets: &[&str]) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(path.to_str().unwrap().as_bytes());
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret:?} is in {}", path.display());
        }
    }
}

/// Repeats every recorded GET at a gateway that serves the same store, and returns how many responses
/// were compared.
fn replay(folder: &Path, gateway: &Gateway) -> usize {
    let mut compared = 0;
    for (file, exchange) in exchanges(folder) {
        let (request, Some(expect)) =
            (exchange["request"].as_table().unwrap(), exchange.get("expect"))
        else {
            continue;
        };
        let expect = expect.as_table().unwrap();
        if texts(request, "method") != Some("GET") {
            continue;
        }
        let query = texts(request, "query").map(|query| format!("?{query}")).unwrap_or_default();
        let target = format!("{}{query}", request["path"].as_str().unwrap());
        let headers = request.get("headers").and_then(toml::Value::as_table);
        let headers: Vec<_> = headers
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != "host")
            .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
            .collect();
        let reply = gateway.as_user("alice", "hunter2-geheim").send("GET", &target, &headers, b"");
        let status = expect["status"].as_integer().unwrap();
        assert_eq!(i64::from(reply.status), status, "{}", file.display());
        if let Some(body) = body(folder, expect) {
            assert!(body == reply.body, "{}: another body", file.display());
        }
        compared += 1;
    }
    compared
}

#[test]
fn a_backup_is_recorded_without_its_secrets_and_replayed() {
    let setup = Setup::new().user("alice", "hunter2-geheim").mount("/", "restic", "");
    let folder = setup.path("recording");
    let gateway = start(&setup, &folder, &[]);
    let repository = gateway.repository("alice:hunter2-geheim@", "/r/");
    let Some(restic) = Restic::find("recording a backup of restic's", repository) else { return };
    restic.run(&["init"]);
    let files = setup.path("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("one"), Blob::new(1, 300_000).bytes()).unwrap();
    restic.run(&["backup", text(&files)]);
    restic.run(&["check", "--read-data"]);
    // Requests that restic would not send: tokens in unusual places.
    let alice = gateway.as_user("alice", "hunter2-geheim");
    let secrets =
        [("x-api-key", "geheim-1"), ("cookie", "a=geheim-2"), ("x-note", "Bearer geheim-3")];
    alice.send("GET", "/r/config?access_token=geheim-4&plain=kept", &secrets, b"");
    // Unauthenticated requests are not recorded.
    assert_eq!(gateway.as_user("alice", "geheim-5").status("GET", "/r/config"), 401);
    if let Some(curl) = tools::find_for("curl", "recording curl's requests") {
        let mut command = Command::new(curl);
        let url = format!("http://localhost:{}/r/keys/?sig=geheim-6", gateway.port());
        command.args(["--silent", "--fail", "--user", "alice:hunter2-geheim", &url]);
        tools::run(command).success();
    }
    gateway.stop();

    let recorded = exchanges(&folder);
    assert!(recorded.len() > 10, "{}", recorded.len());
    let users: Vec<_> =
        recorded.iter().map(|(_, e)| texts(e["request"].as_table().unwrap(), "user")).collect();
    assert!(users.iter().all(|user| *user == Some("alice")), "{users:?}");
    let digest = format!("sha256:{}", sha256(tools::plugin("restic").as_slice()));
    assert!(recorded.iter().all(|(_, e)| e["exchange"]["digest"].as_str() == Some(&digest)));
    let kept =
        recorded.iter().filter_map(|(_, e)| texts(e["request"].as_table().unwrap(), "query"));
    assert!(kept.into_iter().any(|query| query == "access_token=REMOVED&plain=kept"));
    // The credentials in base64, the passwords, and the repository's wrapped key.
    let key = fs::read_dir(setup.store().join("r/keys")).unwrap().next().unwrap().unwrap().path();
    let key: serde_json::Value = serde_json::from_slice(&fs::read(key).unwrap()).unwrap();
    assert_nowhere(
        &folder,
        &[
            "geheim",
            "YWxpY2U6",
            "uthorization = ",
            key["data"].as_str().unwrap(),
            key["salt"].as_str().unwrap(),
            keepgate_tests::restic::PASSWORD,
        ],
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert!(recorded.iter().all(|(file, _)| mode(file) == 0o600));

    // A new gateway with the store as it is now. Blobs that did not exist when requested do so now.
    let gateway = setup.start();
    for (file, exchange) in &recorded {
        if exchange["expect"]["status"].as_integer() == Some(404)
            || exchange["expect"].get("body").is_some_and(is_list)
        {
            fs::remove_file(file).unwrap();
        }
    }
    let compared = replay(&folder, &gateway);
    assert!(compared > 5, "{compared}");
    gateway.stop();
}

#[test]
fn a_backup_is_replayed_without_a_server() {
    let setup = Setup::new().user("alice", "hunter2").mount("/backup", "restic", "");
    let folder = setup.path("recording");
    let gateway = start(&setup, &folder, &["--record-bodies", "16MiB"]);
    let repository = gateway.repository("alice:hunter2@", "/backup/r/");
    let Some(restic) = Restic::find("replaying a backup of restic's", repository) else { return };
    restic.run(&["init"]);
    let files = setup.path("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("one"), Blob::new(1, 300_000).bytes()).unwrap();
    restic.run(&["backup", text(&files)]);
    restic.run(&["check", "--read-data"]);
    restic.run(&["forget", "--prune", "--keep-last", "1"]);
    gateway.stop();

    let plugin = setup.path("restic.wasm");
    fs::write(&plugin, tools::plugin("restic").as_slice()).unwrap();
    let saved = setup.path("saved");
    let replay = |flags: &[&str]| {
        let mut command = Command::new(tools::keepgate());
        command.args(["plugin", "test", text(&plugin)]).args(flags);
        tools::run(command)
    };
    let done = replay(&["--replay", text(&folder), "--save", text(&saved)]);
    assert!(done.status.success(), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("1 passed"), "{}", done.stdout);
    // The repository's key is a secret, so responses that contain it cannot be the same.
    assert!(done.stderr.contains("a secret was removed"), "{}", done.stderr);

    // The saved file is a case like any other.
    replay(&["--cases", text(&saved)]).success();
    let case = saved.join("case.toml");
    let text_of_case = fs::read_to_string(&case).unwrap();
    assert!(text_of_case.matches("[[case.step]]").count() > 10, "{text_of_case}");
    let other = text_of_case.replacen("status = 404", "status = 200", 1);
    assert_ne!(other, text_of_case);
    fs::write(&case, other).unwrap();
    let done = replay(&["--cases", text(&saved)]);
    assert_eq!(done.status.code(), Some(1), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("expected 200, got 404"), "{}", done.stdout);
}

/// Lists grow while a backup runs.
fn is_list(body: &toml::Value) -> bool {
    body.get("text").and_then(toml::Value::as_str).is_some_and(|text| text.starts_with('['))
}

#[test]
fn large_bodies_are_recorded_as_digests_in_both_directions() {
    let setup = Setup::restic();
    let folder = setup.path("recording");
    let gateway = start(&setup, &folder, &["--record-bodies", "1000B"]);
    let blob = Blob::new(1, 5_000_000);
    let small = Blob::new(2, 1000);
    for blob in [blob, small] {
        let path = crate::store(&gateway.endpoint(), "/r/", blob);
        assert!(gateway.endpoint().get(&path).body == blob.bytes());
    }
    gateway.stop();
    let recorded = exchanges(&folder);
    let part = |at: usize, name: &str| recorded[at].1[name].as_table().unwrap().clone();
    for (at, name) in [(0, "request"), (1, "expect")] {
        let body = part(at, name)["body"].as_table().unwrap().clone();
        assert_eq!(texts(&body, "sha256"), Some(&*blob.id()));
        assert_eq!(body["length"].as_integer(), Some(5_000_000));
        assert!(!body.contains_key("partial"), "{body:?}");
    }
    for (at, name) in [(2, "request"), (3, "expect")] {
        assert_eq!(body(&folder, &part(at, name)), Some(small.bytes()));
    }
}

#[test]
fn an_aborted_download_is_recorded_as_a_part() {
    let setup = Setup::restic();
    let folder = setup.path("recording");
    let gateway = start(&setup, &folder, &[]);
    let path = crate::store(&gateway.endpoint(), "/r/", Blob::new(1, 64 << 20));
    let mut download = gateway.endpoint().connect();
    download.write_head("GET", &path, &[]).unwrap();
    assert_eq!(download.read_head().unwrap().status, 200);
    download.reset();
    // An upload whose client disconnects has no response.
    let other = Blob::new(2, 1 << 20);
    let mut upload = gateway.endpoint().connect();
    let length = other.size.to_string();
    let target = crate::path("/r/", &other.id());
    upload.write_head("POST", &target, &[("content-length", &length)]).unwrap();
    upload.write(&other.bytes()[..1000]).unwrap();
    gateway.eventually("the upload is under way", |gateway| {
        gateway.metric("keepgate_http_requests_in_flight{mount=\"/\"}") > 0.0
    });
    upload.reset();
    gateway.stop();
    let recorded = exchanges(&folder);
    let left =
        recorded.iter().find(|(_, e)| e["request"]["method"].as_str() == Some("GET")).unwrap();
    assert_eq!(left.1["expect"]["body"]["partial"].as_bool(), Some(true), "{left:?}");
    let broken = recorded.iter().find(|(_, e)| e["request"]["path"].as_str() == Some(&target));
    let broken = &broken.unwrap().1;
    assert_eq!(broken["request"]["body"]["partial"].as_bool(), Some(true), "{broken:?}");
}

#[test]
fn a_recording_that_cannot_be_written_fails_no_request() {
    let setup = Setup::restic();
    let folder = setup.path("recording");
    let gateway = start(&setup, &folder, &["--record-count", "3"]);
    for seed in 0..20 {
        crate::store(&gateway.endpoint(), "/r/", Blob::new(seed, 100));
    }
    gateway.program.stderr.wait_for(0, &["recording stopped; the folder has reached its limits"]);
    gateway.stop();
    assert_eq!(exchanges(&folder).len(), 3);

    // A missing folder is like a full disk.
    let gateway = start(&setup, &folder, &[]);
    fs::remove_dir_all(&folder).unwrap();
    for seed in 20..40 {
        crate::store(&gateway.endpoint(), "/r/", Blob::new(seed, 100));
    }
    gateway.program.stderr.wait_for(0, &["cannot record exchanges"]);
    gateway.stop();

    // And a full disk, until it has space again.
    fs::create_dir(&folder).unwrap();
    if let Some(disk) = Tmpfs::mount("recording onto a full disk", &folder, "size=64k,mode=700") {
        let gateway = start(&setup, &folder, &[]);
        let store = |seed| crate::store(&gateway.endpoint(), "/r/", Blob::new(seed, 30_000));
        (40..60).for_each(|seed| drop(store(seed)));
        gateway.program.stderr.wait_for(0, &["cannot record exchanges", "No space"]);
        disk.change("size=8m");
        store(60);
        gateway.stop();
        let recorded = exchanges(&folder);
        let last = body(&folder, recorded.last().unwrap().1["request"].as_table().unwrap());
        assert!(last == Some(Blob::new(60, 30_000).bytes()));
        // What did not fit left nothing behind.
        let bodies = fs::read_dir(&folder).unwrap().count() - recorded.len();
        assert_eq!(bodies, recorded.len());
    }

    // A folder that others can read.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = setup.command();
    command.arg("--record").arg(&folder);
    let error = tools::run(command).fails_with(1);
    assert!(error.contains("chmod 700"), "{error}");
}

//! Every restic command, with Debian's version and the newest: over HTTPS, which uses HTTP/2, over
//! plain HTTP, and through a Unix socket, which only the newer one supports. Each test uses one
//! repository through many steps, as people do; add a new command as a further step.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use keepgate_tests::data::Blob;
use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::program::Program;
use keepgate_tests::restic::{DEBIANS, NEWEST, Restic};
use keepgate_tests::s3::S3Server;
use keepgate_tests::tree;
use serde_json::Value;

/// A setup with alice and bob, who have repositories of their own.
fn people() -> Setup {
    Setup::new().user("alice", "secret").user("bob", "hunter2").mount(
        "/",
        "restic",
        "settings = { private_repos = true }",
    )
}

/// A folder to back up, `source`, in a folder of its own.
struct Work {
    folder: tempfile::TempDir,
    source: PathBuf,
}

impl Work {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        tree::make(&source);
        Self { folder, source }
    }

    #[track_caller]
    fn back_up(&self, restic: &Restic) {
        restic.run_in(self.folder.path(), &["backup", "source"]);
    }

    /// Interrupts a backup, like closing a laptop does: restic's lock stays.
    #[track_caller]
    fn leave_a_lock(&self, restic: &Restic, gateway: &Gateway, repository: &Path) {
        fs::write(self.source.join("not yet stored"), Blob::new(4711, 1 << 20).bytes()).unwrap();
        // 1 KiB per second.
        let slowly = ["backup", "--limit-upload", "1", "source"];
        let mut backup = Program::start(restic.command(self.folder.path(), &slowly));
        gateway.eventually("restic's lock", |_| count(repository, "locks") == 1);
        backup.kill();
    }
}

/// How many files of a kind a repository contains.
fn count(repository: &Path, kind: &str) -> usize {
    tree::blobs(&repository.join(kind)).len()
}

/// The ids of snapshots, oldest first.
fn snapshots(restic: &Restic) -> Vec<String> {
    let listed = restic.json(&["snapshots"]);
    let id = |snapshot: &Value| snapshot["id"].as_str().unwrap().to_owned();
    listed.as_array().unwrap().iter().map(id).collect()
}

#[test]
fn debians_restic_works_over_every_transport() {
    by_every_way_in(DEBIANS);
}

#[test]
fn the_newest_restic_works_over_every_transport() {
    by_every_way_in(NEWEST);
}

/// One repository, written, read, checked and pruned over each transport.
fn by_every_way_in(name: &str) {
    // Of all this output, only the HTTP/2 frames are looked at.
    let setup = people().tls().table("[log]\nlevel = \"debug\"");
    setup.write();
    let socket = setup.path("socket");
    setup.edit(|text| {
        let further = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n\n[[listener]]\naddress = \"unix:{}\"\n\n",
            socket.display()
        );
        text.replace("[admin]", &format!("{further}[admin]"))
    });
    let gateway = setup.start();
    let status = gateway.status();
    let plain = status["listeners"][1].as_str().unwrap().to_owned();
    let mut ways = vec![
        ("HTTPS", gateway.repository("alice:secret@", "/alice/laptop/"), true),
        ("HTTP", format!("rest:http://alice:secret@{plain}/alice/laptop/"), false),
    ];
    if name == NEWEST {
        let url = format!("rest:http+unix://alice:secret@{}:/alice/laptop/", socket.display());
        ways.push(("Unix socket", url, false));
    }

    let check = format!("{name} by every way in");
    let Some(restic) = Restic::find_as(name, &check, ways[0].1.clone()) else { return };
    let mut restic = restic.trusting(&setup.certificate());
    let work = Work::new();
    restic.run(&["init"]);
    work.back_up(&restic);
    tree::change(&work.source);
    for (number, (way, url, by_http2)) in (1..).zip(ways) {
        let frames = || {
            let said = gateway.program.stderr.text();
            said.matches("received frame=Headers").count()
        };
        let before = frames();
        restic = restic.at(url);
        fs::write(work.source.join(way), Blob::new(number, 2 << 20).bytes()).unwrap();
        work.back_up(&restic);
        assert_eq!(restic.snapshots(), 2, "{way}");
        restic.assert_restores(&work.source);
        restic.run(&["forget", "--keep-last", "1", "--prune"]);
        restic.run(&["check", "--read-data"]);
        let by_frames = frames() - before;
        // A request has one of these frames, and there were dozens of requests.
        assert!(if by_http2 { by_frames > 30 } else { by_frames == 0 }, "{way}: {by_frames}");
    }
    assert_eq!(restic.snapshots(), 1);
    gateway.stop();
}

#[test]
fn every_command_of_debians_restic() {
    every_command(DEBIANS, people());
}

#[test]
fn every_command_of_the_newest_restic() {
    every_command(NEWEST, people());
}

#[test]
fn every_command_of_debians_restic_in_a_bucket() {
    let Some(server) = S3Server::find("every command of restic in a bucket") else { return };
    every_command(DEBIANS, people().in_bucket(&server, "bucket", ""));
}

#[test]
fn every_command_of_the_newest_restic_in_a_bucket() {
    let check = "every command of the newest restic in a bucket";
    let Some(server) = S3Server::find(check) else { return };
    every_command(NEWEST, people().in_bucket(&server, "bucket/deep/down", ""));
}

fn every_command(name: &str, setup: Setup) {
    let setup = setup.tls();
    let gateway = setup.start();
    let check = format!("every command of {name}");
    let url = gateway.repository("alice:secret@", "/alice/");
    let Some(alice) = Restic::find_as(name, &check, url.clone()) else { return };
    let alice = alice.trusting(&setup.certificate());
    let work = Work::new();
    let repository = setup.store().join("alice");

    // As created by restic before 0.14; `migrate` replaces `config`.
    alice.run(&["init", "--repository-version", "1"]);
    fs::write(work.source.join("note"), "twice upon a time\n").unwrap();
    work.back_up(&alice);
    alice.run(&["migrate", "upgrade_repo_v2"]);
    assert_eq!(alice.json(&["cat", "config"])["version"], 2);

    work.leave_a_lock(&alice, &gateway, &repository);
    let (_, said) = alice.fails(&["prune"]);
    assert!(said.contains("already locked"), "{said}");
    alice.run(&["unlock"]);
    assert_eq!(count(&repository, "locks"), 0);

    tree::change(&work.source);
    work.back_up(&alice);
    look_around(&alice, &work);
    keys(&alice, &work, if name == NEWEST { 12 } else { 1 });
    to_another_user(name, &setup, &gateway, &alice, &work);
    let nowhere = alice.at(gateway.repository("alice:secret@", "/alice/none/"));
    let (code, _) = nowhere.fails(&["cat", "config"]);
    assert_eq!(code, if name == NEWEST { 10 } else { 1 }, "no such repository");
    clean_up(&alice, &work, &repository);

    // A lost index is rebuilt from the packs.
    for file in tree::blobs(&repository.join("index")) {
        fs::remove_file(repository.join("index").join(file)).unwrap();
    }
    alice.fails(&["check"]);
    let again: &[&str] = if name == NEWEST { &["repair", "index"] } else { &["rebuild-index"] };
    alice.run(again);
    alice.run(&["check", "--read-data"]);
    alice.assert_restores(&work.source);
    if name == NEWEST {
        rewrite(&alice);
        repair(&alice, &work, &repository);
    }
    gateway.stop();
}

/// Commands that only read, and `tag`, which replaces snapshots.
fn look_around(restic: &Restic, work: &Work) {
    let ids = snapshots(restic);
    let [old, new] = &ids[..] else { panic!("{ids:?}") };
    let said = restic.run(&["diff", old, new]);
    for line in ["+    /source/new", "-    /source/a/small-17", "M    /source/a/plain.txt"] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    let found = restic.json(&["find", "small-17"]);
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found[0]["snapshot"].as_str(), Some(old.as_str()));
    assert!(restic.run(&["ls", "latest"]).lines().any(|line| line == "/source/moved/d/e/f"));
    assert_eq!(restic.json(&["cat", "snapshot", new])["parent"].as_str(), Some(old.as_str()));
    assert_eq!(restic.run(&["dump", "latest", "/source/note"]), "twice upon a time\n");
    let files = restic.json(&["stats", "latest"])["total_file_count"].as_u64().unwrap();
    assert!(files > tree::files(&work.source).len() as u64, "{files}: folders and links as well");
    restic.run(&["tag", "--add", "keep", "latest"]);
    let tagged = restic.json(&["snapshots", "--tag", "keep"]);
    assert_eq!(tagged.as_array().unwrap().len(), 1, "{tagged}");
    assert_eq!(restic.snapshots(), 2);
}

/// Passwords are added and removed; `refused` is restic's exit code for a wrong one.
fn keys(restic: &Restic, work: &Work, refused: i32) {
    let file = |name: &str| work.folder.path().join(name);
    let (second, third) = (file("second"), file("third"));
    fs::write(&second, "second").unwrap();
    fs::write(&third, "third").unwrap();
    let as_second = ["cat", "config", "--password-file", text(&second)];
    let as_third = ["cat", "config", "--password-file", text(&third)];
    assert_eq!(restic.fails(&as_second).0, refused);
    restic.run(&["key", "add", "--new-password-file", text(&second)]);
    restic.run(&as_second);
    let change = ["key", "passwd", "--new-password-file", text(&third)];
    restic.run(&[&change[..], &["--password-file", text(&second)]].concat());
    assert_eq!(restic.fails(&as_second).0, refused);
    restic.run(&as_third);
    let listed = restic.json(&["key", "list"]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    let other = listed.iter().find(|key| key["current"] == false).unwrap();
    restic.run(&["key", "remove", other["id"].as_str().unwrap()]);
    assert_eq!(restic.fails(&as_third).0, refused);
}

/// Bob gets a copy of alice's snapshots, and alice cannot read his repository.
fn to_another_user(name: &str, setup: &Setup, gateway: &Gateway, alice: &Restic, work: &Work) {
    let bobs = gateway.repository("bob:hunter2@", "/bob/copy/");
    let bob = Restic::find_as(name, "a copy for another user", bobs).unwrap();
    let bob = bob.trusting(&setup.certificate());
    let from = ["--from-repo", alice.repository()];
    bob.run(&[&["init", "--copy-chunker-params"], &from[..]].concat());
    bob.run(&[&["copy"], &from[..]].concat());
    assert_eq!(bob.snapshots(), 2);
    bob.run(&["check", "--read-data"]);
    bob.assert_restores(&work.source);
    let not_hers = alice.at(gateway.repository("alice:secret@", "/bob/copy/"));
    let (_, said) = not_hers.fails(&["cat", "config"]);
    assert!(said.contains("401"), "{said}");
}

/// Many small packs are merged, and a forgotten snapshot is recovered while its data exists.
fn clean_up(restic: &Restic, work: &Work, repository: &Path) {
    // restic does not touch small packs if there are fewer than ten.
    while count(repository, "data") < 14 {
        fs::write(work.source.join("note"), Blob::new(1, restic.snapshots() as u64).bytes())
            .unwrap();
        work.back_up(restic);
    }
    restic.run(&["prune", "--repack-small"]);
    let packs = count(repository, "data");
    assert!(packs < 10, "{packs} packs of fourteen");
    let before = snapshots(restic);
    // Only one, because restic 0.19's `recover` sometimes fails if there are several.
    restic.run(&["forget", &before[0]]);
    restic.run(&["recover"]);
    let ids = snapshots(restic);
    assert_eq!(ids.len(), before.len(), "the forgotten snapshot was recovered");
    restic.run(&["forget", &ids[ids.len() - 1]]);
    restic.run(&["forget", "--keep-last", "1", "--prune"]);
    assert_eq!(restic.snapshots(), 1);
}

/// A snapshot without some of its files, beside the original.
fn rewrite(restic: &Restic) {
    restic.run(&["rewrite", "--exclude", "small-*", "latest"]);
    let made =
        restic.json(&["snapshots", "--tag", "rewrite"])[0]["id"].as_str().unwrap().to_owned();
    let listed = restic.run(&["ls", &made]);
    assert!(!listed.contains("small-") && listed.contains("/source/new"), "{listed}");
    restic.run(&["forget", &made]);
    assert_eq!(restic.snapshots(), 1);
}

/// A disk loses some bytes: restic notices it, repairs what is left and stores the rest again.
fn repair(restic: &Restic, work: &Work, repository: &Path) {
    let data = repository.join("data");
    let size = |file: &PathBuf| fs::metadata(data.join(file)).unwrap().len();
    let pack = tree::blobs(&data).into_iter().max_by_key(size).unwrap();
    let mut bytes = fs::read(data.join(&pack)).unwrap();
    bytes[1000..2000].fill(0);
    fs::set_permissions(data.join(&pack), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(data.join(&pack), bytes).unwrap();

    let (_, said) = restic.fails(&["check", "--read-data"]);
    let id = pack.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(id), "{said}");
    // It keeps a copy of the pack in its working directory.
    restic.run_in(work.folder.path(), &["repair", "packs", id]);
    restic.run(&["repair", "snapshots", "--forget"]);
    work.back_up(restic);
    restic.run(&["check", "--read-data"]);
    restic.assert_restores(&work.source);
}

/// `append_only` tests Debian's, which would retry for a quarter of an hour.
#[test]
fn append_only_ends_the_newest_restics_retries() {
    let policy = "policy = { append_only = true, except = [\"**/locks/*\"] }";
    let setup = Setup::new().mount("/", "restic", policy);
    let gateway = setup.start();
    let url = gateway.repository("", "/safe/");
    let check = "the newest restic with an append-only repository";
    let Some(restic) = Restic::find_as(NEWEST, check, url) else { return };
    let (work, repository) = (Work::new(), setup.store().join("safe"));
    restic.run(&["init"]);
    work.back_up(&restic);
    tree::change(&work.source);
    work.back_up(&restic);

    let before = tree::files(&repository);
    for refused in [
        &["forget", "--keep-last", "1", "--prune"][..],
        &["forget", &snapshots(&restic)[0], "--prune"],
        &["key", "passwd", "--new-insecure-no-password"],
    ] {
        let (_, said) = restic.fails(refused);
        assert!(said.contains("403"), "{refused:?}: {said}");
    }
    let after = tree::files(&repository);
    assert!(before.iter().all(|file| after.contains(file)), "a file is missing");
    assert_eq!(count(&repository, "locks"), 0);

    work.leave_a_lock(&restic, &gateway, &repository);
    restic.run(&["unlock"]);
    assert_eq!(count(&repository, "locks"), 0);
    work.back_up(&restic);
    restic.run(&["check", "--read-data"]);
    restic.assert_restores(&work.source);
    gateway.stop();
}

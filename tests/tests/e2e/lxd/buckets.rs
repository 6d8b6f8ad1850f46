//! What is in the bucket: lxmin's own layout, LXD's optimized format, and the script in `examples`.

use std::fs;
use std::process::Command;

use keepgate_tests::lxd::LxdServer;
use keepgate_tests::s3::{KEY, S3Server, SECRET};
use keepgate_tests::tools;
use serde_json::json;

use super::{back_up, end, objects, post, random, setup};

const PATH: &str = "/1.0/instances/c1/backups";

/// Backups that lxmin has written: `lxc export` made them, and any S3 client stored them.
#[test]
fn a_bucket_of_lxmin_is_listed_shown_restored_and_emptied() {
    let check = "a bucket of lxmin";
    let (Some(lxd), Some(server)) = (LxdServer::find(check), S3Server::find(check)) else { return };
    let Some(curl) = tools::find_for("curl", check) else { return };
    let setup = setup(&server, "").table(&lxd.by_socket());
    let data = random(500_000);
    lxd.instance("c1", &data);
    lxd.run(&["profile", "create", "p1"]);
    lxd.run(&["profile", "add", "c1", "p1"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    lxd.run(&["export", "c1", file("i").to_str().unwrap()]);
    fs::write(file("p"), lxd.run(&["profile", "show", "p1"])).unwrap();
    lxd.run(&["delete", "c1"]);
    lxd.run(&["profile", "delete", "p1"]);
    let put = |name: &str, from: &str, headers: &[&str]| {
        let mut command = Command::new(&curl);
        command.args(["--fail", "--silent", "--show-error"]);
        command.args(["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &format!("{KEY}:{SECRET}")]);
        command.args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
        for header in headers {
            command.args(["--header", header]);
        }
        command.arg("--upload-file").arg(file(from));
        command.arg(format!("{}/backups/c1/{name}", server.url()));
        tools::run(command).success();
    };
    // lxmin's names have local times and no number.
    let of_instance = ["x-amz-meta-optimized: false", "x-amz-meta-compressed: true"];
    for minute in ["1040", "1041"] {
        let base = format!("backup_2022-02-16-04-{minute}");
        put(&format!("{base}_instance.tar.gz"), "i", &of_instance);
        put(&format!("{base}_profile_000_default.yaml"), "p", &[]);
        put(&format!("{base}_profile_001_p1.yaml"), "p", &[]);
    }

    let gateway = setup.start();
    let endpoint = gateway.endpoint();
    let list = endpoint.get("/1.0/instances/*/backups").json()["metadata"].clone();
    assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
    let shown = endpoint.get(&format!("{PATH}/backup_2022-02-16-04-1040")).json();
    let info = &shown["metadata"];
    assert_eq!(info["name"], "backup_2022-02-16-04-1040.tar.gz");
    assert_eq!(info["size"], fs::metadata(file("i")).unwrap().len());
    assert_eq!((&info["compressed"], &info["optimized"]), (&json!(true), &json!(false)));
    let target = format!("{PATH}/backup_2022-02-16-04-1040.tar.gz");
    let restored = end(&endpoint, &post(&endpoint, &format!("{target}?start=false")));
    assert_eq!(restored["status"], "Success", "{restored}");
    assert!(fs::read(lxd.file("c1")).unwrap() == data);
    assert_eq!(endpoint.status("DELETE", &target), 200);
    let left = objects(&server, "c1");
    assert!(left.len() == 3 && left.iter().all(|name| name.contains("-1041_")), "{left:?}");
    gateway.stop();
}

/// Only pools with a file system of their own have it; others ignore the wish.
#[test]
fn an_optimized_backup_goes_back_to_a_pool_of_its_kind() {
    let check = "optimized backups of LXD";
    let (Some(lxd), Some(server)) = (LxdServer::find(check), S3Server::find(check)) else { return };
    if !lxd.make_btrfs_pool("fast", check) {
        return;
    }
    let gateway = setup(&server, "").table(&lxd.by_socket()).start();
    let endpoint = gateway.endpoint();
    lxd.run(&["init", "busybox", "c1", "--storage", "fast"]);
    lxd.run(&["snapshot", "c1", "s0"]);
    let base = back_up(&endpoint, &format!("{PATH}?optimize=true"));
    let target = format!("{PATH}/{base}");
    assert_eq!(endpoint.get(&target).json()["metadata"]["optimized"], true);
    let other = format!("{target}?as=c2&start=false&pool=default");
    let refused = end(&endpoint, &post(&endpoint, &other));
    assert_eq!(refused["status"], "Failure");
    assert!(refused["err"].as_str().unwrap().contains("differs from the target"), "{refused}");
    let same = format!("{target}?as=c2&start=false&pool=fast");
    let restored = end(&endpoint, &post(&endpoint, &same));
    assert_eq!(restored["status"], "Success", "{restored}");
    assert_eq!(lxd.get("/1.0/instances/c2/snapshots").as_array().unwrap().len(), 1);

    lxd.instance("c3", b"in the pool of the driver dir");
    let plain = back_up(&endpoint, "/1.0/instances/c3/backups?optimize=true");
    let plain = endpoint.get(&format!("/1.0/instances/c3/backups/{plain}")).json();
    assert_eq!(plain["metadata"]["optimized"], false);
    gateway.stop();
}

/// `examples/lxd/backups.py`, as people would run it.
#[test]
fn the_script_in_examples_backs_up_all_and_restores_one() {
    let check = "the example of backups of LXD";
    let (Some(lxd), Some(server)) = (LxdServer::find(check), S3Server::find(check)) else { return };
    let Some(python) = tools::find_for("python3", check) else { return };
    let gateway = setup(&server, "").table(&lxd.by_socket()).start();
    let data = random(100_000);
    lxd.instance("c1", &data);
    lxd.instance("c2", b"another");
    let script = |arguments: &[&str]| {
        let mut command = lxd.command(&python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/lxd/backups.py"));
        command.env("KEEPGATE", format!("http://127.0.0.1:{}", gateway.port())).args(arguments);
        // It finds `lxc` by the path.
        command.env("PATH", format!("{}:/usr/bin:/bin", lxd.programs().display()));
        tools::run(command)
    };
    let said = script(&["backup"]).success();
    assert!(said.contains("c1: stored backup_") && said.contains("c2: stored backup_"), "{said}");
    let said = script(&["restore", "c1", "--as", "c9", "--stopped"]).success();
    assert!(said.contains("c9: restored from backup_"), "{said}");
    assert!(fs::read(lxd.file("c9")).unwrap() == data);
    let said = script(&["restore", "c1", "--as", "c9"]).fails_with(1);
    assert!(said.contains("'c9' instance is already running by this name"), "{said}");
    let said = script(&["backup", "c1", "none"]).fails_with(1);
    assert!(said.contains("none: Instance not found"), "{said}");
    assert_eq!(objects(&server, "c1").len(), 4);
    gateway.stop();
}

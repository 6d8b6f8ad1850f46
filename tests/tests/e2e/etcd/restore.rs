//! A backup restores every key, in the ways that etcd's own manual describes.

use std::fs;
use std::process::Command;

use keepgate_tests::data::sha256;
use keepgate_tests::etcd::{Etcd, Member, assert_same_keys};
use keepgate_tests::tools;
use serde_json::Value;

use super::{LIST, details, list, name, setup, unpack};

const KEYS: u64 = 10_000;

/// A member with many keys, some of them changed and some deleted.
fn filled(etcd: &Etcd) -> Member {
    let member = etcd.start();
    member.fill(0, KEYS, 512);
    member.fill(0, 100, 700);
    member.put("größe-日本語", "with blanks\nand lines");
    member.put("empty", "");
    tools::run(member.control(&["del", "--prefix", "/registry/key-000099"])).success();
    member
}

#[test]
fn ten_thousand_keys_are_restored() {
    let check = "backups of etcd that are restored";
    for etcd in Etcd::each(check) {
        let Some(curl) = tools::find_for("curl", check) else { return };
        let curl = |arguments: &[&str], folder: &std::path::Path| {
            let mut command = Command::new(&curl);
            command.args(["--fail", "--silent", "--show-error"]).args(arguments);
            tools::run({
                command.current_dir(folder);
                command
            })
            .success()
        };
        for (settings, suffix) in
            [("", ".tar.gz"), ("settings = { format = \"db.gz\", level = 1 }", ".db.gz")]
        {
            let member = filled(&etcd);
            let before = member.dump();
            assert_eq!(u64::try_from(before.len()).unwrap(), KEYS - 100 + 2);
            let gateway = setup(&[member.url()], settings).start();
            let folder = tempfile::tempdir().unwrap();
            let url = format!("http://127.0.0.1:{}{LIST}", gateway.port());

            let said = curl(&["-XPOST", &url], folder.path());
            let answer: Value = serde_json::from_str(&said).unwrap();
            assert_eq!(answer["message"], "backup successfully", "{said}");
            let file = name(&answer);
            assert!(file.starts_with("snapshot-2") && file.ends_with(suffix), "{file}");
            assert_eq!(list(&gateway), [file.as_str()]);
            // A later change is not in the backup.
            member.put("later", "too late");

            curl(&["-O", "-XGET", &format!("{url}/{file}")], folder.path());
            let backup = folder.path().join(&file);
            assert_eq!(answer["filesize"], fs::metadata(&backup).unwrap().len());
            let digest = sha256(fs::File::open(&backup).unwrap());
            assert_eq!(answer["sha256"], digest);
            let snapshot = unpack(&backup, folder.path());
            let size = fs::metadata(&snapshot).unwrap().len();
            let known = &details(&gateway)[0];
            for facts in [&answer, known] {
                assert_eq!(facts["snapshot_size"], size, "{facts}");
                assert_eq!(facts["endpoint"], member.url(), "{facts}");
                assert!(facts["revision"].as_i64().unwrap() > 100, "{facts}");
                assert_eq!(facts["snapshot_sha256"].as_str().unwrap().len(), 64, "{facts}");
            }
            assert_eq!(known["keys"], before.len(), "{known}");
            assert_eq!(known["sha256"], digest, "{known}");

            // This counts all revisions of each key, or with the newest etcd only the last one.
            let status = etcd.snapshot_status(&snapshot);
            let total = status["totalKey"].as_u64().unwrap();
            assert!((before.len() as u64..KEYS + 1_000).contains(&total), "{status}");
            let restored = etcd.restore(&snapshot);
            assert_same_keys(&before, &restored.dump());
            // The restored member can be used.
            restored.put("later", "in time");
            assert_eq!(restored.dump().len(), before.len() + 1);
            gateway.stop();
        }
    }
}

/// The smallest possible snapshot.
#[test]
fn an_empty_cluster_is_restored() {
    let Some(etcd) = Etcd::debian("backups of an empty etcd") else { return };
    let member = etcd.start();
    let gateway = setup(&[member.url()], "").start();
    let folder = tempfile::tempdir().unwrap();
    let file = name(&super::back_up(&gateway));
    let backup = folder.path().join(&file);
    fs::write(&backup, gateway.endpoint().get(&format!("{LIST}/{file}")).body).unwrap();
    let restored = etcd.restore(&unpack(&backup, folder.path()));
    assert!(restored.dump().is_empty());
    gateway.stop();
}

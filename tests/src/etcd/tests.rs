//! Tests of the tests' own tools: what they say about a gateway is worth no more than this.

use std::io::Read as _;
use std::path::PathBuf;
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::data::hex;
use sha2::{Digest as _, Sha256};

fn save(member: &Member, folder: &TempDir) -> PathBuf {
    let file = folder.path().join("snapshot.db");
    tools::run(member.control(&["snapshot", "save", file.to_str().unwrap()])).success();
    file
}

#[test]
fn a_member_can_be_restored_from_its_own_snapshot() {
    for etcd in Etcd::each("the tests' own use of etcd") {
        let mut member = etcd.start();
        member.fill(0, 1_000, 300);
        member.fill(1_000, 3, 1 << 20);
        member.put("größe", "");
        let (folder, before) = (tempfile::tempdir().unwrap(), member.dump());
        assert_eq!(before.len(), 1_004);
        let file = save(&member, &folder);
        assert!(etcd.snapshot_status(&file)["totalKey"].as_u64().unwrap() >= 1_004);
        let bytes = std::fs::read(&file).unwrap();
        let (database, trailer) = bytes.split_at(bytes.len() - 32);
        assert_eq!(hex(&Sha256::digest(database)), hex(trailer));
        let restored = etcd.restore(&file);
        assert_same_keys(&before, &restored.dump());
        restored.put("another", "key");
        restored.put("größe", "another value");
        assert_eq!(differences(&before, &restored.dump()).len(), 2);
        assert_eq!(differences(&restored.dump(), &before).len(), 2);
        member.program.kill();
        member.start_again();
        assert_eq!(member.dump().len(), 1_004);
        member.demand_password("secret");
        assert_eq!(member.dump().len(), 1_004);
        member.knows_password("wrong");
        assert!(!tools::run(member.control(&["get", "x"])).status.success());
    }
}

#[test]
fn a_member_with_tls_requires_a_certificate() {
    for etcd in Etcd::each("the tests' own use of etcd with TLS") {
        let mut member = etcd.start_with_tls();
        member.put("key", "value");
        assert_eq!(member.dump().len(), 1);
        member.certificates = Some(Certificates::new());
        assert!(!tools::run(member.control(&["get", "key"])).status.success());
    }
}

#[test]
fn a_gate_holds_back_changes_and_cuts_responses() {
    let Some(etcd) = Etcd::debian("the tests' own gate") else { return };
    let member = etcd.start();
    member.fill(0, 20, 500_000);
    let gate = Gate::before(member.port());
    let (folder, file) = (tempfile::tempdir().unwrap(), "through-the-gate.db");
    let file = folder.path().join(file);
    let fetch = || {
        let mut command = Command::new(&etcd.control);
        command.args(["--endpoints", &gate.url(), "snapshot", "save"]).arg(&file);
        command.env("ETCDCTL_API", "3");
        tools::run(command)
    };
    fetch().success();
    gate.close_after(1 << 20);
    thread::scope(|scope| {
        let fetched = scope.spawn(fetch);
        gate.wait_until_closed();
        assert!(!fetched.is_finished());
        gate.open();
        fetched.join().unwrap().success();
    });
    gate.close_after(1 << 20);
    thread::scope(|scope| {
        let fetched = scope.spawn(fetch);
        gate.wait_until_closed();
        gate.cut();
        assert!(!fetched.join().unwrap().status.success());
    });
    // etcdctl does not notice: it saves whatever arrives.
    gate.flip_after(5_000_000);
    fetch().success();
    assert!(gate.has_flipped());
    let mut bytes = Vec::new();
    std::fs::File::open(&file).unwrap().read_to_end(&mut bytes).unwrap();
    let (database, trailer) = bytes.split_at(bytes.len() - 32);
    assert_ne!(hex(&Sha256::digest(database)), hex(trailer));
}

//! Members and disks that fail in the middle of a backup: it fails and says why, older backups stay,
//! and nothing is left of the failed one.

use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::client::Reply;
use keepgate_tests::etcd::{Etcd, Gate, Member};
use keepgate_tests::fault::{Tmpfs, descriptors};
use keepgate_tests::gateway::{Gateway, Setup};
use rustix::process::Signal;

use super::{
    LIST, assert_failed, assert_says, assert_store_has, assert_whole, back_up, cluster, list, name,
    setup, setup_with,
};

/// How much passes the gate before something happens.
const SOME: u64 = 2 << 20;

/// A member with a snapshot of some 16 MB behind a gate, and a gateway that has a backup of it.
struct Stage {
    member: Member,
    gate: Gate,
    setup: Setup,
    gateway: Gateway,
    kept: String,
}

fn stage(check: &str) -> Option<Stage> {
    let member = Etcd::debian(check)?.start();
    member.fill(0, 32, 500_000);
    let gate = Gate::before(member.port());
    let tables = cluster("main", &[gate.url()], "stall = \"2s\"");
    let setup = setup_with(&tables, "settings = { rotate = 1 }");
    let gateway = setup.start();
    let kept = name(&back_up(&gateway));
    Some(Stage { member, gate, setup, gateway, kept })
}

impl Stage {
    /// Requests a backup, and makes something happen in the middle of it.
    fn in_the_middle(&mut self, happen: impl FnOnce(&mut Member, &Gate)) -> Reply {
        self.gate.close_after(SOME);
        let client = self.gateway.endpoint();
        thread::scope(|scope| {
            let asked = scope.spawn(move || client.post(LIST, b""));
            self.gate.wait_until_closed();
            happen(&mut self.member, &self.gate);
            asked.join().unwrap()
        })
    }

    /// Checks that a backup failed for a reason with these words, and that everything is as before.
    #[track_caller]
    fn assert_unchanged(&self, reply: &Reply, words: &[&str]) {
        assert_says(&assert_failed(reply), words);
        assert_eq!(list(&self.gateway), [self.kept.as_str()]);
        assert_store_has(&self.setup, std::slice::from_ref(&self.kept));
        assert_whole(&self.gateway, &self.kept);
    }

    /// Checks that the next backup succeeds and replaces the previous one.
    #[track_caller]
    fn assert_goes_on(self) {
        let new = name(&back_up(&self.gateway));
        assert_whole(&self.gateway, &new);
        assert_store_has(&self.setup, &[new]);
        self.gateway.stop();
    }
}

#[test]
fn a_member_that_hangs_fails_the_backup() {
    let Some(mut stage) = stage("an etcd that hangs in the middle") else { return };
    let begun = Instant::now();
    let reply = stage.in_the_middle(|member, gate| {
        member.signal(Signal::STOP);
        gate.open();
    });
    // Two seconds after the last byte, as the message says, and not earlier.
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    stage.assert_unchanged(&reply, &[&stage.gate.url(), "2s"]);
    stage.member.signal(Signal::CONT);
    stage.assert_goes_on();
}

#[test]
fn a_member_that_dies_fails_the_backup() {
    let Some(mut stage) = stage("an etcd that dies in the middle") else { return };
    let reply = stage.in_the_middle(|member, gate| {
        member.program.kill();
        gate.open();
    });
    stage.assert_unchanged(&reply, &[&stage.gate.url()]);
    stage.member.start_again();
    stage.assert_goes_on();
}

#[test]
fn a_broken_connection_fails_the_backup() {
    let Some(mut stage) = stage("a network that breaks in the middle") else { return };
    for _ in 0..3 {
        let reply = stage.in_the_middle(|_, gate| gate.cut());
        stage.assert_unchanged(&reply, &[&stage.gate.url()]);
    }
    stage.assert_goes_on();
}

/// Not about TCP's own checksum: anything on the way may change bytes.
#[test]
fn a_changed_byte_fails_the_backup() {
    let Some(stage) = stage("a snapshot with a wrong byte") else { return };
    for place in [100_003, SOME, 7 << 20] {
        stage.gate.flip_after(place);
        let reply = stage.gateway.endpoint().post(LIST, b"");
        assert!(stage.gate.has_flipped());
        stage.assert_unchanged(&reply, &[&stage.gate.url()]);
    }
    stage.assert_goes_on();
}

/// Failures leave neither files nor open connections behind.
#[test]
fn many_failures_leak_nothing() {
    let Some(mut stage) = stage("many etcd backups that fail") else { return };
    let mut open = Vec::new();
    for _ in 0..20 {
        let reply = stage.in_the_middle(|_, gate| gate.cut());
        stage.assert_unchanged(&reply, &[]);
        stage.gateway.eventually("the end of all connections", |gateway| {
            gateway.metric("keepgate_http_connections") == 0.0
        });
        open.push(descriptors(&stage.gateway.program).len());
    }
    assert!(open.last().unwrap() <= &(open[2] + 3), "descriptors: {open:?}");
    stage.assert_goes_on();
}

#[test]
fn a_full_disk_fails_the_backup() {
    let check = "etcd backups to a full disk";
    let Some(etcd) = Etcd::debian(check) else { return };
    let member = etcd.start();
    member.fill(0, 4, 500_000);
    let setup = setup(&[member.url()], "settings = { rotate = 2 }");
    let Some(disk) = Tmpfs::mount(check, &setup.store(), "size=8m") else { return };
    let gateway = setup.start();
    let kept = name(&back_up(&gateway));
    member.fill(100, 30, 500_000);
    let free = disk.free();
    for _ in 0..3 {
        let error = assert_failed(&gateway.endpoint().post(LIST, b""));
        assert_says(&error, &["space"]);
        assert_eq!(list(&gateway), [kept.as_str()]);
        assert_store_has(&setup, std::slice::from_ref(&kept));
        assert_eq!(disk.free(), free);
    }
    assert_whole(&gateway, &kept);
    disk.change("size=64m");
    let new = name(&back_up(&gateway));
    assert_whole(&gateway, &new);
    assert_store_has(&setup, &[kept, new]);
    gateway.stop();
}

#[test]
fn a_used_up_quota_fails_the_backup() {
    let Some(etcd) = Etcd::debian("etcd backups over a quota") else { return };
    let member = etcd.start();
    member.fill(0, 4, 500_000);
    let setup = setup(&[member.url()], "policy = { quota = 8_000_000 }");
    let gateway = setup.start();
    let kept = name(&back_up(&gateway));
    member.fill(100, 30, 500_000);
    assert_says(&assert_failed(&gateway.endpoint().post(LIST, b"")), &["quota"]);
    assert_store_has(&setup, std::slice::from_ref(&kept));
    setup.edit(|text| text.replace("quota = 8_000_000", "quota = 80_000_000"));
    gateway.reload();
    let new = name(&back_up(&gateway));
    assert_store_has(&setup, &[kept, new]);
    gateway.stop();
}

/// On an append-only mount new backups are taken, and rotation reports that it may not delete.
#[test]
fn append_only_keeps_what_rotation_would_delete() {
    let Some(etcd) = Etcd::debian("etcd backups on an append-only mount") else { return };
    let member = etcd.start();
    member.fill(0, 10, 1_000);
    let further = "settings = { rotate = 1 }\npolicy = { append_only = true }";
    let gateway = setup(&[member.url()], further).start();
    let first = name(&back_up(&gateway));
    let answer = back_up(&gateway);
    assert!(answer["warning"].is_string(), "{answer}");
    assert_eq!(list(&gateway), [first.clone(), name(&answer)]);
    assert_eq!(gateway.endpoint().status("DELETE", &format!("{LIST}/{first}")), 403);
    gateway.stop();
}

//! Members and disks that give way in the middle of a backup: it fails and says why, what was there
//! is there, and of the half nothing is left.

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

/// What comes through the gate before something happens.
const SOME: u64 = 2 << 20;

/// A member with a snapshot of some 16 MB, behind a gate, and a gateway with a backup of it.
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
    /// Asks for a backup, and has something happen in the middle of it.
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

    /// That a backup failed for a reason with these words, and everything is as it was.
    #[track_caller]
    fn assert_unchanged(&self, reply: &Reply, words: &[&str]) {
        assert_says(&assert_failed(reply), words);
        assert_eq!(list(&self.gateway), [self.kept.as_str()]);
        assert_store_has(&self.setup, std::slice::from_ref(&self.kept));
        assert_whole(&self.gateway, &self.kept);
    }

    /// That the next backup is fine, and takes the place of the one before.
    #[track_caller]
    fn assert_goes_on(self) {
        let new = name(&back_up(&self.gateway));
        assert_whole(&self.gateway, &new);
        assert_store_has(&self.setup, &[new]);
        self.gateway.stop();
    }
}

#[test]
fn a_member_that_hangs() {
    let Some(mut stage) = stage("an etcd that hangs in the middle") else { return };
    let begun = Instant::now();
    let reply = stage.in_the_middle(|member, gate| {
        member.signal(Signal::STOP);
        gate.open();
    });
    // Two seconds after the last byte.
    let took = begun.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(20)).contains(&took), "{took:?}");
    stage.assert_unchanged(&reply, &[&stage.gate.url(), "2s"]);
    stage.member.signal(Signal::CONT);
    stage.assert_goes_on();
}

#[test]
fn a_member_that_dies() {
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
fn a_network_that_breaks() {
    let Some(mut stage) = stage("a network that breaks in the middle") else { return };
    for _ in 0..3 {
        let reply = stage.in_the_middle(|_, gate| gate.cut());
        stage.assert_unchanged(&reply, &[&stage.gate.url()]);
    }
    stage.assert_goes_on();
}

/// No test of TCP's own checksum: whatever is in the way may change bytes.
#[test]
fn a_byte_that_changes_on_the_way() {
    let Some(stage) = stage("a snapshot with a wrong byte") else { return };
    for place in [100_003, SOME, 7 << 20] {
        stage.gate.flip_after(place);
        let reply = stage.gateway.endpoint().post(LIST, b"");
        assert!(stage.gate.has_flipped());
        stage.assert_unchanged(&reply, &[&stage.gate.url()]);
    }
    stage.assert_goes_on();
}

/// Failures leave neither files nor connections open.
#[test]
fn many_failures_cost_nothing() {
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
fn a_full_disk() {
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
fn a_quota_that_is_used_up() {
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

/// On an append-only mount new backups are taken, and rotation, which may not, says so.
#[test]
fn append_only_keeps_what_rotation_would_take() {
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

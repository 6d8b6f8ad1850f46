//! `kill -9` of the gateway in the middle of backups: the listed backups are whole afterwards, and none
//! is lost before a newer one is safe.

use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::data::Random;
use keepgate_tests::etcd::{Etcd, Gate, Member};
use keepgate_tests::fault::Strace;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::LONG;
use keepgate_tests::tools;

use super::{
    LIST, assert_no_leftovers, assert_whole, assert_whole_file, back_up, details, list, name,
    setup, stored,
};

const ROUNDS: u64 = 60;
/// How many backups rotation keeps.
const KEPT: usize = 4;

/// Takes backups one after another until the gateway is killed. Returns the names that were
/// acknowledged.
fn backups_until_killed(gateway: &mut Gateway, delay: Duration) -> Vec<String> {
    let client = gateway.endpoint();
    let (begin, begun) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let asked = scope.spawn(move || {
            let mut acknowledged = Vec::new();
            let mut connection = client.connect();
            begin.send(()).unwrap();
            while let Ok(reply) = connection.send("POST", LIST, &[], b"") {
                acknowledged.push(name(&super::taken(&reply)));
            }
            acknowledged
        });
        begun.recv().unwrap();
        thread::sleep(delay);
        gateway.program.kill();
        asked.join().unwrap()
    })
}

/// Checks that every listed backup is whole, and that those missing from `before` were older than all
/// that are left. Returns the list.
#[track_caller]
fn look(
    setup: &Setup,
    gateway: &Gateway,
    before: &[String],
    acknowledged: &[String],
) -> Vec<String> {
    // A job that was queued and had not begun is run by the next gateway.
    gateway.eventually("the end of what was queued", |gateway| {
        let jobs = &gateway.status()["jobs"];
        jobs["queued"] == 0 && jobs["running"] == 0
    });
    let now = list(gateway);
    assert_no_leftovers(setup);
    assert!(stored(setup).iter().all(|file| now.contains(file)), "{:?}: {now:?}", stored(setup));
    assert!(now.len() >= before.len().min(KEPT), "{before:?} became {now:?}");
    let gone = before.iter().chain(acknowledged).filter(|name| !now.contains(name));
    for name in gone {
        assert!(now.len() >= KEPT && *name < now[0], "{name} is lost: {now:?}");
    }
    for name in now.iter().filter(|name| !before.contains(name)) {
        assert_whole_file(gateway, name);
    }
    now
}

#[test]
fn backups_survive_a_kill_at_a_random_moment() {
    let Some(etcd) = Etcd::debian("kill -9 during etcd backups") else { return };
    let _turn = tools::one_at_a_time();
    let member = etcd.start();
    member.fill(0, 8, 250_000);
    let setup = setup(&[member.url()], &format!("settings = {{ rotate = {KEPT}, level = 1 }}"));
    let mut gateway = setup.start();
    let begun = Instant::now();
    let mut known = vec![name(&back_up(&gateway))];
    let (mut acknowledged, mut random) = (0, Random::new(0xe7cd));
    for _ in 0..ROUNDS {
        let delay = Duration::from_micros(random.below(400_000));
        let answered = backups_until_killed(&mut gateway, delay);
        acknowledged += answered.len();
        drop(gateway);
        gateway = setup.start();
        known = look(&setup, &gateway, &known, &answered);
    }
    // The next backup cleans up whatever was left for a moment.
    let last = name(&back_up(&gateway));
    let now = list(&gateway);
    assert!(now.len() == KEPT && now.last() == Some(&last), "{now:?}");
    for name in &now {
        assert_whole_file(&gateway, name);
    }
    assert_eq!(details(&gateway).len(), KEPT);
    gateway.stop();
    tools::report(&format!(
        "etcd: {ROUNDS} times kill -9 in {:.0?}, {acknowledged} backups acknowledged, 0 lost, 0 wrong",
        begun.elapsed(),
    ));
    assert!(acknowledged > 5, "{acknowledged} backups are too few");
}

fn gated(check: &str) -> Option<(Member, Gate, Setup)> {
    let member = Etcd::debian(check)?.start();
    member.fill(0, 16, 500_000);
    let gate = Gate::before(member.port());
    let setup = setup(&[gate.url()], "settings = { rotate = 1 }");
    Some((member, gate, setup))
}

/// Whatever becomes of the job: it is over, or it starts again from the beginning.
#[test]
fn backups_survive_a_kill_in_the_middle_of_one() {
    let Some((_member, gate, setup)) = gated("kill -9 in the middle of an etcd backup") else {
        return;
    };
    let mut gateway = setup.start();
    let mut kept = name(&back_up(&gateway));
    for through in [0, 100, 70_000, 1 << 20, 5 << 20] {
        gate.close_after(through);
        let client = gateway.endpoint();
        thread::scope(|scope| {
            let asked = scope.spawn(move || client.connect().send("POST", LIST, &[], b""));
            gate.wait_until_closed();
            gateway.program.kill();
            assert!(asked.join().unwrap().is_err());
        });
        assert_eq!(stored(&setup).into_iter().collect::<Vec<_>>(), [kept.as_str()], "{through}");
        drop(gateway);
        gateway = setup.start();
        assert_no_leftovers(&setup);
        assert_eq!(list(&gateway), [kept.as_str()], "{through}");
        assert_whole(&gateway, &kept);
        gate.open();
        kept = name(&back_up(&gateway));
        assert_eq!(list(&gateway), [kept.as_str()], "{through}");
    }
    gateway.stop();
}

/// Kills the gateway once at each of the calls that complete a backup.
#[test]
fn backups_survive_a_kill_at_each_final_step() {
    let check = "kill -9 at the last steps of an etcd backup";
    let Some((_member, gate, setup)) = gated(check) else { return };
    let mut gateway = setup.start();
    let mut known = vec![name(&back_up(&gateway))];
    for calls in ["fsync,fdatasync", "linkat,renameat2,renameat,rename", "unlinkat,unlink"] {
        for when in 1..=4 {
            gate.close_after(3 << 20);
            let client = gateway.endpoint();
            let asked = thread::spawn(move || client.connect().send("POST", LIST, &[], b""));
            gate.wait_until_closed();
            let inject = format!("{calls}:signal=KILL:when={when}");
            let Some(strace) = Strace::attach(check, &gateway.program, &inject) else {
                gate.open();
                let _ = asked.join();
                return;
            };
            gate.open();
            let answer = asked.join().unwrap();
            // Calls are counted for each thread, so the last ones may not be reached.
            let acknowledged = answer.is_ok();
            if acknowledged {
                gateway.program.kill();
            } else {
                gateway.program.wait(LONG);
            }
            strace.detach();
            let answered: Vec<_> = answer.iter().map(|reply| name(&super::taken(reply))).collect();
            drop(gateway);
            gateway = setup.start();
            let now = list(&gateway);
            assert_no_leftovers(&setup);
            for name in &now {
                assert_whole_file(&gateway, name);
            }
            // One is kept: the old one until the new one is safe.
            let newest = answered.last().unwrap_or(&known[known.len() - 1]);
            assert!(now.last().is_some_and(|last| last >= newest), "{newest} is lost: {now:?}");
            known = now;
        }
    }
    gateway.stop();
}

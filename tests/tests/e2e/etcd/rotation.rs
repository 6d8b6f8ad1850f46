//! The right old backups are removed, only after the new one is safe, and never anything that is not a
//! backup.

use std::fs;

use keepgate_tests::data::Blob;
use keepgate_tests::etcd::{Etcd, Member};
use keepgate_tests::gateway::Setup;

use super::{
    LIST, assert_failed, assert_store_has, back_up, check, list, name, run, setup, stored,
};

fn filled(check: &str) -> Option<Member> {
    let member = Etcd::debian(check)?.start();
    member.fill(0, 100, 1_000);
    Some(member)
}

/// Adds a file as a person or another program would.
fn place(setup: &Setup, name: &str) {
    fs::write(setup.store().join(name), Blob::new(1, 1_000).bytes()).unwrap();
}

#[test]
fn the_configured_number_is_kept() {
    let Some(member) = filled("rotation of etcd backups") else { return };
    let setup = setup(&[member.url()], "settings = { rotate = 2 }");
    let gateway = setup.start();
    let names: Vec<_> = (0..3).map(|_| name(&back_up(&gateway))).collect();
    assert_eq!(list(&gateway), names[1..]);
    assert_store_has(&setup, &names[1..]);
    assert_eq!(gateway.endpoint().get(&format!("{LIST}/{}", names[0])).status, 404);
    gateway.stop();
}

/// Names ascend even if the previous ones were deleted within the same second, so the last one in the
/// list is the newest, and rotation removes the oldest.
#[test]
fn a_name_is_not_reused() {
    let Some(member) = filled("names of etcd backups within a second") else { return };
    let gateway = setup(&[member.url()], "settings = { rotate = 2, level = 1 }").start();
    let mut last = String::new();
    for _ in 0..20 {
        let new = name(&back_up(&gateway));
        assert!(new > last, "{new} was made after {last}");
        let both = if last.is_empty() { vec![new.clone()] } else { vec![last, new.clone()] };
        assert_eq!(list(&gateway), both);
        last = new;
    }
    gateway.stop();
}

/// Like etcd-backup, 14 by default.
#[test]
fn fourteen_are_kept_by_default() {
    let Some(member) = filled("rotation of etcd backups, by default") else { return };
    let setup = setup(&[member.url()], "");
    let gateway = setup.start();
    let names: Vec<_> = (0..15).map(|_| name(&back_up(&gateway))).collect();
    assert_eq!(list(&gateway), names[1..]);
    gateway.stop();
}

#[test]
fn files_of_other_programs_are_rotated_by_name_and_other_files_left_alone() {
    let Some(member) = filled("rotation of files that others made") else { return };
    let setup = setup(&[member.url()], "settings = { rotate = 3 }");
    // By the time of its arrival, the second one is the oldest.
    let old = [
        "snapshot-20190203_040506.db.gz",
        "snapshot-20181220_024105.tar.gz",
        "snapshot-20190101_000000.tar.gz",
        "snapshot-20190101_000000_02.tar.gz",
    ];
    let others = [
        "README",
        "snapshot.tar.gz",
        "snapshot-20181220_024105.tar.gz.part",
        "snapshot-2018.db.gz",
    ];
    for name in old.iter().chain(&others) {
        place(&setup, name);
    }
    fs::create_dir(setup.store().join("folder")).unwrap();
    place(&setup, "folder/snapshot-20170101_000000.tar.gz");
    let gateway = setup.start();
    let mut sorted = old.to_vec();
    sorted.sort_unstable();
    assert_eq!(list(&gateway), sorted);
    let read = gateway.endpoint().get(&format!("{LIST}/{}", old[0]));
    assert_eq!((read.status, read.body), (200, Blob::new(1, 1_000).bytes()));
    // Listing removes nothing.
    assert_eq!(list(&gateway).len(), 4);

    let new = name(&back_up(&gateway));
    assert_eq!(list(&gateway), [sorted[2], sorted[3], &new]);
    let newer = name(&back_up(&gateway));
    assert_eq!(list(&gateway), [sorted[3], &new, &newer]);
    let stored = stored(&setup);
    for other in others.iter().chain(&["folder/snapshot-20170101_000000.tar.gz"]) {
        assert!(stored.contains(*other), "{other} is gone");
    }
    gateway.stop();
}

#[test]
fn days_weeks_and_months_are_kept() {
    let Some(member) = filled("rotation of etcd backups by days and months") else { return };
    let keep = "settings = { keep = { last = 1, daily = 2, weekly = 2, monthly = 3 } }";
    let setup = setup(&[member.url()], keep);
    for name in [
        "snapshot-20200101_000000.tar.gz",
        "snapshot-20200131_120000.tar.gz",
        "snapshot-20200201_010000.tar.gz",
        "snapshot-20200201_120000.tar.gz",
        "snapshot-20200301_000000.tar.gz",
        "snapshot-20200302_010000.tar.gz",
        "snapshot-20200302_230000.tar.gz",
    ] {
        place(&setup, name);
    }
    let gateway = setup.start();
    let new = name(&back_up(&gateway));
    // The newest of today, of the last day before, and of the month before that.
    assert_eq!(
        list(&gateway),
        ["snapshot-20200201_120000.tar.gz", "snapshot-20200302_230000.tar.gz", &new]
    );
    gateway.stop();
}

#[test]
fn young_backups_are_kept() {
    let Some(member) = filled("rotation of etcd backups by age") else { return };
    let setup = setup(&[member.url()], "settings = { keep = { within = \"7d\" } }");
    let ago = |words: &str| {
        let stamp = run("date", &["--utc", "--date", words, "+%Y%m%d_%H%M%S"]);
        format!("snapshot-{}.tar.gz", stamp.trim())
    };
    let (old, young, younger) = (ago("8 days ago"), ago("6 days ago"), ago("1 hour ago"));
    for name in [&old, &young, &younger] {
        place(&setup, name);
    }
    let gateway = setup.start();
    let new = name(&back_up(&gateway));
    assert_eq!(list(&gateway), [young, younger, new]);
    gateway.stop();
}

#[test]
fn a_failed_backup_removes_nothing() {
    let Some(mut member) = filled("rotation after etcd backups that fail") else { return };
    let setup = setup(&[member.url()], "settings = { rotate = 1 }");
    let gateway = setup.start();
    let kept = name(&back_up(&gateway));
    member.program.kill();
    for _ in 0..3 {
        assert_failed(&gateway.endpoint().post(LIST, b""));
        assert_eq!(list(&gateway), [kept.as_str()]);
    }
    member.start_again();
    let newer = name(&back_up(&gateway));
    assert_store_has(&setup, &[newer]);
    gateway.stop();
}

#[test]
fn settings_that_would_keep_nothing_are_rejected() {
    let endpoints = ["http://127.0.0.1:1".to_owned()];
    for (settings, word) in [
        ("{ rotate = 0 }", "rotate"),
        ("{ rotate = -1 }", "rotate"),
        ("{ keep = {} }", "keep"),
        ("{ keep = { daily = 0 } }", "keep"),
        ("{ rotate = 3, keep = { last = 3 } }", "keep"),
        ("{ format = \"zip\" }", "format"),
        ("{ level = 10 }", "level"),
        ("{ wait = \"soon\" }", "wait"),
        ("{ rotat = 3 }", "rotat"),
    ] {
        let setup = setup(&endpoints, &format!("settings = {settings}"));
        let finished = check(&setup, &[]);
        assert_eq!(finished.status.code(), Some(1), "{settings}: {}", finished.stdout);
        let wrong = finished.stdout.lines().find(|line| line.starts_with("wrong: "));
        assert!(wrong.is_some_and(|line| line.contains(word)), "{settings}: {}", finished.stdout);
    }
}

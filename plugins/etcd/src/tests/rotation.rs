//! Rotation over a store; the rules themselves are tested in `retain`.

use keepgate_sdk::Failure;

use super::*;

const DAY: u64 = 86_400 * SECOND;

#[test]
fn the_newest_stay_with_what_is_known_of_them() {
    let host = host(3, &json!({"rotate": 2}));
    let made: Vec<_> = (0..3).map(|number| backup_at(&host, NOW + number * SECOND)).collect();
    assert_eq!(names(&host), made[1..]);
    let sidecars = made[1..].iter().map(|name| format!("index/{name}.json"));
    assert_eq!(host.keys(), sidecars.chain(made[1..].iter().cloned()).collect::<Vec<_>>());
    let gone = send(&host, "GET", &format!("/api/v1/backup/{}", made[0]));
    assert_eq!(gone.status, 404);
    assert_eq!(host.count("etcd_backups_removed_total main rotation"), 1);
}

#[test]
fn names_that_were_rotated_away_are_not_used_again() {
    let host = host(5, &json!({"rotate": 2}));
    let made: Vec<_> = (0..5).map(|_| backup_at(&host, NOW)).collect();
    assert!(made.is_sorted_by(|a, b| a < b), "{made:?}");
    assert_eq!(names(&host), made[3..]);
}

#[test]
fn rules_by_time_hold_for_files_that_were_put_there() {
    let host = host(1, &json!({"keep": {"last": 1, "daily": 2, "monthly": 3}}));
    for stamp in ["20251031_120000", "20251130_120000", "20251231_120000", "20260130_000000"] {
        host.put(&format!("snapshot-{stamp}.db.gz"), b"by etcd-backup");
    }
    host.put("snapshot-20260130_120000.tar.gz", b"by hand");
    post(&host);
    assert_eq!(
        names(&host),
        [
            "snapshot-20251130_120000.db.gz",
            "snapshot-20251231_120000.db.gz",
            "snapshot-20260130_120000.tar.gz",
            FIRST,
        ]
    );
}

#[test]
fn other_files_are_left_alone() {
    let host = host(2, &json!({"rotate": 1}));
    let others = [
        "index/notes.json",
        "index/snapshot-20181220_024105.tar.gz",
        "notes.txt",
        "other/snapshot-20181220_024105.tar.gz",
        "snapshot-20181220_024105.tar.gz.part",
        "snapshot-20181399_024105.tar.gz",
    ];
    for key in others {
        host.put(key, b"x");
    }
    backup_at(&host, NOW);
    let kept = backup_at(&host, NOW + DAY);
    assert_eq!(names(&host), [kept.as_str()]);
    for key in others {
        assert!(host.blob(key).is_some(), "{key}");
    }
}

#[test]
fn sidecars_without_a_backup_are_swept() {
    let host = host(1, &json!({}));
    host.put("index/snapshot-20181220_024105.tar.gz.json", b"{}");
    host.put("snapshot-20181221_024105.tar.gz", b"x");
    host.put("index/snapshot-20181221_024105.tar.gz.json", b"{}");
    post(&host);
    let index: Vec<_> = host.keys().into_iter().filter(|key| key.starts_with("index/")).collect();
    assert_eq!(
        index,
        ["index/snapshot-20181221_024105.tar.gz.json".to_owned(), format!("index/{FIRST}.json")]
    );
}

#[test]
fn nothing_goes_where_the_backup_fails() {
    let host = host(2, &json!({"rotate": 1}));
    backup_at(&host, NOW);
    // As if an operator lowered `rotate`.
    host.put("snapshot-20181221_024105.tar.gz", b"x");
    host.full();
    assert_eq!(post(&host).status, 500);
    assert_eq!(names(&host).len(), 2);
}

#[test]
fn the_last_good_one_stays_beside_one_that_is_not() {
    let host = host(2, &json!({"rotate": 1}));
    let good = backup_at(&host, NOW);
    // The next one's sidecar cannot be written: it is there, but not known to be good.
    host.refuse_changes(|key| key.starts_with("index/snapshot-20260201"), Failure::NoSpace);
    let next = backup_at(&host, NOW + DAY);
    assert_eq!(names(&host), [good, next]);
}

#[test]
fn the_one_just_made_stays_though_the_clock_went_back() {
    let host = host(2, &json!({"rotate": 1}));
    let ahead = backup_at(&host, NOW + DAY);
    host.set_now(NOW);
    let said = json_of(&post(&host));
    assert_eq!(names(&host), [&ahead, FIRST], "the one just made, and the newest good one");
    let warning = said["warning"].as_str().unwrap();
    let count = "backups from the future, by this gateway's clock: 1, ";
    assert!(warning.starts_with(&format!("{count}the newest is {ahead};")), "{warning}");
}

#[test]
fn backups_from_the_future_neither_count_nor_go() {
    let host = host(8, &json!({"rotate": 3}));
    let ahead: Vec<_> = (0..3).map(|n| backup_at(&host, NOW + 1461 * DAY + n * SECOND)).collect();
    let made: Vec<_> = (0..4).map(|n| backup_at(&host, NOW + n * SECOND)).collect();
    // Scripts take the last one for the newest.
    assert_eq!(names(&host), [ahead.as_slice(), &made[1..]].concat());
    let details = json_of(&send(&host, "GET", "/api/v1/backup?details=true"));
    let details = details.as_array().unwrap().iter().map(|one| one["filename"].as_str().unwrap());
    assert_eq!(details.collect::<Vec<_>>(), names(&host));
    // By request they go, even the newest of them; the newest of the right time does not.
    let delete = |name: &str| send(&host, "DELETE", &format!("/api/v1/backup/{name}")).status;
    assert_eq!((delete(&ahead[2]), delete(&ahead[0]), delete(&made[3])), (204, 204, 409));
    assert_eq!(names(&host), [&ahead[1..2], &made[1..]].concat());
    // When its time has come it is one like the others.
    let last = backup_at(&host, NOW + 1462 * DAY);
    assert_eq!(names(&host), [made[3].clone(), ahead[1].clone(), last]);
}

#[test]
fn the_cause_that_names_a_path_is_in_the_log_only() {
    let host = host(2, &json!({"rotate": 1}));
    backup_at(&host, NOW);
    let why = "remove /srv/backup/a: Operation not permitted (os error 1)";
    host.refuse_changes(|key| key == FIRST, Failure::Internal(why.to_owned()));
    host.set_now(NOW + SECOND);
    let warning = json_of(&post(&host))["warning"].as_str().unwrap().to_owned();
    let what = format!("1 old backups stay: {FIRST} cannot be removed");
    assert_eq!(warning, format!("{what}: the store failed; the gateway's log says why"));
    let log = host.log();
    assert!(log.iter().any(|(_, line)| line.starts_with(&format!("{what}: {why}"))), "{log:?}");
}

#[test]
fn trouble_with_rotation_is_a_warning() {
    let host = host(3, &json!({"rotate": 1}));
    let old = backup_at(&host, NOW);
    host.refuse_changes(|key| key == FIRST, Failure::Unavailable("the bucket is away".to_owned()));
    host.set_now(NOW + SECOND);
    let reply = post(&host);
    let said = json_of(&reply);
    assert_eq!((reply.status, &said["message"]), (200, &json!("backup successfully")));
    let warning = said["warning"].as_str().unwrap();
    assert_eq!(warning, format!("1 old backups stay: {old} cannot be removed: the bucket is away"));
    assert_eq!(names(&host).len(), 2);
}

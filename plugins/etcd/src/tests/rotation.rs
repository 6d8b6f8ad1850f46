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
    assert_eq!(names(&host), [FIRST, &ahead], "the one just made, and the newest good one");
    let warning = said["warning"].as_str().unwrap();
    assert_eq!(warning, format!("the clock says that {ahead} is from the future"));
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

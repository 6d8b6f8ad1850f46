//! Paths: what each names, and that all others are not found.

use super::*;

#[test]
fn a_cluster_may_be_named() {
    let host = Host::new();
    for cluster in ["main", "other", "api"] {
        host.cluster(cluster, &[]);
    }
    let name = "snapshot-20181220_024105.tar.gz";
    for folder in ["", "other/", "api/"] {
        host.put(&format!("{folder}{name}"), b"x");
    }
    for (path, folder) in [("", ""), ("/main", ""), ("/other", "other/"), ("/api", "api/")] {
        let target = format!("{path}/api/v1/backup");
        assert_eq!(list(&host, &target), [name], "{target}");
        let deleted = send(&host, "DELETE", &format!("{target}/{name}"));
        assert_eq!(json_of(&deleted)["message"], "the last good backup is not removed");
        assert!(host.blob(&format!("{folder}{name}")).is_some());
        assert_eq!(send(&host, "GET", &format!("{target}/{name}")).status, 200);
        assert_eq!(send(&host, "PUT", &format!("{target}/jobs/01ABC")).status, 405);
    }
}

#[test]
fn other_paths_are_not_found() {
    let host = Host::new();
    for path in [
        "api",
        "api/v1",
        "api/v1/backupX",
        "api/v2/backup",
        "API/v1/backup",
        "/api/v1/backup",
        "./api/v1/backup",
        "../api/v1/backup",
        "a%2Fb/api/v1/backup",
        "a%00/api/v1/backup",
        ".keepgate/api/v1/backup",
        "a/b/api/v1/backup",
        "api/v1/backup/",
        "api/v1/backup/..",
        "api/v1/backup/jobs",
        "api/v1/backup/jobs/x/y",
        "api/v1/backup/index",
        "api/v1/backup/index/snapshot-20181220_024105.tar.gz.json",
        "api/v1/backup/..%2Fsnapshot-20181220_024105.tar.gz",
        "api/v1/backup/snapshot-20181220_024105.tar.gz.part",
    ] {
        for method in ["GET", "POST", "DELETE", "OPTIONS"] {
            let reply = send(&host, method, &format!("/{path}"));
            assert_eq!((reply.status, json_of(&reply)), (404, not_found()), "{method} {path}");
        }
    }
}

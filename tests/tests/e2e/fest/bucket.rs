//! Files in a bucket: whole, in ranges that are joined, resumed, and read back.

use keepgate_tests::s3::S3Server;

use super::*;

#[test]
fn files_are_kept_in_a_bucket() {
    let Some(server) = S3Server::find("fest in a bucket") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    tree(&source, 200);
    let setup = setup("").in_bucket(&server, "backups/fest", "");
    let gateway = setup.start();
    let fest = |arguments: &[&str]| fest(&gateway, "ann", folder.path(), arguments);
    let first = result(fest(&["--json", "backup", text(&source), "tree"]));
    assert_eq!(first["problems"], 0, "{first}");
    assert_eq!(result(fest(&["--json", "backup", text(&source), "tree"]))["sent_files"], 0);
    result(fest(&["--json", "restore", "tree", text(&target)]));
    assert_same(&source, &target);

    // Pieces of any length, in any order; those of a bucket's parts have a least length.
    let endpoint = gateway.as_user("ann", "annspassword");
    let bytes = Blob::new(8, 20_000_003).bytes();
    let (hash, total) = (sha256(bytes.as_slice()), bytes.len());
    let pieces = [(7_000_000, 14_999_999), (15_000_000, total - 1), (0, 4_999), (5_000, 7_100_000)];
    let statuses = pieces.map(|piece| put(&endpoint, &hash, &bytes, piece, total));
    assert_eq!(statuses, [202, 202, 202, 201]);
    let got = endpoint.get(&format!("/files/{hash}"));
    assert!(got.status == 200 && got.body == bytes);
    let part =
        endpoint.send("GET", &format!("/files/{hash}"), &[("range", "bytes=6999999-7100001")], b"");
    assert!(part.status == 206 && part.body == bytes[6_999_999..=7_100_001]);
    gateway.stop();
}

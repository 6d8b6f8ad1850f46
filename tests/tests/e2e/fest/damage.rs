//! Bytes that change on the disk: no client takes them for the file, and the next upload heals it.

use super::*;

/// The file below the store that has the bytes of a file of fest.
fn stored(setup: &Setup, hash: &str) -> PathBuf {
    let files = keepgate_tests::tree::files(&setup.store());
    let found = files.into_iter().find(|file| file.to_string_lossy().contains(hash));
    setup.store().join(found.unwrap())
}

#[test]
fn a_download_of_damaged_bytes_breaks_off_and_the_next_upload_heals_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    let bytes = Blob::new(3, 5_000_000).bytes();
    let hash = sha256(bytes.as_slice());
    write(&source.join("file"), &bytes);
    let setup = setup("");
    let gateway = setup.start();
    let fest = |arguments: &[&str]| fest(&gateway, "ann", folder.path(), arguments);
    result(fest(&["--json", "backup", text(&source), "tree"]));

    let file = stored(&setup, &hash);
    let mut damaged = bytes.clone();
    damaged[2_500_000] ^= 1;
    fs::write(&file, &damaged).unwrap();
    let endpoint = gateway.as_user("ann", "annspassword");
    let mut connection = endpoint.connect();
    connection.write_head("GET", &format!("/files/{hash}"), &[]).unwrap();
    let mut download = connection.download("GET").unwrap();
    let mut came = Vec::new();
    let end = std::io::Read::read_to_end(&mut download, &mut came);
    assert!(end.is_err() && came.len() < bytes.len(), "{end:?}, {} bytes", came.len());
    let missing = |gateway: &Gateway| {
        let endpoint = gateway.as_user("ann", "annspassword");
        endpoint.get("/manifests/tree").json()["files"]["./file"]["is_available"] == false
    };
    gateway.eventually("the file is taken out of the pool", missing);
    assert_eq!(endpoint.get(&format!("/files/{hash}")).status, 404);
    let told = tools::run(fest(&["restore", "tree", text(&target)])).fails_with(3);
    assert!(told.contains("damaged"), "{told}");

    let again = result(fest(&["--json", "backup", text(&source), "tree"]));
    assert_eq!(again["sent_files"], 1, "{again}");
    result(fest(&["--json", "restore", "tree", text(&target)]));
    assert_same(&source, &target);
    let log = gateway.program.stderr.text();
    assert!(log.contains("stored bytes are damaged") && log.contains(&hash), "{log}");
    gateway.stop();
}

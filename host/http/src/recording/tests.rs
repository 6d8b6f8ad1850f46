//! What a recorder writes, and when it stops.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};

use super::*;

/// One exchange with these bodies.
fn exchange(recorder: &Arc<Recorder>, reply: &[u8]) {
    let Some(mut recording) = recorder.begin() else { return };
    let request = Request::post("/r/config?token=geheim").header("x-api-key", "geheim").body(());
    let (head, ()) = request.unwrap().into_parts();
    recording.mount("/r", "restic", Some("abc"));
    recording.request(&head, None, std::iter::empty());
    let _ = recording.tap(keepgate_store::Body::empty());
    recording.response(StatusCode::OK, &HeaderMap::new());
    recording.sent(&Bytes::copy_from_slice(reply));
    recording.sent_all();
    recording.finish(std::time::Duration::from_millis(5));
}

fn private_folder() -> tempfile::TempDir {
    let mode = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir().unwrap()
}

fn files(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn exchanges_are_private_files_without_secrets() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/recording");
    let recorder = Recorder::open(&folder, RecordLimits::default()).unwrap();
    exchange(&recorder, b"short text");
    exchange(&recorder, b"\0\x01");
    drop(recorder);
    assert_eq!(files(&folder).len(), 3);
    let text = fs::read_to_string(folder.join("00000001-POST.toml")).unwrap();
    assert!(!text.contains("geheim"), "{text}");
    let value: toml::Table = text.parse().unwrap();
    assert_eq!(value["request"]["path"].as_str(), Some("/r/config"));
    assert_eq!(value["request"]["query"].as_str(), Some("token=REMOVED"));
    assert_eq!(value["expect"]["status"].as_integer(), Some(200));
    assert_eq!(value["expect"]["body"]["text"].as_str(), Some("short text"));
    assert_eq!(value["exchange"]["digest"].as_str(), Some("sha256:abc"));
    let removed = value["exchange"]["removed"].as_array().unwrap();
    assert_eq!(removed.len(), 2, "{removed:?}");
    assert_eq!(fs::read(folder.join("00000002-POST-reply.bin")).unwrap(), b"\0\x01");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in files(&folder) {
        assert_eq!(mode(&folder.join(&file)), 0o600, "{file}");
    }
    // The next recording goes on after it.
    let recorder = Recorder::open(&folder, RecordLimits::default()).unwrap();
    exchange(&recorder, b"");
    drop(recorder);
    assert!(files(&folder).contains("00000003-POST.toml"));
}

#[test]
fn a_folder_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = Recorder::open(folder.path(), RecordLimits::default()).unwrap_err().to_string();
    assert!(error.contains("chmod 700"), "{error}");
}

#[test]
fn bounds_hold_also_over_several_recordings() {
    let folder = private_folder();
    let limits = RecordLimits { exchanges: 3, ..RecordLimits::default() };
    for _ in 0..2 {
        let recorder = Recorder::open(folder.path(), limits).unwrap();
        exchange(&recorder, b"1");
        exchange(&recorder, b"2");
    }
    assert_eq!(files(folder.path()).len(), 3);
    let folder = private_folder();
    let limits = RecordLimits { bytes: 5000, ..RecordLimits::default() };
    let recorder = Recorder::open(folder.path(), limits).unwrap();
    for _ in 0..10 {
        exchange(&recorder, &[0; 1000]);
    }
    drop(recorder);
    let sizes = fs::read_dir(folder.path()).unwrap();
    let size: u64 = sizes.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(size > 2000 && size <= 5000, "{size}");
}

#[test]
fn one_of_so_many_is_kept() {
    let folder = private_folder();
    let limits = RecordLimits { every: 4, ..RecordLimits::default() };
    let recorder = Recorder::open(folder.path(), limits).unwrap();
    (0..9).for_each(|_| exchange(&recorder, b""));
    drop(recorder);
    assert_eq!(files(folder.path()).len(), 3);
}

#[test]
fn what_cannot_be_written_is_left_out_and_leaves_nothing() {
    let folder = private_folder();
    let recorder = Recorder::open(folder.path(), RecordLimits::default()).unwrap();
    // In the way of the exchange, after its body was written.
    fs::create_dir(folder.path().join("00000001-POST.toml")).unwrap();
    exchange(&recorder, &[0; 10]);
    exchange(&recorder, b"ok");
    drop(recorder);
    let expected = ["00000001-POST.toml", "00000002-POST.toml"];
    assert!(files(folder.path()).iter().eq(expected.iter()), "{:?}", files(folder.path()));
}

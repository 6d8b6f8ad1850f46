//! Recordings as cases: what is asked again, what is left out and why, and what is wrong with a folder.

use std::fs;
use std::path::Path;

use keepgate_harness::{Outcome, PluginUnderTest, Recording, RunOptions, component, report, run};

/// The SHA-256 of `abc`.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// An exchange with the restic plugin at `/backup`, a second after the one before.
fn exchange(folder: &Path, number: u32, method: &str, rest: &str, removed: &str) {
    let text = format!(
        "[exchange]\ntime = \"2026-01-31T12:00:{number:02}.5Z\"\nseconds = 0.1\nmount = \"/backup\"\n\
         plugin = \"restic\"\nremoved = [{removed}]\n[request]\nmethod = \"{method}\"\n{rest}"
    );
    fs::write(folder.join(format!("{number:08}-{method}.toml")), text).unwrap();
}

fn upload(status: u16) -> String {
    format!(
        "path = \"/backup/data/{ABC}\"\n[request.body]\ntext = \"abc\"\n\
         [request.headers]\ncontent-length = \"3\"\n[expect]\nstatus = {status}\n"
    )
}

fn download(body: &str) -> String {
    format!(
        "path = \"/backup/data/{ABC}\"\n[expect]\nstatus = 200\n[expect.body]\ntext = \"{body}\"\n\
         [expect.headers]\ncontent-length = \"3\"\ndate = \"Sat, 31 Jan 2026 12:00:02 GMT\"\n"
    )
}

/// What comes of a replay: how many cases are wrong, and the report.
fn replayed(recording: Recording) -> (usize, String) {
    let plugin = PluginUnderTest::load(&component("restic").unwrap(), None).unwrap();
    let report = run(&plugin, &[recording.cases], &RunOptions::default());
    assert!(report.ran.iter().all(|ran| !matches!(ran.outcome, Outcome::Broken(_))), "{report:?}");
    (report.wrong(), report::text(&report))
}

#[test]
fn what_was_recorded_comes_again_or_the_difference_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    exchange(folder, 1, "POST", &upload(200), "");
    exchange(folder, 2, "GET", &download("abc"), "");
    let recording = Recording::read(folder, "restic").unwrap();
    assert_eq!(recording.left_out, Vec::<String>::new());
    let (wrong, said) = replayed(recording);
    assert_eq!(wrong, 0, "{said}");

    exchange(folder, 2, "GET", &download("abd"), "");
    let (wrong, said) = replayed(Recording::read(folder, "restic").unwrap());
    assert!(wrong == 1 && said.contains("- abd") && said.contains("+ abc"), "{said}");
    assert!(said.contains("recorded-backup"), "{said}");
}

#[test]
fn what_cannot_be_asked_again_is_left_out_with_what_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    exchange(folder, 1, "POST", &upload(200), "\"request body /data\"");
    exchange(folder, 2, "GET", &download("abc"), "");
    let list = "path = \"/backup/data/\"\n[expect]\nstatus = 200\n[expect.body]\ntext = \"[]\"\n";
    exchange(folder, 3, "GET", list, "");
    let broken = Recording::read(folder, "restic").unwrap_err().to_string();
    for text in
        ["nothing can be replayed", "1-POST: a secret", "2-GET: its reply", "3-GET: its rep"]
    {
        assert!(broken.contains(text), "{broken}");
    }
    let large = upload(200).replace("text = \"abc\"", &format!("sha256 = \"{ABC}\"\nlength = 3"));
    exchange(folder, 4, "POST", &large, "");
    exchange(folder, 5, "DELETE", "path = \"/backup/data/none\"\n", "");
    exchange(folder, 6, "HEAD", "path = \"/backup/config\"\n[expect]\nstatus = 404\n", "");
    let recording = Recording::read(folder, "restic").unwrap();
    let said = recording.left_out.join("\n");
    assert!(said.contains("4-POST: its body of 3 bytes was not recorded"), "{said}");
    assert!(said.contains("5-DELETE: the client disconnected"), "{said}");
    assert_eq!(recording.cases.cases[0].steps.len(), 1);
    assert_eq!(replayed(recording).0, 0);
}

#[test]
fn an_upload_that_broke_off_breaks_off_again() {
    let folder = tempfile::tempdir().unwrap();
    let partial = upload(400).replace("text = \"abc\"", "text = \"ab\"\npartial = true")
        + "[expect.body]\npartial = true\n";
    exchange(folder.path(), 1, "POST", &partial, "");
    let (wrong, said) = replayed(Recording::read(folder.path(), "restic").unwrap());
    assert_eq!(wrong, 0, "{said}");
}

#[test]
fn the_world_before_stands_beside_the_exchanges() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    exchange(folder, 1, "GET", &download("abc"), "");
    let (wrong, said) = replayed(Recording::read(folder, "restic").unwrap());
    assert!(wrong == 1 && said.contains("expected 200, got 404"), "{said}");
    fs::write(folder.join("world.toml"), format!("[blobs]\n\"data/ba/{ABC}\" = \"abc\"\n"))
        .unwrap();
    let recording = Recording::read(folder, "restic").unwrap();
    let saved = folder.join("cases/monday");
    recording.save(&saved).unwrap();
    assert!(recording.save(&saved).is_err(), "what is there is not overwritten");
    assert_eq!(replayed(recording).0, 0);
    fs::write(folder.join("world.toml"), "blobbs = {}\n").unwrap();
    let broken = Recording::read(folder, "restic").unwrap_err().to_string();
    assert!(broken.contains("world.toml") && broken.contains("blobbs"), "{broken}");
}

#[test]
fn a_folder_without_its_exchanges_is_no_recording() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let said = |plugin| Recording::read(folder, plugin).unwrap_err().to_string();
    assert!(said("restic").contains("the folder contains no exchanges"), "{}", said("restic"));
    exchange(folder, 1, "POST", &upload(200), "");
    assert!(said("etcd").contains("the folder has exchanges of restic"), "{}", said("etcd"));
    fs::write(folder.join("00000002-GET.toml"), "name = 1\n").unwrap();
    assert!(
        said("restic").contains("2-GET.toml: expected a recorded exchange"),
        "{}",
        said("restic")
    );
}

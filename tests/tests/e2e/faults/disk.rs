//! A disk is full, read-only or unreadable.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use keepgate_tests::client::{Connection, Endpoint, Reply};
use keepgate_tests::data::Blob;
use keepgate_tests::fault::{Tmpfs, bound_by_modes};
use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::program::{LONG, Program};
use keepgate_tests::restic::Restic;
use keepgate_tests::{tools, tree};
use rustix::process::Signal;

use super::{assert_absent, assert_holds, assert_no_leftovers};
use crate::{path, store};

/// How a body is framed.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunks,
}

fn upload(connection: &mut Connection, repository: &str, blob: Blob, framing: Framing) -> Reply {
    let (path, bytes) = (path(repository, &blob.id()), blob.bytes());
    let sent = match framing {
        Framing::Length => connection.send("POST", &path, &[], &bytes),
        Framing::Chunks => connection.send_in_chunks("POST", &path, &bytes, 50_000),
    };
    sent.unwrap_or_else(|error| panic!("{path}, {framing:?}: {error}"))
}

/// A gateway whose store is on a disk of its own.
fn on_a_disk(check: &str, options: &str) -> Option<(Setup, Tmpfs, Gateway)> {
    let setup = Setup::restic();
    let disk = Tmpfs::mount(check, &setup.store(), options)?;
    let gateway = setup.start();
    Some((setup, disk, gateway))
}

#[test]
fn a_full_disk_refuses_uploads_until_they_fit() {
    let Some((setup, disk, gateway)) = on_a_disk("uploads to a full disk", "size=8m") else {
        return;
    };
    let client = gateway.endpoint();
    let kept = [Blob::new(1, 3 << 20), Blob::new(2, 1 << 20)];
    for blob in kept {
        store(&client, "/r/", blob);
    }
    let too_large = Blob::new(3, 6 << 20);
    let too_large_path = path("/r/", &too_large.id());
    // The blob's folder is created, and stays.
    let mut connection = client.connect();
    assert_eq!(upload(&mut connection, "/r/", too_large, Framing::Length).status, 507);
    let free = disk.free();
    for framing in [Framing::Length, Framing::Chunks] {
        let mut connection = client.connect();
        let reply = upload(&mut connection, "/r/", too_large, framing);
        assert_eq!(reply.status, 507, "{framing:?}: {}", reply.text());
        assert!(reply.text().starts_with("Insufficient Storage"), "{}", reply.text());
        // By the time of the response, it no longer takes up space.
        assert_eq!(disk.free(), free, "{framing:?}");
        assert_no_leftovers(&setup);
        assert_absent(&client, &too_large_path);
        assert_holds(&setup, &client, "/r/", &kept);
        // The connection can be used for a blob that fits.
        let small = upload(&mut connection, "/r/", Blob::new(4, 1000), framing);
        assert_eq!(small.status, 200, "{framing:?}");
        assert_eq!(client.status("DELETE", &path("/r/", &Blob::new(4, 1000).id())), 200);
    }
    // Fills the disk to the last page, then starts a gateway on it.
    let mut all = kept.to_vec();
    let refused = (100..).map(|seed| Blob::new(seed, 60_000)).find(|blob| {
        let status = upload(&mut client.connect(), "/r/", *blob, Framing::Length).status;
        assert!(matches!(status, 200 | 507), "{status}");
        if status == 200 {
            all.push(*blob);
        }
        status == 507
    });
    let refused = refused.unwrap();
    assert!(disk.free() < 65_536 && all.len() > 20, "{} free", disk.free());
    gateway.stop();
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_holds(&setup, &client, "/r/", &all);
    assert_eq!(client.post(&path("/r/", &refused.id()), &refused.bytes()).status, 507);
    // Deleting works, and is all that is needed.
    let gone = all.remove(1);
    assert_eq!(client.status("DELETE", &path("/r/", &gone.id())), 200);
    all.push(refused);
    store(&client, "/r/", refused);
    assert_holds(&setup, &client, "/r/", &all);
    assert_no_leftovers(&setup);
    gateway.stop();
}

#[test]
fn many_uploads_into_little_space_are_whole_or_refused() {
    let check = "many uploads at once to a disk that fills up";
    let Some((setup, _disk, gateway)) = on_a_disk(check, "size=8m") else { return };
    let client = gateway.endpoint();
    // About 16 MiB, twice what fits.
    let blobs: Vec<_> = (1..=48).map(|seed| Blob::new(seed, 100_000 + seed * 10_000)).collect();
    let answers: Vec<(Blob, u16)> = thread::scope(|scope| {
        let uploads: Vec<_> = blobs
            .iter()
            .map(|blob| {
                let client = &client;
                let even = blob.seed % 2 == 0;
                let framing = if even { Framing::Length } else { Framing::Chunks };
                scope.spawn(move || {
                    (*blob, upload(&mut client.connect(), "/r/", *blob, framing).status)
                })
            })
            .collect();
        uploads.into_iter().map(|upload| upload.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|(_, status)| matches!(status, 200 | 507)), "{answers:?}");
    let taken: Vec<_> =
        answers.iter().filter(|(_, status)| *status == 200).map(|(blob, _)| *blob).collect();
    tools::report(&format!("full disk: {} of {} uploads fitted", taken.len(), blobs.len()));
    assert!(taken.len() < blobs.len(), "the disk is too large for this test");
    assert_holds(&setup, &client, "/r/", &taken);
    assert_no_leftovers(&setup);
    for blob in &taken {
        assert_eq!(client.status("DELETE", &path("/r/", &blob.id())), 200);
    }
    store(&client, "/r/", *blobs.last().unwrap());
    gateway.stop();
}

/// No more files can be created, whatever their size.
#[test]
fn a_disk_without_inodes_counts_as_full() {
    let Some((setup, disk, gateway)) = on_a_disk("a disk without inodes", "size=8m,nr_inodes=40")
    else {
        return;
    };
    let client = gateway.endpoint();
    let mut taken = Vec::new();
    let refused = (1..100).map(|seed| Blob::new(seed, 100)).find(|blob| {
        let status = upload(&mut client.connect(), "/r/", *blob, Framing::Length).status;
        assert!(matches!(status, 200 | 507), "{status}");
        if status == 200 {
            taken.push(*blob);
        }
        status == 507
    });
    let refused = refused.unwrap();
    assert!(taken.len() > 8 && disk.free() > 4 << 20, "{taken:?}");
    assert_holds(&setup, &client, "/r/", &taken);
    assert_no_leftovers(&setup);
    // A repository consists of many folders.
    assert_eq!(client.status("POST", "/other/?create=true"), 507);
    while disk.free_files() < 3 {
        let blob = taken.pop().unwrap();
        assert_eq!(client.status("DELETE", &path("/r/", &blob.id())), 200);
    }
    store(&client, "/r/", refused);
    taken.push(refused);
    assert_holds(&setup, &client, "/r/", &taken);
    gateway.stop();
}

#[test]
fn restic_reports_a_full_disk_and_continues_afterwards() {
    let check = "restic and a full disk";
    let Some((_setup, disk, gateway)) = on_a_disk(check, "size=16m") else { return };
    let Some(restic) = Restic::find(check, gateway.repository("", "/r/")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (small, large) = (folder.path().join("small"), folder.path().join("large"));
    for (path, seed, files) in [(&small, 1, 4), (&large, 100, 24)] {
        fs::create_dir(path).unwrap();
        for seed in seed..seed + files {
            fs::write(path.join(seed.to_string()), Blob::new(seed, 1 << 20).bytes()).unwrap();
        }
    }
    restic.run(&["init"]);
    restic.run_in(folder.path(), &["backup", "small"]);
    // restic retries for a while, as it decides.
    let failed = tools::run(restic.command(folder.path(), &["backup", "large"]));
    let said = format!("{}{}", failed.stdout, failed.stderr);
    assert!(!failed.status.success(), "{said}");
    assert!(said.contains("507") || said.contains("Insufficient Storage"), "{said}");
    // Earlier snapshots are whole, even on the full disk.
    assert_eq!(restic.snapshots(), 1);
    disk.change("size=64m");
    restic.run(&["unlock"]);
    restic.run(&["check", "--read-data"]);
    restic.run_in(folder.path(), &["backup", "large"]);
    restic.run(&["check", "--read-data"]);
    assert_eq!(restic.snapshots(), 2);
    let target = folder.path().join("restored");
    restic.run(&["restore", "latest", "--target", target.to_str().unwrap()]);
    tree::assert_same(&large, &target.join("large"));
    gateway.stop();
}

/// A repository on a disk of its own, which becomes read-only and then writable again.
#[test]
fn a_read_only_disk_can_be_read_and_refuses_writes() {
    let setup = Setup::restic();
    let place = setup.store().join("r");
    fs::create_dir(&place).unwrap();
    let Some(disk) = Tmpfs::mount("a disk that becomes read-only", &place, "size=32m") else {
        return;
    };
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    let kept = [Blob::new(1, 300_000), Blob::new(2, 10)];
    for blob in kept {
        store(&client, "/r/", blob);
    }
    disk.set_read_only(true).unwrap();
    let new = Blob::new(3, 2 << 20);
    for framing in [Framing::Length, Framing::Chunks] {
        let mut connection = client.connect();
        let reply = upload(&mut connection, "/r/", new, framing);
        // The client did nothing wrong, and the disk is not full. Clients must not see paths.
        assert_eq!((reply.status, reply.text().as_str()), (500, "Internal Server Error\n"));
    }
    let (_, line) = gateway.program.stderr.wait_for(0, &["Read-only file system"]);
    assert!(line.contains("/r/"), "the log says which disk: {line}");
    assert_absent(&client, &path("/r/", &new.id()));
    assert_eq!(client.status("DELETE", &path("/r/", &kept[0].id())), 500);
    assert_eq!(client.status("POST", "/r/config"), 500);
    assert_holds(&setup, &client, "/r/", &kept);
    // Another disk is not affected.
    store(&client, "/elsewhere/", new);

    disk.set_read_only(false).unwrap();
    store(&client, "/r/", new);
    assert_holds(&setup, &client, "/r/", &[kept[0], kept[1], new]);
    assert_eq!(client.status("DELETE", &path("/r/", &kept[0].id())), 200);
    assert_holds(&setup, &client, "/r/", &[kept[1], new]);
    gateway.stop();
}

/// `keepgate rest-server` has everything on one disk, including its compiled plugin.
#[test]
fn rest_server_starts_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let check = "rest-server on a disk that takes nothing";
    let Some(disk) = Tmpfs::mount(check, folder.path(), "size=4m") else { return };
    let arguments =
        ["rest-server", "--no-auth", "--listen", "127.0.0.1:0", "--path", text(folder.path())];
    let start = || {
        let program = Program::keepgate(&arguments);
        let (_, line) = program.stderr.wait_for(0, &["start server on "]);
        let address = line.rsplit(' ').next().unwrap().parse().unwrap();
        (program, Endpoint::tcp(address))
    };
    let kept = Blob::new(1, 5000);
    let (program, client) = start();
    let kept_path = store(&client, "/", kept);
    drop(program);

    let new = Blob::new(2, 5000);
    let new_path = path("/", &new.id());
    let room = folder.path().join("something else");
    let full = fs::File::create(&room).and_then(|mut file| io::copy(&mut io::repeat(1), &mut file));
    assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
    let (program, client) = start();
    assert_eq!(client.post(&new_path, &new.bytes()).status, 507);
    assert_eq!(client.get(&kept_path).body, kept.bytes());
    fs::remove_file(&room).unwrap();
    store(&client, "/", new);
    assert_eq!(client.status("DELETE", &new_path), 200);
    drop(program);

    disk.set_read_only(true).unwrap();
    let (mut program, client) = start();
    assert_eq!(client.post(&new_path, &new.bytes()).status, 500);
    assert_eq!(client.get(&kept_path).body, kept.bytes());
    assert_eq!(client.get("/data/").json().as_array().unwrap().len(), 1);
    disk.set_read_only(false).unwrap();
    store(&client, "/", new);
    assert_eq!(client.get(&new_path).body, new.bytes());
    program.signal(Signal::TERM);
    assert!(program.wait(LONG).success());
}

/// An unreadable blob is not a missing one: a client that believed so would store it again or, worse,
/// take a backup for empty.
#[test]
fn unreadable_files_are_errors_and_not_missing() {
    let setup = Setup::restic();
    let Some(command) = bound_by_modes("folders that cannot be read", setup.command()) else {
        return;
    };
    let gateway = setup.start_by(command);
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    let blobs: Vec<_> = (0..20).map(|seed| Blob::new(seed, 1000)).collect();
    let paths: Vec<_> = blobs.iter().map(|blob| store(&client, "/r/", *blob)).collect();
    let hidden = blobs[7].id();
    let folder = setup.store().join("r/data").join(&hidden[..2]);
    let set_mode = |mode| fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();

    set_mode(0o000);
    for method in ["GET", "HEAD", "DELETE"] {
        assert_eq!(client.status(method, &paths[7]), 500, "{method}");
    }
    assert_eq!(client.post(&paths[7], &blobs[7].bytes()).status, 500);
    let whole_list = |client: &Endpoint| {
        let mut connection = client.connect();
        let reply = connection.send("GET", "/r/data/", &[], b"");
        reply.is_ok_and(|reply| reply.status == 200)
    };
    assert!(!whole_list(&client), "a list that leaves out a folder");
    let other = blobs.iter().position(|blob| blob.id()[..2] != hidden[..2]).unwrap();
    assert_eq!(client.get(&paths[other]).body, blobs[other].bytes());

    set_mode(0o700);
    assert!(whole_list(&client));
    assert_eq!(client.get(&paths[7]).body, blobs[7].bytes());
    assert_holds(&setup, &client, "/r/", &blobs);
    gateway.stop();
}

/// A blob is shortened while it is sent: the client must not take the part for the whole.
#[test]
fn a_blob_that_shrinks_while_it_is_sent_breaks_off() {
    for tls in [false, true] {
        let setup = if tls { Setup::restic().tls() } else { Setup::restic() };
        let gateway = setup.start();
        let client = gateway.endpoint();
        let (blob, left) = (Blob::new(1, 64 << 20), 24 << 20);
        let path = store(&client, "/r/", blob);
        let id = blob.id();
        let file = setup.store().join("r/data").join(&id[..2]).join(&id);
        let expected = blob.bytes();

        let mut connection = client.connect();
        connection.write_head("GET", &path, &[]).unwrap();
        let mut download = connection.download("GET").unwrap();
        assert_eq!(download.head.header("content-length"), Some(blob.size.to_string().as_str()));
        let mut found = vec![0; 1 << 20];
        download.read_exact(&mut found).unwrap();
        OpenOptions::new().write(true).open(&file).unwrap().set_len(left).unwrap();
        let error = download.read_to_end(&mut found);
        assert!(error.is_err(), "{} bytes came, and an end", found.len());
        // The bytes received are those that were there; nothing was made up to fill the gap.
        assert!(found.len() as u64 <= left && expected.starts_with(&found), "{}", found.len());
        assert!(connection.is_closed_by_server());
        gateway.program.stderr.wait_for(0, &["the file became shorter while it was read"]);

        // The shortened blob is served as it is.
        let reply = client.send("HEAD", &path, &[], b"");
        assert_eq!(reply.header("content-length"), Some(left.to_string().as_str()));
        let range = format!("bytes={}-", left - 10);
        let reply = client.send("GET", &path, &[("range", &range)], b"");
        assert_eq!(reply.status, 206);
        assert_eq!(reply.body, &expected[usize::try_from(left).unwrap() - 10..][..10]);
        gateway.stop();
    }
}

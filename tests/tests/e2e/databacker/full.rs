//! No room for what instances report: 503, which clients send again later, and never a 500, which they would not.

use std::fs;
use std::time::Duration;

use keepgate_tests::data::Blob;
use keepgate_tests::databacker::exporter::{Dropped, Exporter};
use keepgate_tests::databacker::logs::{Logger, line};
use keepgate_tests::databacker::spans::Run;
use keepgate_tests::fault::Tmpfs;

use super::{Admin, Instance, mounted};

/// Sends a run once, and returns the status with `Retry-After`.
fn send(instance: &Instance, port: u16, run: &Run) -> (u16, Option<u64>) {
    let mut exporter = Exporter::new(&instance.traces(port)).patience(Duration::ZERO);
    match exporter.export(&run.spans()) {
        Ok(answer) | Err(Dropped::Refused(answer)) => (answer.status, answer.retry_after),
        Err(Dropped::Lost(error)) => panic!("{error}"),
    }
}

#[test]
fn a_full_disk_of_records_is_a_503_until_there_is_room() {
    let check = "traces that come to a full disk";
    let mounted = mounted("", "");
    let Some(disk) = Tmpfs::mount(check, &mounted.setup.path("state"), "size=128m") else { return };
    let gateway = mounted.setup.start();
    let (admin, port) = (Admin::ann(&gateway), gateway.port());
    let instance = admin.register(&mounted);
    let before = Run::example(1);
    assert_eq!(send(&instance, port, &before).0, 200);
    let filler = mounted.setup.path("state/filler");
    let free = usize::try_from(disk.free()).unwrap();
    // The gateway may have taken some of it in the meantime.
    let _ = fs::write(&filler, vec![0; free]);

    // The file of records has some room in itself.
    let refused = (0..10_000).map(|_| send(&instance, port, &Run::example(2)));
    let refused = refused.into_iter().find(|(status, _)| *status != 200);
    let (status, retry_after) = refused.expect("the disk is full");
    assert_eq!(status, 503);
    assert!(retry_after.is_some_and(|seconds| (1..=60).contains(&seconds)), "{retry_after:?}");

    fs::remove_file(filler).unwrap();
    let after = Run::example(3);
    gateway.eventually("there is room again", |_| send(&instance, port, &after).0 == 200);
    for run in [&before, &after] {
        gateway.eventually("the run is listed", |_| {
            let reply = admin.send("GET", &format!("/admin/runs/{}", run.id), "");
            reply.status == 200 && reply.json()["status"] == "ok"
        });
    }
    gateway.stop();
    drop(disk);
}

#[test]
fn records_and_blobs_have_limits_that_are_a_503_too() {
    let mounted = mounted("policy = { quota = 100_000 }", "[records]\nmax_size = \"256 KiB\"");
    let gateway = mounted.setup.start();
    let (admin, port) = (Admin::ann(&gateway), gateway.port());
    let instance = admin.register(&mounted);
    // Lines first, since they are records too: where they are, and which of them came.
    let logger = Logger::start(&instance.logs(port)).unwrap();
    let posts = (0..20).map(|at| {
        let long = hex::encode(Blob::new(u64::from(at), 15_000).bytes());
        let body = line("", "info", &long, at).to_string();
        logger.post_as("application/json", body.as_bytes())
    });
    let refused = posts.into_iter().find(|reply| reply.status != 201).expect("the quota is small");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());

    let refused = (0..2000).map(|_| send(&instance, port, &Run::example(2)));
    let refused = refused.into_iter().find(|(status, _)| *status != 200);
    let (status, retry_after) = refused.expect("the limit is small");
    assert!(status == 503 && retry_after.is_some(), "{status}");
    // What is there can be read, and instances get their configurations.
    gateway.eventually("runs are listed", |_| !admin.runs(&instance).is_empty());
    gateway.stop();
}

//! The file of jobs: who may open it, how unusable files are refused, and what survives a full disk
//! and a kill.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests may panic, and a child reports by its output"
)]

mod common;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::*;
use futures_util::FutureExt;
use keepgate_jobs::{
    FileError, Filter, Job, Jobs, JobsError, NewJob, Options, Schedule, StartError, State, Trigger,
    User,
};

/// Environment variable that names a child's file.
const CHILD: &str = "KEEPGATE_TEST_JOBS";

fn open(file: &Path) -> Result<Arc<Jobs>, JobsError> {
    Jobs::open(file, Options::default())
}

/// This test binary again, running one test that behaves differently in a child.
fn child(test: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, file);
    command
}

#[test]
fn the_file_is_private_and_used_by_one_process() {
    if let Some(file) = std::env::var_os(CHILD) {
        println!("\nCHILD {}", open(Path::new(&file)).unwrap_err());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.redb");
    let jobs = open(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let output = child("the_file_is_private_and_used_by_one_process", &file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("jobs.redb is in use by another gateway"), "{text}");
    drop(jobs);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    open(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else was left");
}

#[test]
fn unusable_files_are_refused_with_an_explanation() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.redb");
    assert!(matches!(keepgate_jobs::read(&file), Err(JobsError::File(FileError::Missing { .. }))));
    let nowhere = open(&folder.path().join("nowhere/jobs.redb")).unwrap_err();
    assert!(matches!(nowhere, JobsError::File(FileError::Failed { .. })), "{nowhere:?}");
    drop(open(&file).unwrap());
    let good = fs::read(&file).unwrap();
    let mut flipped = good.clone();
    flipped.iter_mut().skip(4096).for_each(|byte| *byte = !*byte);
    let mut headless = good.clone();
    headless[..9].fill(0);
    let damaged =
        [b"a text, and no database".to_vec(), good[..good.len() / 2].to_vec(), flipped, headless];
    for (number, bytes) in damaged.iter().enumerate() {
        fs::write(&file, bytes).unwrap();
        let error = open(&file).unwrap_err();
        assert!(matches!(error, JobsError::File(FileError::Damaged { .. })), "{number}: {error:?}");
        assert!(error.to_string().contains("jobs.redb"), "{error}");
    }
    fs::write(&file, &good).unwrap();
    open(&file).unwrap();
}

#[test]
fn a_file_of_another_layout_or_of_something_else_is_left_alone() {
    const META: redb::TableDefinition<'_, &str, &str> = redb::TableDefinition::new("meta");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.redb");
    drop(open(&file).unwrap());
    let database = redb::Database::open(&file).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("version", "2").unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = open(&file).unwrap_err();
    assert!(matches!(error, JobsError::File(FileError::Version { .. })), "{error:?}");
    assert!(error.to_string().contains("has layout 2, and this gateway knows layout 1"), "{error}");
    let other = folder.path().join("other.redb");
    drop(redb::Database::create(&other).unwrap());
    let error = open(&other).unwrap_err();
    assert!(matches!(error, JobsError::File(FileError::Damaged { .. })), "{error:?}");
}

#[tokio::test]
async fn a_job_that_was_running_at_the_last_write_was_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.redb");
    let copy = folder.path().join("copy.redb");
    let jobs = open(&file).unwrap();
    let script = Script::new(&[("main", &[Act::Hang]), ("once", &[Act::Hang])]);
    let running = Running::new(&jobs, &script);
    let id = jobs.start(NewJob { attempts: 2, ..new("backup", "main") }).await.unwrap();
    let once = jobs.start(new("backup", "once")).await.unwrap();
    begun(&jobs, &id).await;
    begun(&jobs, &once).await;
    // What a kill would leave behind.
    fs::copy(&file, &copy).unwrap();
    running.stop().await;
    let jobs = open(&copy).unwrap();
    let job = jobs.get(&id).await.unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (State::Queued, 1));
    assert_eq!(job.message, "the gateway stopped while it ran; it is tried again");
    let job = jobs.get(&once).await.unwrap().unwrap();
    assert_eq!(job.state, State::Failed);
    assert_eq!(job.message, "the gateway stopped while it ran");
    assert!(job.ended.is_some());
}

#[tokio::test]
async fn old_jobs_are_removed_when_others_end_and_at_startup() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.redb");
    let options = Options { keep: 5, ..Options::default() };
    let running = Running::new(&Jobs::open(&file, options).unwrap(), &Script::new(&[]));
    let mut ids = Vec::new();
    for _ in 0..9 {
        let id = running.jobs.start(new("backup", "main")).await.unwrap();
        running.end(&id).await;
        ids.push(id);
    }
    let list = async |jobs: &Arc<Jobs>| -> Vec<String> {
        let jobs = jobs.list(Filter::default(), 100).await.unwrap();
        jobs.into_iter().rev().map(|job| job.id).collect()
    };
    assert_eq!(list(&running.jobs).await, ids[4..]);
    drop(running.stop().await);
    assert_eq!(keepgate_jobs::read(&file).unwrap().jobs.len(), 5);
    let jobs = Jobs::open(&file, Options { keep: 2, ..options }).unwrap();
    assert_eq!(list(&jobs).await, ids[7..]);
}

/// The dispatcher sleeps for a minute unless it is notified.
#[tokio::test]
async fn a_start_whose_caller_has_gone_away_happens_and_runs_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::new(&open(&folder.path().join("jobs.redb")).unwrap(), &Script::new(&[]));
    let first = running.jobs.start(new("backup", "main")).await.unwrap();
    running.end(&first).await;
    // Polled once and dropped, as when a client disconnects.
    let _ = running.jobs.start(new("backup", "main")).now_or_never();
    let second = async {
        loop {
            let jobs = running.jobs.list(Filter::default(), 1).await.unwrap();
            if jobs[0].id != first {
                break end(&running.jobs, &jobs[0].id).await;
            }
        }
    };
    let second = tokio::time::timeout(seconds(20), second).await.unwrap();
    assert_eq!(second.state, State::Succeeded);
}

/// A small file system that is unmounted after the test.
struct Small(PathBuf);

impl Small {
    fn new(at: &Path) -> Option<Self> {
        let arguments = ["-t", "tmpfs", "-o", "size=16m", "tmpfs"];
        let output = Command::new("mount").args(arguments).arg(at).output();
        if output.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!("SKIPPED: mounting a small file system requires root");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(status.unwrap().success() || std::thread::panicking());
    }
}

#[tokio::test]
async fn a_full_disk_refuses_starts_and_stops_the_queue_no_longer_than_it_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_small) = Small::new(folder.path()) else { return };
    let file = folder.path().join("jobs.redb");
    let jobs = open(&file).unwrap();
    let large = NewJob { input: vec![b'x'; 60_000], ..new("backup", "main") };
    let mut ids = vec![jobs.start(large.clone()).await.unwrap()];
    assert_eq!(jobs.cancel(&ids[0]).await.unwrap(), Some(true));
    let filler = folder.path().join("filler");
    let mut filling = fs::File::create(&filler).unwrap();
    while filling.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
    let error = loop {
        match jobs.start(large.clone()).await {
            Ok(id) => ids.push(id),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, StartError::Jobs(JobsError::File(FileError::Failed { .. }))),
        "{error:?}"
    );
    assert!(error.to_string().contains("No space left"), "{error}");
    // Existing jobs can still be seen, finished ones too.
    for _ in 0..3 {
        assert!(jobs.start(large.clone()).await.is_err());
        assert_eq!(jobs.list(Filter::default(), 1000).await.unwrap().len(), ids.len());
        assert_eq!(jobs.get(&ids[0]).await.unwrap().unwrap().state, State::Cancelled);
    }
    drop(filling);
    fs::remove_file(&filler).unwrap();
    ids.push(jobs.start(new("backup", "main")).await.unwrap());
    drop(jobs);
    let kept = keepgate_jobs::read(&file).unwrap().jobs;
    let kept: Vec<String> = kept.into_iter().rev().map(|job| job.id).collect();
    assert_eq!(kept, ids);
}

/// Starts and cancels jobs forever, and prints what was acknowledged.
async fn start_for_ever(file: &Path) {
    let jobs = open(file).unwrap();
    let script = Script::new(&[
        ("fails", &[Act::Fail(false)]),
        ("again", &[Act::Fail(true)]),
        ("hangs", &[Act::Hang]),
    ]);
    let running = Running::new(&jobs, &script);
    let every = Trigger::Every { interval: seconds(1), jitter: Duration::ZERO };
    let schedule = Schedule {
        name: "often".to_owned(),
        mount: "/".to_owned(),
        kind: "scheduled".to_owned(),
        key: String::new(),
        input: Vec::new(),
        when: every,
        missed: keepgate_jobs::Missed::Run,
        attempts: 1,
        backoff: Duration::ZERO,
    };
    jobs.set_schedules(vec![schedule]).await.unwrap();
    println!("\nREADY");
    let finally = Some("tidy".to_owned());
    let once = NewJob { finally: finally.clone(), ..new("once", "hangs") };
    println!("STARTED {}", jobs.start(once).await.unwrap());
    loop {
        for key in ["good", "fails", "again"] {
            let finally = finally.clone();
            let start =
                NewJob { attempts: 3, backoff: seconds(1000), finally, ..new("backup", key) };
            let id = jobs.start(start).await.unwrap();
            println!("STARTED {id}");
            if key != "again" {
                let job = running.end(&id).await;
                println!("ENDED {id} {}", job.state.as_str());
            } else if jobs.list(Filter::default(), 900).await.unwrap().len() > 500 {
                assert_eq!(jobs.cancel(&id).await.unwrap(), Some(true));
                println!("ENDED {id} cancelled");
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    if let Some(file) = std::env::var_os(CHILD) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(start_for_ever(Path::new(&file)));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.redb");
    let mut expected: HashMap<String, Option<String>> = HashMap::new();
    for round in 0..20_u64 {
        let mut child = child("what_was_acknowledged_survives_a_kill", &file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed after this many lines, whatever it is doing then.
        let mut left = 1 + round * 7 % 40;
        let mut is_ready = false;
        while let Some(Ok(line)) = lines.next() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("READY"), ..) => is_ready = true,
                (Some("STARTED"), Some(id), _) => drop(expected.insert(id.to_owned(), None)),
                (Some("ENDED"), Some(id), Some(state)) if state.len() > 5 => {
                    expected.insert(id.to_owned(), Some(state.to_owned()));
                }
                _ => continue,
            }
            left -= 1;
            if left == 0 {
                child.kill().unwrap();
            }
            left = left.max(1);
        }
        child.wait().unwrap();
        assert!(is_ready, "round {round}: the file could not be opened");
        let snapshot = keepgate_jobs::read(&file).unwrap();
        assert_eq!(snapshot.schedules.len(), 1);
        let there: HashMap<_, _> = snapshot.jobs.iter().map(|job| (&job.id, job)).collect();
        for (id, ended) in &expected {
            let job = there.get(id).unwrap_or_else(|| panic!("round {round}: {id} is missing"));
            if let Some(ended) = ended {
                assert_eq!(job.state.as_str(), ended, "{job:?}");
            }
        }
        assert_followed(&snapshot.jobs);
    }
    assert!(expected.len() > 100, "{}", expected.len());
    assert!(expected.values().flatten().count() > 50);
    // Jobs running at a kill had one attempt, so they ended with their gateway.
    drop(open(&file).unwrap());
    let jobs = keepgate_jobs::read(&file).unwrap().jobs;
    assert_followed(&jobs);
    let once: Vec<&Job> = jobs.iter().filter(|job| job.kind == "once").collect();
    assert!(once.len() > 10, "{}", once.len());
    let interrupted = once.iter().filter(|job| job.message.contains("the gateway stopped"));
    assert!(interrupted.count() > 5);
    assert!(once.iter().all(|job| job.state != State::Running));
}

/// Every job that has ended has started the one that follows it; no other job has.
fn assert_followed(jobs: &[Job]) {
    for job in jobs.iter().filter(|job| job.finally.is_some()) {
        let followers = jobs.iter().filter(|other| other.after.as_ref() == Some(&job.id));
        let followers: Vec<&Job> = followers.collect();
        assert_eq!(followers.len(), usize::from(job.state.is_over()), "{job:?}: {followers:?}");
    }
}

/// A record as gateways wrote it before users had more than a name and jobs had a `finally`.
#[tokio::test]
async fn a_record_of_an_earlier_gateway_is_read() {
    const JOBS: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("jobs");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.redb");
    drop(open(&file).unwrap());
    let id = "01KAKDMNPQRSTVWXYZ01234567";
    let record = |user: &str| {
        format!(
            r#"{{"id":"{id}","mount":"/","kind":"backup","key":"main","origin":"user ann",
            "schedule":null,{user}"input":"{{}}","state":"succeeded","attempt":1,"attempts":3,
            "progress":{{"done":0,"total":null,"phase":""}},"created":"2026-11-21T08:00:00.123Z",
            "started":"2026-11-21T08:00:00.2Z","ended":"2026-11-21T08:00:01Z","next_attempt":null,
            "message":"","output":"x","backoff":30000}}"#
        )
    };
    let named = |name: &str, method: &str| {
        Some(User { name: name.to_owned(), method: method.to_owned(), claims: Vec::new() })
    };
    let cases = [
        ("", None),
        ("\"user\":null,", None),
        ("\"user\":\"ann\",", named("ann", "job")),
        (r#""user":{"name":"ann","method":"htpasswd"},"#, named("ann", "htpasswd")),
    ];
    for (written, expected) in cases {
        let database = redb::Database::open(&file).unwrap();
        let transaction = database.begin_write().unwrap();
        let value = record(written).into_bytes();
        transaction.open_table(JOBS).unwrap().insert(id, value.as_slice()).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let job = open(&file).unwrap().get(id).await.unwrap().unwrap();
        assert_eq!((job.user, job.finally, job.after), (expected, None, None), "{written}");
        assert_eq!(job.output, b"x");
    }
}

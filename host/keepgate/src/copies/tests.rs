//! A configured copy as a job, with stores on disk.

use std::fs;
use std::path::Path;

use keepgate_jobs::{Jobs, NewJob, State, WhenBusy};
use keepgate_runtime::{Generation, generation::Trusted};
use prometheus::core::Collector as _;

use super::*;

fn config(folder: &Path, further: &str) -> Config {
    let text = format!(
        "data_dir = \"state\"\nplugin_dir = \"plugins\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
         [store.main]\npath = \"main\"\n[store.second]\npath = \"second\"\n\
         [copy.offsite]\nfrom = \"main/team\"\nto = \"second/copy\"\nevery = \"1h\"\n{further}"
    );
    for name in ["main/team", "second"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    Config::parse(&text, &folder.join("keepgate.toml")).unwrap()
}

fn nothing() -> Generation {
    Generation {
        number: 0,
        mounts: Vec::new(),
        plugins: Vec::new(),
        loading: Vec::new(),
        refused: Vec::new(),
        trust: Trusted::default(),
    }
}

/// Runs a copy through the queue of jobs, and returns how it ended.
async fn run(copies: &Copies, name: &str) -> keepgate_jobs::Job {
    let jobs = Jobs::in_memory();
    let copies = copies.clone();
    let plugins = keepgate_runtime::JobRunner::new(|| Arc::new(nothing()));
    let runner = Arc::new(CopyRunner::new(plugins, move || copies.clone()));
    let started = jobs.start(NewJob {
        mount: MOUNT.to_owned(),
        kind: KIND.to_owned(),
        key: name.to_owned(),
        origin: "test".to_owned(),
        schedule: None,
        user: None,
        input: Vec::new(),
        attempts: 1,
        backoff: BACKOFF,
        not_before: None,
        finally: None,
        when_busy: WhenBusy::Refuse,
    });
    let id = started.await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn({
        let jobs = jobs.clone();
        async move { jobs.run(runner, async { drop(stopped.await) }).await }
    });
    let limit = Duration::from_secs(60);
    jobs.wait(&id, State::Queued, limit).await.unwrap();
    let job = jobs.wait(&id, State::Running, limit).await.unwrap().unwrap();
    drop(stop);
    running.await.unwrap();
    job
}

#[tokio::test]
async fn a_copy_runs_as_a_job_and_leaves_what_status_and_metrics_show() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "delete_after = \"30d\"\n");
    fs::write(folder.path().join("main/team/a"), "content").unwrap();
    fs::write(folder.path().join("main/other"), "not copied").unwrap();
    let assembly = Assembly::to_look_at(&config).unwrap();
    let copies = open(&config, &assembly).unwrap();
    let status = copies["offsite"].status();
    assert_eq!(status["last_run"], Value::Null);
    assert_eq!(status["schedule"], "copy offsite");

    let job = run(&copies, "offsite").await;
    assert_eq!(job.state, State::Succeeded, "{}", job.message);
    let report: keepgate_copy::Report = serde_json::from_slice(&job.output).unwrap();
    assert_eq!((report.copied.blobs, report.copied.bytes), (1, 7));
    assert_eq!(fs::read(folder.path().join("second/copy/a")).unwrap(), b"content");
    assert!(!folder.path().join("second/copy/other").exists());
    assert_eq!(copies["offsite"].status()["last_run"]["succeeded"], true);

    fs::remove_file(folder.path().join("main/team/a")).unwrap();
    let job = run(&copies, "offsite").await;
    assert_eq!(job.state, State::Failed);
    assert!(job.message.contains("the source has no blobs, the copy has 1"), "{}", job.message);
    assert!(folder.path().join("second/copy/a").exists());
    let metrics = CopyMetrics::new(move || copies.clone()).unwrap();
    let value = |name: &str| {
        let families = metrics.collect();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let metric = family.get_metric()[0].clone();
        metric.get_gauge().get_value() + metric.get_counter().get_value()
    };
    assert!(value("keepgate_copy_last_success_timestamp_seconds") > 1.0e9);
    assert_eq!(value("keepgate_copy_failures_total"), 1.0);
    assert_eq!(value("keepgate_copy_last_failed"), 1.0);
    assert_eq!(value("keepgate_copy_missing_blobs"), 1.0);
}

#[tokio::test]
async fn jobs_of_copies_that_are_gone_and_of_mounts_fail_with_the_reason() {
    let job = run(&Copies::new(), "offsite").await;
    assert_eq!(job.state, State::Failed);
    assert_eq!(job.message, "the configuration has no [copy.offsite] any more");
}

#[test]
fn another_target_is_another_copy() {
    let folder = tempfile::tempdir().unwrap();
    let first = config(folder.path(), "");
    let mut second = config(folder.path(), "");
    let copy = second.copy.get_mut("offsite").unwrap();
    *copy.to.get_mut() = "second/elsewhere".to_owned();
    let folder_of = |config: &Config| {
        let assembly = Assembly::to_look_at(config).unwrap();
        open(config, &assembly).unwrap()["offsite"].folder.clone()
    };
    assert_ne!(folder_of(&first), folder_of(&second));
    assert_eq!(folder_of(&first), folder_of(&config(folder.path(), "bandwidth = \"1MiB\"\n")));
}

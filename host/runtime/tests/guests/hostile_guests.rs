//! The hostile guests: each of their misdeeds ends as the tables say, and what else they must not do.

use std::io::Write as _;

use keepgate_jobs::{Job, Jobs, NewJob, State, WhenBusy};
use keepgate_pipes::Spool;
use keepgate_records::{Options, Records};
use keepgate_runtime::capability::pipes::SpoolFolder;
use keepgate_runtime::capability::records::AllTables;
use keepgate_runtime::capability::topics::Topics;
use keepgate_runtime::capability::turns::Turns;
use keepgate_runtime::{Faults, JobRunner};
use tokio::sync::oneshot;

use super::misdeeds::Ends::{self, As, Broken, In, Well};
use super::misdeeds::{GRABBER, HOSTILE, SERVICE, SLEEPER, TOILER};
use super::*;

/// A mount of a guest with a store on disk and with low limits, never suspended.
async fn bounded(bench: &mut Bench, plugin: &str, warm: bool) -> (Arc<Mount>, tempfile::TempDir) {
    bench.put(&format!("{plugin}.wasm"), &guest(plugin));
    let folder = tempfile::tempdir().unwrap();
    let store = keepgate_store::disk::DiskStore::open(folder.path(), Default::default()).unwrap();
    let store: Arc<dyn BlobStore> = Arc::new(store);
    let spec = spec("/", plugin, |spec| {
        grant_store(spec, store);
        let spool = Spool::new(folder.path().to_owned(), 1 << 20);
        spec.grants.insert(SpoolFolder(Arc::new(spool)));
        spec.grants.insert(AllTables(Arc::new(
            Records::in_memory(Options { max_size: 128 << 20, ..Options::default() }).unwrap(),
        )));
        spec.grants.insert(JobQueue(Jobs::in_memory()));
        spec.grants.insert(Topics::default());
        spec.grants.insert(Turns::default());
        // On a busy machine the guest is charged for some of the time when its thread does not run.
        spec.limits.cpu = Duration::from_secs(1);
        spec.limits.time = Duration::from_secs(5);
        spec.limits.memory = 32 << 20;
        spec.limits.faults.count = 0;
        spec.warm = warm;
    });
    (bench.generation(&[spec]).await.mounts[0].clone(), folder)
}

/// Makes a call, reads its reply, and returns how it ended.
async fn ending(mount: &Mount, what: &str) -> Result<u16, String> {
    let called = mount.call(request("POST", &format!("/{what}"), b"some bytes to send")).await;
    let reply = called.map_err(|error| error.reason().to_owned())?;
    let status = reply.status;
    let mut body = reply.body;
    while let Some(chunk) = body.chunk().await {
        chunk.map_err(|error| format!("broken: {error}"))?;
    }
    Ok(status)
}

async fn check(mount: &Mount, what: &str, ends: Ends) {
    match (ends, ending(mount, what).await) {
        (As(reason), Err(found)) if found == reason => {}
        (Well(status), Ok(found)) if found == status => {}
        (Broken, Err(_)) | (In(_), _) => {}
        (wanted, found) => panic!("{what}: {found:?}, not {wanted:?}"),
    }
}

#[tokio::test]
async fn each_misdeed_ends_as_expected_and_the_next_call_is_served() {
    let all =
        [("hostile", HOSTILE), ("sleeper", SLEEPER), ("service", SERVICE), ("grabber", GRABBER)];
    for (plugin, table) in all {
        for warm in [false, true] {
            let mut bench = Bench::new();
            let (mount, _folder) = bounded(&mut bench, plugin, warm).await;
            for (what, ends) in table {
                if !matches!(ends, In(_)) {
                    check(&mount, what, *ends).await;
                    check(&mount, "hello", Well(200)).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn wasi_reveals_nothing_about_the_machine() {
    let mut bench = Bench::new();
    let (mount, _folder) = bounded(&mut bench, "sleeper", false).await;
    assert_eq!(text(get(&mount, "/look").await.unwrap()).await, "0 0 0 false");
}

#[tokio::test]
async fn decompressing_a_bomb_is_charged_to_the_guest() {
    let mut bench = Bench::new();
    let (mount, _folder) = bounded(&mut bench, "hostile", false).await;
    // gzip allows any number of members; each of these is a megabyte of zeros in a kilobyte.
    let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    member.write_all(&vec![0; 1 << 20]).unwrap();
    let member = bytes::Bytes::from(member.finish().unwrap());
    let endless = futures_util::stream::repeat_with(move || Ok(member.clone()));
    let mut bomb = request("POST", "/bomb", b"");
    bomb.body = Body::from_stream(None, endless);
    assert_eq!(mount.call(bomb).await.unwrap_err().reason(), "cpu");
}

#[tokio::test]
async fn a_plugins_texts_for_clients_are_cut() {
    let mut bench = Bench::new();
    let (mount, _folder) = bounded(&mut bench, "hostile", false).await;
    let Err(CallError::Failure(Failure::Denied(why))) = get(&mount, "/huge-failure").await else {
        panic!("no failure");
    };
    assert!(why.len() < 10_000 && why.starts_with("no\\nno"), "{} bytes", why.len());
    let Err(CallError::Failure(Failure::Refused(refused))) = get(&mount, "/huge-refusal").await
    else {
        panic!("no refusal");
    };
    assert_eq!((refused.status, refused.retry_after), (422, Some(u32::MAX)));
    assert!(refused.code.len() < 1000 && refused.code.starts_with("code\\n"), "{refused:?}");
    assert!(refused.message.len() < 10_000, "{} bytes", refused.message.len());
    // A success status in a refusal is a bug of the plugin, which only operators are told.
    let Err(CallError::Failure(Failure::Internal(why))) = get(&mount, "/bad-refusal").await else {
        panic!("let through");
    };
    assert!(why.len() < 10_000 && why.contains("with status 200"), "{why}");
    let error = get(&mount, "/huge-head").await.unwrap_err().to_string();
    assert!(error.len() < 1000, "{} bytes", error.len());
}

/// A subscriber that enables every level and records nothing.
struct ReadsAll;

impl tracing::Subscriber for ReadsAll {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_flood_in_the_log_is_counted_and_series_are_bounded() {
    let mut bench = Bench::new();
    let (mount, _folder) = bounded(&mut bench, "hostile", false).await;
    // Only enabled levels are counted.
    let _log = tracing::subscriber::set_default(ReadsAll);
    assert_eq!(get(&mount, "/log-flood").await.unwrap_err().reason(), "cpu");
    assert_eq!(get(&mount, "/count-flood").await.unwrap_err().reason(), "cpu");
    let families = bench.registry.gather();
    let family = |name: &str| families.iter().find(|family| family.name() == name).unwrap();
    let dropped = family("keepgate_plugin_log_lines_dropped_total");
    let dropped: f64 = dropped.get_metric().iter().map(|m| m.get_counter().get_value()).sum();
    assert!(dropped > 100.0, "{dropped}");
    assert!(family("plugin_hostile_total").get_metric().len() <= 10_000);
}

#[tokio::test]
async fn a_description_that_is_too_large_is_refused() {
    let mut bench = Bench::new();
    for name in ["liar", "babbler"] {
        bench.put(&format!("{name}.wasm"), &guest(name));
    }
    let generation = bench.generation(&[]).await;
    let [babbler, liar] = &generation.refused[..] else { panic!("{:?}", generation.refused) };
    assert!(babbler.why.contains("10000 stores"), "{}", babbler.why);
    assert!(liar.why.contains("the name is \"liar\\n1970"), "{}", liar.why);
}

#[tokio::test]
async fn a_plugin_with_anothers_name_gets_nothing_of_the_other() {
    let mut bench = Bench::new();
    bench.put("impostor.wasm", &guest("impostor"));
    bench.put("restic.wasm", &restic());
    let specs =
        [spec("/", "restic", |spec| drop(with_store(spec))), spec("/other", "impostor", |_| {})];
    let generation = bench.generation(&specs).await;
    assert_eq!(generation.refused, []);
    // Mounts, `/status` and metrics use the file's name.
    let id = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let stored = generation.mounts[0].call(request("POST", &format!("/r/data/{id}"), b"abc")).await;
    assert_eq!(stored.unwrap().status, 200);
    assert_eq!(text(get(&generation.mounts[1], "/").await.unwrap()).await, "not restic");
    let status = generation.status();
    let named: Vec<_> =
        status["plugins"].as_array().unwrap().iter().map(|plugin| &plugin["name"]).collect();
    assert_eq!(named, ["impostor", "restic"]);
}

/// The impostor describes the counter of `hostile` with another label, and is the first in the folder.
#[tokio::test]
async fn a_plugin_takes_no_metric_of_another() {
    let mut bench = Bench::new();
    bench.put("an_impostor.wasm", &guest("impostor"));
    bench.put("hostile.wasm", &guest("hostile"));
    let specs = [spec("/", "an_impostor", |_| {}), spec("/hostile", "hostile", |_| {})];
    for serving in [&specs[1..], &specs[..]] {
        let generation = bench.generation(serving).await;
        assert_eq!(generation.refused, []);
        let hostile = generation.mounts.last().unwrap();
        get(hostile, "/hello").await.unwrap();
        get(&generation.mounts[0], "/hello").await.unwrap();
    }
    // Three calls of the hostile one, of which two were in the first round.
    assert_eq!(bench.counted("plugin_hostile_total"), Some(3.0));
    assert_eq!(bench.counted("plugin_an_impostor_hostile_total"), Some(1.0));
    assert_eq!(bench.counted("hostile_total"), None);
    // What the operator lists keeps its names, and what two have is the first one's.
    for (listed, hostile, impostor) in [
        (["hostile", "an_impostor"], "hostile_total", "plugin_an_impostor_hostile_total"),
        (["an_impostor", "hostile"], "plugin_hostile_total", "hostile_total"),
    ] {
        bench.metrics.show_unprefixed(listed.map(str::to_owned).to_vec());
        assert_eq!(bench.counted(hostile), Some(3.0));
        assert_eq!(bench.counted(impostor), Some(1.0));
    }
    bench.generation(&specs[..1]).await;
    assert_eq!(bench.counted("plugin_hostile_total"), None, "its mount is gone");
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_read() {
    let mut bench = Bench::new();
    let file = fs::File::create(bench.file("large.wasm")).unwrap();
    file.set_len(1 << 40).unwrap();
    let generation = bench.generation(&[]).await;
    assert!(generation.refused[0].why.contains("at most 268435456"), "{:?}", generation.refused);
}

/// Uses tokio's paused clock.
#[tokio::test]
async fn a_plugin_that_keeps_breaking_down_is_suspended_and_resumed() {
    let mut bench = Bench::new();
    let quick =
        Faults { count: 5, pause: Duration::from_secs(30), longest: Duration::from_secs(60) };
    let mount = bench.hostile(|spec| spec.limits.faults = quick).await;
    let aside = |bench: &Bench| {
        let family = bench.registry.gather();
        let family = family.iter().find(|family| family.name() == "keepgate_plugin_aside").unwrap();
        family.get_metric()[0].get_gauge().get_value()
    };
    // Failures are answers.
    for _ in 0..10 {
        assert_eq!(get(&mount, "/no-such-thing").await.unwrap_err().reason(), "failure");
    }
    assert_eq!(aside(&bench), 0.0);
    for _ in 0..5 {
        assert_eq!(get(&mount, "/trap").await.unwrap_err().reason(), "trap");
    }
    let error = get(&mount, "/hello").await.unwrap_err();
    assert!(
        matches!(error, CallError::Suspended(pause) if pause <= quick.pause && !pause.is_zero()),
        "{error}"
    );
    assert_eq!(aside(&bench), 1.0);
    let said = mount.suspended().unwrap();
    assert!(said.pauses == 1 && said.why.contains("broke down"), "{said:?}");

    tokio::time::pause();
    tokio::time::advance(quick.pause).await;
    tokio::time::resume();
    assert_eq!(get(&mount, "/trap").await.unwrap_err().reason(), "trap");
    assert_eq!(mount.suspended().unwrap().pauses, 2);
    tokio::time::pause();
    tokio::time::advance(quick.longest).await;
    tokio::time::resume();
    assert_eq!(text(get(&mount, "/hello").await.unwrap()).await, "hello ann");
    assert_eq!((mount.suspended(), aside(&bench)), (None, 0.0));

    // A new file ends a pause at once.
    for _ in 0..5 {
        assert_eq!(get(&mount, "/trap").await.unwrap_err().reason(), "trap");
    }
    assert_eq!(aside(&bench), 1.0);
    bench.put("hostile.wasm", &[guest("hostile"), b"\0\x02\x01x".to_vec()].concat());
    let generation = bench.generation(&[mount.spec().clone()]).await;
    assert_eq!(aside(&bench), 0.0);
    assert_eq!(text(get(&generation.mounts[0], "/hello").await.unwrap()).await, "hello ann");
}

#[tokio::test]
async fn jobs_that_misbehave_end_and_other_jobs_run() {
    let mut bench = Bench::new();
    bench.put("toiler.wasm", &guest("toiler"));
    let jobs = Jobs::in_memory();
    let spec = spec("/", "toiler", |spec| {
        spec.grants.insert(JobQueue(jobs.clone()));
        spec.limits.job_time = Duration::from_secs(2);
        spec.limits.faults.count = 1;
    });
    let generation = bench.generation(&[spec]).await;
    assert_eq!(generation.refused, []);
    let mount = generation.mounts[0].clone();
    let runner = Arc::new(JobRunner::new(move || generation.clone()));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = {
        let jobs = jobs.clone();
        tokio::spawn(async move { jobs.run(runner, async { drop(stopped.await) }).await })
    };
    for (kind, why) in TOILER {
        let job = done(&jobs, kind).await;
        let (message, state) = (job.message.as_str(), job.state);
        assert_eq!(state == State::Succeeded, why.is_empty(), "{kind}: {job:?}");
        assert!(message.contains(why), "{kind}: {message}");
        assert!(job.output.len() <= keepgate_jobs::MAX_OUTPUT && message.len() < 5000, "{kind}");
    }
    for (kind, why) in [("loop", "CPU time"), ("trap", "broke down"), ("flood", "no no")] {
        let said = mount.check_job(kind, b"{}").await.unwrap().unwrap_err();
        assert!(said.contains(why) && said.len() < 10_000, "{kind}: {said}");
    }
    // Failing jobs do not suspend the plugin.
    assert_eq!(text(get(&mount, "/").await.unwrap()).await, "at work");
    drop(stop);
    running.await.unwrap();
}

async fn done(jobs: &Arc<Jobs>, kind: &str) -> Job {
    let new = NewJob {
        mount: "/".to_owned(),
        kind: kind.to_owned(),
        key: "x".to_owned(),
        origin: "operator".to_owned(),
        schedule: None,
        user: None,
        input: Vec::new(),
        attempts: 1,
        backoff: Duration::ZERO,
        not_before: None,
        finally: None,
        when_busy: WhenBusy::Queue,
    };
    let id = jobs.start(new).await.unwrap();
    let limit = Duration::from_secs(60);
    jobs.wait(&id, State::Queued, limit).await.unwrap();
    jobs.wait(&id, State::Running, limit).await.unwrap().unwrap()
}

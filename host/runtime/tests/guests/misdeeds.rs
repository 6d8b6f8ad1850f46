//! Every way of misbehaving that the guests of the tests know, with what must come of it. A guest or
//! a misdeed that is not in these tables fails the test that reads their sources.

use std::collections::BTreeSet;
use std::io::Write as _;

use keepgate_jobs::{Job, Jobs, NewJob, State, WhenBusy};
use keepgate_runtime::{Faults, JobRunner};
use tokio::sync::oneshot;

use super::*;

/// What must come of a call.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// By this reason, as metrics and logs have it.
    As(&'static str),
    /// With a reply of this status, all of which can be read.
    Well(u16),
    /// With a reply that breaks off, or with none.
    Broken,
    /// In a test of its own in this folder, by this name.
    In(&'static str),
}

use Ends::{As, Broken, In, Well};

/// What `hostile` does by the first segment of a path.
const HOSTILE: &[(&str, Ends)] = &[
    ("hello", Well(200)),
    ("loop", As("cpu")),
    ("loop-calling", As("cpu")),
    ("flood", As("memory")),
    ("trap", As("trap")),
    ("recurse", As("trap")),
    ("break-off", Broken),
    ("fail-midway", Broken),
    ("answer-midway", Broken),
    ("stream-forever", In("dropping_the_reply_stops_the_guest")),
    ("nonsense", As("bad-reply")),
    ("header", As("bad-reply")),
    ("random", As("trap")),
    ("length", Well(200)),
    ("tail", Well(200)),
    ("echo", Well(200)),
    ("ignore", Well(403)),
    ("store", Well(200)),
    ("escape", As("failure")),
    ("huge-reply", Well(200)),
    ("huge-pieces", Well(200)),
    ("huge-head", As("bad-reply")),
    ("huge-failure", As("failure")),
    ("huge-refusal", As("failure")),
    ("bad-refusal", As("failure")),
    ("leak", Well(200)),
    ("bodies", As("handles")),
    ("large-bodies", As("held")),
    ("compressors", As("held")),
    ("meters", As("handles")),
    ("layers", As("layers")),
    ("stores", As("handles")),
    ("listings", As("failure")),
    ("blobs", As("open")),
    ("bomb", In("a_bomb_that_a_guest_reads_costs_its_own_time")),
    ("log-flood", As("cpu")),
    ("log-forged", Well(200)),
    ("log-list", As("arguments")),
    ("prepare-list", As("arguments")),
    ("count-flood", As("cpu")),
];

/// What `sleeper` wants of WASI.
const SLEEPER: &[(&str, Ends)] = &[
    ("hello", Well(200)),
    ("nap", Well(200)),
    ("sleep", As("time")),
    ("alarms", As("handles")),
    ("random", As("trap")),
    ("stdout", As("cpu")),
    ("exit", As("trap")),
    ("look", Well(200)),
];

/// What `service`, a component of `wasi:http`, does.
const SERVICE: &[(&str, Ends)] = &[
    ("hello", Well(200)),
    ("echo", Well(200)),
    ("length", Well(200)),
    ("ignore", Well(403)),
    ("fetch", Well(200)),
    ("loop", As("cpu")),
    ("flood", As("memory")),
    ("trap", As("trap")),
    ("sleep", As("time")),
    ("silent", As("bad-reply")),
    ("error", As("failure")),
    ("break-off", Broken),
    ("unfinished", Broken),
    ("fields", As("handles")),
    ("huge-head", As("trap")),
];

/// The kinds of job of `toiler`, with a text that says how each ends.
const TOILER: &[(&str, &str)] = &[
    ("loop", "of CPU time"),
    ("forever", "from request to reply"),
    ("trap", "broke down"),
    ("output", "bytes"),
    ("flood", "of CPU time"),
    ("report", "of CPU time"),
    ("honest", ""),
];

/// Programs that are no plugin to call, with the test that has them.
const OTHERS: &[(&str, &str)] = &[
    ("mute", "files_that_cannot_serve_are_refused_in_words"),
    ("liar", "what_a_plugin_says_of_itself_is_bounded"),
    ("babbler", "what_a_plugin_says_of_itself_is_bounded"),
    ("impostor", "a_plugin_that_takes_anothers_name_takes_nothing_else"),
    ("foreman", "every_end_of_a_job_is_followed_for_the_same_user"),
];

/// Everything that the guests can do is in the tables above, and every test that they name is there.
#[test]
fn each_guest_and_each_misdeed_has_a_test() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guests = here.join("../../tests/guests/examples");
    let programs: BTreeSet<String> = fs::read_dir(&guests)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let others = OTHERS.iter().map(|(name, _)| *name);
    // `every` misbehaves in nothing; the tests of `host/harness` have it.
    let known: BTreeSet<String> = ["hostile", "sleeper", "service", "toiler", "every"]
        .into_iter()
        .chain(others)
        .map(str::to_owned)
        .collect();
    assert_eq!(programs, known, "guests without a test, or tests without a guest");

    let misdeeds = |program: &str| -> BTreeSet<String> {
        let source = fs::read_to_string(guests.join(format!("{program}.rs"))).unwrap();
        let arms = source.lines().filter_map(|line| line.trim().strip_prefix('"'));
        arms.filter_map(|arm| arm.split_once("\" => ").map(|(name, _)| name.to_owned())).collect()
    };
    let names = |table: &[(&str, Ends)]| -> BTreeSet<String> {
        table.iter().map(|(name, _)| (*name).to_owned()).collect()
    };
    assert_eq!(misdeeds("hostile"), names(HOSTILE));
    assert_eq!(misdeeds("sleeper"), names(SLEEPER));
    assert_eq!(misdeeds("service"), names(SERVICE));
    let kinds: BTreeSet<String> = TOILER.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert!(misdeeds("toiler").is_subset(&kinds));

    let tests: String = fs::read_dir(here.join("tests/guests"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let named = HOSTILE.iter().chain(SLEEPER).filter_map(|(_, ends)| match ends {
        In(test) => Some(*test),
        _ => None,
    });
    for test in named.chain(OTHERS.iter().map(|(_, test)| *test)) {
        assert!(tests.contains(&format!("fn {test}()")), "there is no test {test}");
    }
}

/// A mount of a guest with a store on a disk, whose limits are quickly reached and which is never put
/// aside.
async fn bounded(bench: &mut Bench, plugin: &str, warm: bool) -> (Arc<Mount>, tempfile::TempDir) {
    bench.put(&format!("{plugin}.wasm"), &guest(plugin));
    let folder = tempfile::tempdir().unwrap();
    let store = keepgate_store::disk::DiskStore::open(folder.path(), Default::default()).unwrap();
    let store: Arc<dyn BlobStore> = Arc::new(store);
    let spec = spec("/", plugin, |spec| {
        grant_store(spec, store);
        // On a machine that is busy with other things the clock of a guest runs on.
        spec.limits.cpu = Duration::from_secs(1);
        spec.limits.time = Duration::from_secs(5);
        spec.limits.memory = 32 << 20;
        spec.limits.faults.count = 0;
        spec.warm = warm;
    });
    (bench.generation(&[spec]).await.mounts[0].clone(), folder)
}

/// Says how a call ended, having read its reply.
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
async fn each_misdeed_ends_as_it_must_and_the_next_call_is_served() {
    for (plugin, table) in [("hostile", HOSTILE), ("sleeper", SLEEPER), ("service", SERVICE)] {
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
async fn wasi_shows_nothing_of_the_machine() {
    let mut bench = Bench::new();
    let (mount, _folder) = bounded(&mut bench, "sleeper", false).await;
    assert_eq!(text(get(&mount, "/look").await.unwrap()).await, "0 0 0 false");
}

#[tokio::test]
async fn a_bomb_that_a_guest_reads_costs_its_own_time() {
    let mut bench = Bench::new();
    let (mount, _folder) = bounded(&mut bench, "hostile", false).await;
    // One member of many, each a megabyte of nothing in a kilobyte: gzip allows as many as one likes.
    let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    member.write_all(&vec![0; 1 << 20]).unwrap();
    let member = bytes::Bytes::from(member.finish().unwrap());
    let endless = futures_util::stream::repeat_with(move || Ok(member.clone()));
    let mut bomb = request("POST", "/bomb", b"");
    bomb.body = Body::from_stream(None, endless);
    assert_eq!(mount.call(bomb).await.unwrap_err().reason(), "cpu");
}

#[tokio::test]
async fn what_a_plugin_says_to_clients_is_short() {
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
    // A status that is no refusal would make a success of a failure: a bug, told to operators only.
    let Err(CallError::Failure(Failure::Internal(why))) = get(&mount, "/bad-refusal").await else {
        panic!("let through");
    };
    assert!(why.len() < 10_000 && why.contains("the status 200"), "{why}");
    let error = get(&mount, "/huge-head").await.unwrap_err().to_string();
    assert!(error.len() < 1000, "{} bytes", error.len());
}

/// A log that everything goes into, and that keeps nothing.
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
    // Only what somebody reads is counted.
    let _log = tracing::subscriber::set_default(ReadsAll);
    assert_eq!(get(&mount, "/log-flood").await.unwrap_err().reason(), "cpu");
    assert_eq!(get(&mount, "/count-flood").await.unwrap_err().reason(), "cpu");
    let families = bench.registry.gather();
    let family = |name: &str| families.iter().find(|family| family.name() == name).unwrap();
    let dropped = family("keepgate_plugin_log_lines_dropped_total");
    let dropped: f64 = dropped.get_metric().iter().map(|m| m.get_counter().get_value()).sum();
    assert!(dropped > 100.0, "{dropped}");
    assert!(family("hostile_total").get_metric().len() <= 10_000);
}

#[tokio::test]
async fn what_a_plugin_says_of_itself_is_bounded() {
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
async fn a_plugin_that_takes_anothers_name_takes_nothing_else() {
    let mut bench = Bench::new();
    bench.put("impostor.wasm", &guest("impostor"));
    bench.put("restic.wasm", &restic());
    let specs =
        [spec("/", "restic", |spec| drop(with_store(spec))), spec("/other", "impostor", |_| {})];
    let generation = bench.generation(&specs).await;
    assert_eq!(generation.refused, []);
    // Mounts, statuses and metrics go by the file's name.
    let id = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let stored = generation.mounts[0].call(request("POST", &format!("/r/data/{id}"), b"abc")).await;
    assert_eq!(stored.unwrap().status, 200);
    assert_eq!(text(get(&generation.mounts[1], "/").await.unwrap()).await, "not restic");
    let status = generation.status();
    let named: Vec<_> =
        status["plugins"].as_array().unwrap().iter().map(|plugin| &plugin["name"]).collect();
    assert_eq!(named, ["impostor", "restic"]);

    // A counter belongs to who named it first.
    let mut bench = Bench::new();
    let mount = bench.hostile(|_| {}).await;
    get(&mount, "/hello").await.unwrap();
    bench.put("impostor.wasm", &guest("impostor"));
    let generation = bench.generation(&[]).await;
    let why = &generation.refused[0].why;
    assert!(why.contains("the plugin hostile has it already"), "{why}");
    let counted = bench
        .registry
        .gather()
        .into_iter()
        .find(|family| family.name() == "hostile_total")
        .unwrap();
    assert_eq!(counted.get_metric()[0].get_counter().get_value(), 1.0);
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_even_read() {
    let mut bench = Bench::new();
    let file = fs::File::create(bench.file("large.wasm")).unwrap();
    file.set_len(1 << 40).unwrap();
    let generation = bench.generation(&[]).await;
    assert!(generation.refused[0].why.contains("268435456 at most"), "{:?}", generation.refused);
}

/// The time is tokio's: it stands, and goes on by hand.
#[tokio::test]
async fn a_plugin_that_breaks_down_again_and_again_is_put_aside_and_brought_back() {
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
        matches!(error, CallError::Aside(pause) if pause <= quick.pause && !pause.is_zero()),
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
async fn jobs_that_do_not_work_end_and_the_others_go_on() {
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
    // Jobs are no reason to refuse requests.
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

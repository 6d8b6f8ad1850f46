//! What plugins share, nobody can take from the others: paths, names of metrics, the log.

use std::fs::{self, File};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use keepgate_tests::component::{expensive_to_compile, tagged};
use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::program::{LONG, Program, keepgate};
use keepgate_tests::tools::{self, Finished};
use rustix::process::Signal;

const AUTO: &str = "[auto_mount]\nauth = [\"none\"]\nstore = \"main\"";

/// The plugin that is mounted at a path.
fn mounted_at(gateway: &Gateway, path: &str) -> Option<String> {
    let status = gateway.status();
    let mut mounts = status["mounts"].as_array().unwrap().iter();
    let mount = mounts.find(|mount| mount["path"] == path)?;
    Some(mount["plugin"].as_str().unwrap().to_owned())
}

/// The report of a check that found something wrong.
fn refused(finished: Finished) -> String {
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    finished.stdout
}

/// A component that proposes this path below `/`, of six bytes.
fn proposing(path: &str) -> Vec<u8> {
    let (from, to) = (b"keeper1.0.0", format!("{path}1.0.0"));
    let mut component = tools::guest("keeper");
    let at = component.windows(from.len()).position(|bytes| bytes == from).unwrap();
    component[at..at + to.len()].copy_from_slice(to.as_bytes());
    component
}

#[test]
fn a_path_stays_with_the_plugin_that_has_it() {
    let setup = Setup::new().table(AUTO);
    // All of these propose `/hostile`.
    setup.install("bbb", &tools::guest("hostile"));
    let gateway = setup.start();
    assert_eq!(mounted_at(&gateway, "/hostile").unwrap(), "bbb");
    for name in ["aaa", "hostile"] {
        let from = gateway.program.stderr.count();
        setup.install(name, &tools::guest("hostile"));
        gateway.program.stderr.wait_for(from, &["plugin not mounted", name, "which is taken"]);
        gateway.program.stderr.wait_for(from, &["serving", "mounts=2"]);
        assert_eq!(mounted_at(&gateway, "/hostile").unwrap(), "bbb");
    }
    // Nobody has it at a start, so it is for the file of that name, wherever it is sorted.
    gateway.stop();
    let gateway = setup.start();
    assert_eq!(mounted_at(&gateway, "/hostile").unwrap(), "hostile");
    let status = gateway.status().to_string();
    assert!(status.contains("plugin aaa") && status.contains("add a [[mount]]"), "{status}");
    let said = tools::run(keepgate(&["check", "--config", text(&setup.config())]));
    let said = refused(said);
    assert!(said.contains("wrong: plugin bbb: it proposes the path \"/hostile\""), "{said}");
    gateway.stop();
}

#[test]
fn a_proposal_that_no_mount_can_have_stops_nothing() {
    let setup = Setup::new().mount("/backups", "restic", "").table(AUTO);
    setup.install("a", &proposing("kee//r"));
    let gateway = setup.start();
    gateway.program.stderr.wait_for(0, &["plugin not mounted", "/kee//r", "no mount can have"]);
    let from = gateway.program.stderr.count();
    setup.install("b", &proposing("keep//"));
    gateway.program.stderr.wait_for(from, &["plugin not mounted", "/keep//"]);
    gateway.program.stderr.wait_for(from, &["serving", "mounts=1", "refused=2"]);
    assert_eq!(mounted_at(&gateway, "/backups").unwrap(), "restic");
    gateway.stop();
}

/// `an_impostor` describes the counter of `hostile` with another label, and is loaded first.
#[test]
fn a_file_that_is_not_mounted_takes_no_names() {
    let setup = Setup::new().mount("/hostile", "hostile", "");
    setup.install("an_impostor", &tools::guest("impostor"));
    setup.install("hostile", &tools::guest("hostile"));
    for names in ["", "[plugins]\nunprefixed_metrics = [\"an_impostor\", \"hostile\", \"hostle\"]"]
    {
        let setup = setup.clone().table(names);
        setup.write();
        let gateway = setup.start();
        assert_eq!(gateway.endpoint().get("/hostile/hello").status, 200);
        let name = if names.is_empty() { "plugin_hostile_total" } else { "hostile_total" };
        let line = format!("{name}{{mount=\"/hostile\",what=\"hello\"}}");
        assert_eq!(gateway.metric(&line), 1.0);
        gateway.stop();
        let said = tools::run(setup.check_command()).success();
        let note = "note: [plugins] unprefixed_metrics: there is no plugin \"hostle\"";
        assert_eq!(said.contains(note), !names.is_empty(), "{said}");
    }
}

#[test]
fn failures_cannot_flood_the_log() {
    let setup = Setup::new().mount("/hostile", "hostile", "limits = { faults = 0 }");
    setup.install("hostile", &tools::guest("hostile"));
    let gateway = setup.start();
    let (client, log) = (gateway.endpoint(), &gateway.program.stderr);
    let (from, begun) = (log.count(), Instant::now());
    let mut connection = client.connect();
    for path in ["/hostile/bad-refusal", "/hostile/trap", "/hostile/nonsense"] {
        for _ in 0..1500 {
            assert_eq!(connection.send("GET", path, &[], b"").unwrap().status, 500);
        }
    }
    log.wait_for(from, &["plugin log lines dropped by the rate limit", "/hostile"]);
    let written = log.since(from).len();
    // What a plugin may log at once, and then in each second; with the gateway's own words around it.
    let most = 2 * ((1 << 20) + (32 << 10) * (begun.elapsed().as_secs() + 1));
    assert!((written as u64) < most, "{written} bytes, at most {most} are allowed");
    let dropped = "keepgate_plugin_log_lines_dropped_total{mount=\"/hostile\",plugin=\"hostile\"}";
    assert!(gateway.metric(dropped) > 100.0, "{}", gateway.metric(dropped));
    gateway.stop();
}

#[test]
fn what_a_plugin_logs_looks_like_no_line_of_the_gateway() {
    let setup = Setup::new().mount("/hostile", "hostile", "");
    setup.install("hostile", &tools::guest("hostile"));
    let gateway = setup.start();
    let from = gateway.program.stderr.count();
    assert_eq!(gateway.endpoint().get("/hostile/log-forged").status, 200);
    gateway.program.stderr.wait_for(from, &["a field is forged", "mount=\"/hostile\""]);
    let said = gateway.program.stderr.since(from);
    let forged: Vec<_> = said.lines().filter(|line| line.contains("forged")).collect();
    assert_eq!(forged.len(), 3, "{forged:?}");
    for line in forged {
        assert!(line.contains(" mount=\"/hostile\" plugin=\"hostile\""), "{line}");
        let unquoted = line.split('"').step_by(2).collect::<String>();
        assert!(!unquoted.contains("mount=/restic"), "{line}");
        assert!(!line.contains(" mount=\"/restic"), "{line}");
    }
    gateway.stop();
}

/// The processes that this gateway has started to compile plugins.
fn compilers(gateway: &Gateway) -> Vec<u32> {
    children(gateway.program.id())
}

/// The processes that this one has started.
fn children(parent: u32) -> Vec<u32> {
    let parent = format!("PPid:\t{parent}\n");
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        status.contains(&parent).then_some(id)
    });
    processes.collect()
}

#[test]
fn a_plugin_that_compiles_for_ever_holds_up_nobody() {
    let setup = Setup::restic().mount("/slow", "aaa", "").impatient();
    setup.install("aaa", &expensive_to_compile(&tools::guest("hostile"), 100, 20_000));
    let gateway = setup.start();
    let (client, log) = (gateway.endpoint(), &gateway.program.stderr);
    assert_eq!(client.status("GET", "/slow/hello"), 503);
    let status = gateway.status();
    assert!(status["loading"][0].as_str().unwrap().ends_with("aaa.wasm"), "{status}");
    let problem = &status["mounts"][1]["problem"];
    assert!(problem.as_str().unwrap().contains("is being compiled"), "{status}");
    let blob = crate::store(&client, "/r/", keepgate_tests::data::Blob::new(5, 1000));
    // Files that come later do not wait for it.
    let from = log.count();
    setup.install("hostile", &tools::guest("hostile"));
    log.wait_for(from, &["plugin loaded", "hostile.wasm"]);
    assert_eq!(client.status("GET", &blob), 200);
    log.wait_for(0, &["plugin is still being compiled", "aaa.wasm"]);
    let memory = gateway.program.memory("VmHWM");
    assert!(memory < 400 << 20, "{memory} bytes");

    // Its place is free again as soon as the file is gone or the gateway stops.
    let compiling = compilers(&gateway);
    assert_eq!(compiling.len(), 1);
    let from = log.count();
    setup.install("aaa", &tools::guest("hostile"));
    log.wait_for(from, &["plugin loaded", "aaa.wasm"]);
    // The line that says so may be about the file before.
    gateway.eventually("it serves", |_| client.status("GET", "/slow/hello") == 200);
    assert_eq!(client.get("/slow/hello").text(), "hello ");
    gateway.eventually("the compiler ends", |gateway| compilers(gateway).is_empty());
    setup.install("bbb", &expensive_to_compile(&tools::guest("hostile"), 100, 20_000));
    gateway.eventually("a compiler runs", |gateway| !compilers(gateway).is_empty());
    let compiling = compilers(&gateway);
    gateway.stop();
    gone(&compiling);
}

/// What was compiled at an earlier start waits for no compiler, however many are at work.
#[test]
fn a_restart_beside_plugins_that_compile_for_ever_serves_as_before() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let blob = crate::store(&gateway.endpoint(), "/r/", keepgate_tests::data::Blob::new(6, 1000));
    gateway.stop();
    let endless = expensive_to_compile(&tools::guest("hostile"), 100, 20_000);
    for name in ["aa", "ab", "ac", "ad"] {
        setup.install(name, &tagged(&endless, u64::from(name.as_bytes()[1])));
    }
    let gateway = setup.impatient().start();
    assert_eq!(gateway.endpoint().status("GET", &blob), 200);
    assert_eq!(gateway.status()["loading"].as_array().unwrap().len(), 4);
    assert_eq!(compilers(&gateway).len(), 4);
    gateway.stop();
}

/// Waits until none of these processes runs.
fn gone(processes: &[u32]) {
    let end = Instant::now() + Duration::from_secs(10);
    // One that has ended stays until its parent, or the system's first process, takes notice.
    let runs = |id: &u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        !status.is_empty() && !status.contains("State:\tZ")
    };
    while processes.iter().any(runs) {
        assert!(Instant::now() < end, "a compiler has outlived its gateway");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends what is compiled at a start by a signal to the gateway, and returns how that exited.
fn stopped_while_compiling(signal: Signal) -> ExitStatus {
    let setup = Setup::new().mount("/slow", "aaa", "");
    setup.install("aaa", &expensive_to_compile(&tools::guest("hostile"), 100, 20_000));
    let mut program = Program::start(setup.command());
    let end = Instant::now() + LONG;
    let compiling = loop {
        let compiling = children(program.id());
        if !compiling.is_empty() {
            break compiling;
        }
        assert!(Instant::now() < end, "nothing is compiled: {}", program.stderr.text());
        std::thread::sleep(Duration::from_millis(10));
    };
    program.signal(signal);
    let status = program.wait(Duration::from_secs(10));
    gone(&compiling);
    status
}

#[test]
fn a_start_that_waits_for_a_compiler_can_be_stopped() {
    assert!(stopped_while_compiling(Signal::TERM).success());
    assert!(!stopped_while_compiling(Signal::KILL).success());
}

fn plugin(arguments: &[&str]) -> Finished {
    tools::run(keepgate(&[&["plugin"], arguments].concat()))
}

/// The tools look at files before anybody trusts them.
#[test]
fn tools_read_no_more_than_a_gateway_would() {
    let folder = tempfile::tempdir().unwrap();
    let (sparse, pipe) = (folder.path().join("sparse.wasm"), folder.path().join("pipe.wasm"));
    File::create(&sparse).unwrap().set_len(2 << 30).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for tool in ["check", "inspect", "bench"] {
        let begun = Instant::now();
        for (file, why) in [
            (text(&sparse), "at most 268435456 bytes"),
            ("/dev/zero", "not a regular file"),
            (text(&pipe), "not a regular file"),
            (text(&empty), "contains no component"),
            ("/no/such/file", "No such file"),
        ] {
            let said = plugin(&[tool, file]).fails_with(2);
            assert!(said.contains(why), "{tool} {file}: {said}");
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{tool} took {:?}", begun.elapsed());
    }
    let said = plugin(&["bench", "--size", "100TB", "x.wasm"]).fails_with(2);
    assert!(said.contains("at most 1GiB"), "{said}");

    let junk = folder.path().join("junk.wasm");
    fs::write(&junk, [tools::guest("hostile"), b"junk".to_vec()].concat()).unwrap();
    let said = refused(plugin(&["check", text(&junk)]));
    assert!(said.contains("something was appended"), "{said}");

    let built = folder.path().join("built");
    fs::create_dir(&built).unwrap();
    fs::write(built.join("built.wasm"), tools::guest("hostile")).unwrap();
    for tool in ["check", "inspect"] {
        plugin(&[tool, text(&built)]).success();
    }
}

//! The cases of the plugins of this repository, and the kit with them.

use std::path::{Path, PathBuf};

use keepgate_harness::case::{self, Failing, Fault, Member, Operation};
use keepgate_harness::{Harness, PluginUnderTest, RunOptions, component, report, run};
use serde_json::json;

fn cases(plugin: &Path, cases: &str) -> usize {
    let files = case::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(cases));
    let files = files.unwrap_or_else(|broken| panic!("{broken:#?}"));
    let plugin = PluginUnderTest::load(plugin, None).unwrap();
    let report = run(&plugin, &files, &RunOptions::default());
    assert_eq!((report.wrong(), report.broken().len()), (0, 0), "{}", report::text(&report));
    report.right()
}

#[test]
fn every_case_of_the_restic_plugin_holds() {
    assert!(cases(&component("restic").unwrap(), "../../plugins/restic/cases") >= 40);
}

#[test]
fn every_case_of_the_etcd_plugin_holds() {
    assert!(cases(&component("etcd").unwrap(), "../../plugins/etcd/cases") >= 35);
}

#[test]
fn lxd_behaves_as_its_cases_say() {
    assert!(cases(&component("lxd").unwrap(), "../../plugins/lxd/cases") >= 14);
}

#[test]
fn fest_behaves_as_its_cases_say() {
    assert!(cases(&component("fest").unwrap(), "../../plugins/fest/cases") >= 430);
}

#[test]
fn databacker_behaves_as_its_cases_say() {
    assert!(cases(&component("databacker").unwrap(), "../../plugins/databacker/cases") >= 45);
}

#[test]
fn a_plugin_that_misbehaves_is_held() {
    let guests = std::env::var("KEEPGATE_GUEST_DIR").expect("run `cargo xtask test`");
    let hostile = Path::new(&guests).join("hostile.wasm");
    assert_eq!(cases(&hostile, "tests/harness/hostile.toml"), 11);
}

#[test]
fn the_kit_tells_what_a_plugin_did() {
    let harness = Harness::load(&component("restic").unwrap()).unwrap();
    let id = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let (path, key) = (format!("/data/{id}"), format!("data/ba/{id}"));
    let world = harness.clone().user("ann").blob("config", b"c").start().unwrap();
    assert_eq!(world.post(&path, b"abc").status, 200);
    assert_eq!(world.get(&path).body, b"abc");
    assert_eq!(world.head(&path).header("content-length"), Some("3"));
    assert_eq!(world.changed(), [key.as_str()]);
    assert_eq!(world.blob("config").as_deref(), Some(&b"c"[..]));
    let calls: Vec<String> = world.calls().iter().map(ToString::to_string).collect();
    assert_eq!(calls[1], format!("blobs.put main {key} absent-or-identical sha256"));
    assert_eq!(world.counts()[0].labels, ["ann", "", "data"]);
    assert_eq!(world.delete(&path).status, 200);
    assert!(world.changed().is_empty());

    let fault = Fault { after: Some(1), ..Fault::new(Operation::Put, Failing::NoSpace) };
    let world = harness.clone().fault(fault).start().unwrap();
    assert_eq!(world.unmet_faults().len(), 1);
    assert_eq!(world.post(&path, b"abc").status, 507);
    assert!(world.unmet_faults().is_empty() && world.blobs().is_empty());
    let mut gone = world.request("POST", &path, b"abc");
    gone.leaves_after_sending = Some(1);
    assert!(world.send(gone).left && world.blobs().is_empty());

    let refused = harness.settings(json!({"private": true})).start().unwrap_err();
    assert!(refused.to_string().contains("unknown field `private`"), "{refused}");
}

#[test]
fn the_kit_runs_jobs_and_an_hour_takes_no_time() {
    let harness = Harness::load(&component("etcd").unwrap()).unwrap();
    let silent =
        Member { stalls: Some(3), times: Some(60), ..Member::new("http://a", b"database") };
    let world = harness.cluster("main", vec![silent]).start().unwrap();
    for _ in 0..60 {
        let reply = world.post("/api/v1/backup", b"");
        assert_eq!(reply.status, 500, "{}", reply.text());
    }
    assert_eq!(world.post("/api/v1/backup", b"").status, 200);
    let jobs = world.jobs().unwrap();
    assert_eq!((jobs.len(), jobs[60].state.as_str()), (61, "succeeded"));
    assert!(jobs[60].created.duration_since(jobs[0].created).unwrap().as_secs() >= 3600);
    assert_eq!(world.run_job("backup", b"").unwrap().key, "main");
}

#[test]
fn what_is_no_plugin_is_refused_in_the_servers_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.wasm");
    std::fs::write(&file, b"#!/bin/sh").unwrap();
    let refused = PluginUnderTest::load(&file, None).unwrap_err().to_string();
    assert!(refused.contains("not a WebAssembly component"), "{refused}");
    let none = PluginUnderTest::load(&folder.path().join("none.wasm"), None).unwrap_err();
    assert!(none.to_string().contains("No such file"), "{none}");
    let none = component("no-such-plugin").unwrap_err().to_string();
    assert!(none.contains("keepgate plugin build"), "{none}");
}

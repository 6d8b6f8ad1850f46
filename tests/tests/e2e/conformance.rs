//! The cases of `tests/conformance` against Keepgate in its two forms, and against restic's own
//! rest-server, so that they are not only our opinion.

use std::path::{Path, PathBuf};

use keepgate_tests::conformance::differences::Differences;
use keepgate_tests::conformance::run::{Target, run};
use keepgate_tests::conformance::server::Server;
use keepgate_tests::conformance::suite;
use keepgate_tests::gateway::Setup;
use keepgate_tests::tools;

/// Servers at a time: most of what they do is to start and to end.
const JOBS: usize = 3;

fn differences(name: &str) -> Differences {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance");
    Differences::read(&folder.join(name)).unwrap()
}

#[track_caller]
fn hold(what: &str, target: &Target, differences: Option<&Differences>) {
    let cases = suite::stock().unwrap();
    let report = run(&cases, target, differences, None, JOBS).unwrap();
    tools::report(&format!("{what}: {}", report.sum()));
    assert!(report.failed.is_empty(), "{what}:\n{}\n{}", report.failed.join("\n"), report.sum());
    assert!(report.right > 250, "{}", report.sum());
}

fn command(program: &Path, subcommand: &str) -> Target {
    let program = program.display();
    Target::Start(format!("{program} {subcommand} {{flags}} --path {{path}} --listen 127.0.0.1:0"))
}

#[test]
fn keepgate_rest_server() {
    hold("keepgate rest-server", &command(&tools::keepgate(), "rest-server"), None);
}

/// Below a prefix, which no server that is started for its flags has.
#[test]
fn keepgate_serve() {
    let setup = Setup::new().mount("/deep/down", "restic", "");
    let gateway = setup.start();
    let url = format!("http://127.0.0.1:{}/deep/down/", gateway.port());
    let server = Server::at(&url, Some(&setup.store())).unwrap();
    hold("keepgate serve", &Target::Running(Box::new(server)), None);
    gateway.stop();
}

#[test]
fn restics_own_rest_server() {
    let check = "the cases of tests/conformance against restic's rest-server";
    let Some(original) = tools::find_for("rest-server", check) else { return };
    let known = differences("differences-rest-server.toml");
    hold("restic's rest-server", &command(&original, ""), Some(&known));
}

/// A server that is not there fails each case with words, and does not end the run.
#[test]
fn a_server_that_does_not_start() {
    let cases = suite::stock().unwrap();
    let target = Target::Start("/nonexistent/rest-server {flags}".to_owned());
    let report = run(&cases, &target, None, Some("paths/found/*"), 1).unwrap();
    assert_eq!((report.right, report.failed.is_empty()), (0, false));
    assert!(report.failed.iter().all(|line| line.contains("/nonexistent/rest-server")));
    run(&cases, &target, None, Some("no such case"), 1).unwrap_err();
}

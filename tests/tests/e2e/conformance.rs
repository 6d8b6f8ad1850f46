//! The cases of `tests/conformance` against Keepgate in its two forms, and against restic's own
//! rest-server, so that they are not only our opinion.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use keepgate_harness::socket::{Server, Trust};
use keepgate_harness::{Differences, Report, Target, report};
use keepgate_tests::conformance;
use keepgate_tests::gateway::Setup;
use keepgate_tests::s3::{KEY, S3Server, SECRET};
use keepgate_tests::tools;

/// Servers at a time: most of what they do is to start and to end.
const JOBS: usize = 3;

fn differences(name: &str) -> Differences {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance");
    Differences::read(&folder.join(name)).unwrap()
}

/// How many cases are right, different as listed, and skipped: all of them must be accounted for.
type Counts = (usize, usize, usize);

#[track_caller]
fn hold(what: &str, target: &Target<'_>, differences: Option<Differences>, counts: Counts) {
    let cases = conformance::stock().unwrap();
    let report = conformance::play(&cases, target, differences, None, JOBS).unwrap();
    tools::report(&format!("{what}: {}", report::sum(&report)));
    let Report { skipped, .. } = &report;
    assert!(conformance::is_right(&report), "{what}:\n{}", report::text(&report));
    assert_eq!((report.right(), report.known(), skipped.len()), counts, "{what}: {skipped:#?}");
}

fn command(program: &Path, subcommand: &str) -> String {
    let program = program.display();
    format!("{program} {subcommand} {{flags}} --path {{path}} --listen 127.0.0.1:0")
}

#[test]
fn keepgate_rest_server() {
    let command = command(&tools::keepgate(), "rest-server");
    hold("keepgate rest-server", &Target::Start(&command), None, (733, 0, 0));
}

/// Below a prefix, which no server has that is started with flags.
#[test]
fn keepgate_serve() {
    let setup = Setup::new().mount("/deep/down", "restic", "");
    let gateway = setup.start();
    let url = format!("http://127.0.0.1:{}/deep/down/", gateway.port());
    let server = Server::at(&url, &Trust::Machine).unwrap().with_data(&setup.store());
    hold("keepgate serve", &Target::Running(&server), None, (494, 0, 733 - 494));
    gateway.stop();
}

/// Each case has a prefix in a bucket. A wrapper moves the folder of the case to where the server keeps the objects
/// below that prefix, so that the case sees them.
#[test]
fn keepgate_rest_server_with_a_bucket() {
    let check = "the cases of tests/conformance with a bucket and flags";
    let Some(server) = S3Server::find(check) else { return };
    server.bucket("cases");
    let folder = tempfile::tempdir().unwrap();
    let wrapper = folder.path().join("wrapper");
    let script = include_str!("../../conformance/rest-server-in-bucket.sh");
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    let command = format!(
        "env KEEPGATE={} BUCKET={} URL={}/cases AWS_ACCESS_KEY_ID={KEY} AWS_SECRET_ACCESS_KEY={SECRET} \
         STATE_DIRECTORY={} {} {{flags}} --path {{path}} --listen 127.0.0.1:0",
        tools::keepgate().display(),
        server.buckets().join("cases").display(),
        server.url(),
        folder.path().display(),
        wrapper.display(),
    );
    let known = differences("differences-bucket.toml");
    let target = Target::Start(&command);
    hold("keepgate rest-server with a bucket", &target, Some(known), (733 - 16, 16, 0));
}

#[test]
fn restics_own_rest_server() {
    let check = "the cases of tests/conformance against restic's rest-server";
    let Some(original) = tools::find_for("rest-server", check) else { return };
    let known = differences("differences-rest-server.toml");
    let command = command(&original, "");
    hold("restic's rest-server", &Target::Start(&command), Some(known), (733 - 76, 76, 0));
}

/// If a server does not start, each of its cases fails with the reason, and the run goes on.
#[test]
fn a_server_that_does_not_start() {
    let cases = conformance::stock().unwrap();
    let target = Target::Start("/nonexistent/rest-server {flags}");
    let report = conformance::play(&cases, &target, None, Some("paths/found/*"), 1).unwrap();
    assert_eq!((report.right(), report.wrong()), (0, 15));
    let said = report::text(&report);
    assert_eq!(said.matches("/nonexistent/rest-server").count(), 15, "{said}");
    conformance::play(&cases, &target, None, Some("no such case"), 1).unwrap_err();
}

//! restic works: every command, over REST and on the same folder by itself. The repository is
//! compared with what went in byte for byte.

use std::path::Path;
use std::process::Command;

use keepgate_tests::gateway::{Setup, text};
use keepgate_tests::program::{LONG, Program};
use keepgate_tests::restic::Restic;
use keepgate_tests::{tools, tree};
use rustix::process::Signal;

/// Backs up a tree, changes it and does so again, looks at everything and takes it back out.
fn full_round(restic: &Restic) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    tree::make(&source);
    restic.run(&["init"]);
    restic.run_in(folder.path(), &["backup", "source"]);
    tree::change(&source);
    restic.run_in(folder.path(), &["backup", "source"]);
    assert_eq!(restic.snapshots(), 2);
    restic.run(&["check", "--read-data"]);
    assert_restored(restic, &source);
    restic.run(&["forget", "--keep-last", "1", "--prune"]);
    assert_eq!(restic.snapshots(), 1);
    restic.run(&["check", "--read-data"]);
    assert_restored(restic, &source);
}

fn assert_restored(restic: &Restic, source: &Path) {
    let target = tempfile::tempdir().unwrap();
    restic.run(&["restore", "latest", "--target", text(target.path())]);
    tree::assert_same(source, &target.path().join("source"));
}

#[test]
fn everything_over_tls_with_a_password() {
    let setup = Setup::new().tls().user("alice", "secret").mount("/", "restic", "");
    let gateway = setup.start();
    let url = gateway.repository("alice:secret@", "/laptop/");
    let Some(restic) = Restic::find("restic over HTTPS", url.clone()) else { return };
    let restic = restic.trusting(&setup.certificate());
    full_round(&restic);

    // The same folder by restic's own local backend, and back.
    let more = tempfile::tempdir().unwrap();
    tree::make(&more.path().join("more"));
    let restic = restic.at(text(&setup.store().join("laptop")));
    restic.run(&["check", "--read-data"]);
    restic.run_in(more.path(), &["backup", "more"]);
    let restic = restic.at(url);
    assert_eq!(restic.snapshots(), 2);
    restic.run(&["check", "--read-data"]);
    gateway.stop();
}

/// The trial set-up: what is printed is pasted into a shell.
#[test]
fn the_commands_that_the_first_start_prints() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let serve = || {
        let program =
            Program::keepgate(&["serve", "--data", text(&data), "--listen", "127.0.0.1:0"]);
        program.stdout.wait_for(0, &["Stop with Ctrl-C"]);
        program
    };
    let mut program = serve();
    let printed = program.stdout.text();
    assert!(printed.contains("user keepgate, password "), "{printed}");
    let commands: Vec<_> = printed
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("export ") || line.starts_with("restic "))
        .collect();
    assert_eq!(commands.len(), 4, "{printed}");

    let check = "restic with the commands of the first start";
    if tools::find_for("restic", check).is_some() {
        let script = commands.join("\n");
        let certificate = text(&data.join("tls/certificate.pem")).to_owned();
        let more = format!("restic --cacert '{certificate}' check --read-data");
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-e", "-c", &format!("{script}\n{more}")])
            .env("HOME", folder.path())
            .env("RESTIC_CACHE_DIR", folder.path().join("cache"));
        let said = tools::run(shell).success();
        assert!(said.contains("no errors were found"), "{said}");
        assert!(data.join("store/restic/demo/config").is_file());
    }

    program.signal(Signal::INT);
    assert!(program.wait(LONG).success());
    // Another start shows no password, and serves the same.
    let mut program = serve();
    let printed = program.stdout.text();
    assert!(!printed.contains("password keepgate") && !printed.contains("shown this once"));
    program.signal(Signal::TERM);
    assert!(program.wait(LONG).success());
}

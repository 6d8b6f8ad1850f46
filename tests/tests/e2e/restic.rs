//! What the first start prints works, and other programs can use the folder as it is. What restic itself
//! can do is tested in `clients`.

use std::process::Command;

use keepgate_tests::gateway::{Setup, text};
use keepgate_tests::program::{LONG, Program};
use keepgate_tests::restic::Restic;
use keepgate_tests::{tools, tree};
use rustix::process::Signal;

/// On disk there is an ordinary restic repository: restic's own local backend and rclone's server for
/// restic use it as it is, and what they write is served here.
#[test]
fn the_folder_is_an_ordinary_restic_repository() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let here = gateway.repository("", "/laptop/");
    let Some(restic) = Restic::find("the folder by other ways", here) else { return };
    let folder = setup.store().join("laptop");
    let mut ways = vec![("local", text(&folder).to_owned())];
    // restic starts `rclone serve restic --stdio` for these.
    if tools::find_for("rclone", "the folder by rclone serve restic").is_some() {
        ways.push(("rclone", format!("rclone:{}", text(&folder))));
    }
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("source");
    tree::make(&source);
    restic.run(&["init"]);
    restic.run_in(work.path(), &["backup", "source"]);
    tree::change(&source);
    for (number, (way, elsewhere)) in (2..).zip(ways) {
        let other = restic.at(elsewhere);
        other.run(&["check", "--read-data"]);
        std::fs::write(source.join(way), way).unwrap();
        other.run_in(work.path(), &["backup", "source"]);
        assert_eq!(restic.snapshots(), number, "{way}");
        restic.run(&["check", "--read-data"]);
        restic.assert_restores(&source);
    }
    gateway.stop();
}

/// The trial setup: what is printed is pasted into a shell.
#[test]
fn the_commands_printed_by_the_first_start_work() {
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
    // A second start shows no password, and serves the same.
    let mut program = serve();
    let printed = program.stdout.text();
    assert!(!printed.contains("password keepgate") && !printed.contains("shown this once"));
    program.signal(Signal::TERM);
    assert!(program.wait(LONG).success());
}

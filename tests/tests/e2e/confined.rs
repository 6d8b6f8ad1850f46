//! Systems that allow less than usual: without executable memory plugins are interpreted, and where the
//! address space is limited the gateway serves with what there is. What it lacks is not the plugin's fault.

use std::fs;
use std::thread;

use keepgate_tests::data::Blob;
use keepgate_tests::fault::{with_address_space, without_executable_memory};
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::Program;
use keepgate_tests::{program, tools};

use crate::store;

/// Uploads in parallel, then downloads, and compares.
fn transfer(gateway: &Gateway, count: u64) {
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    thread::scope(|scope| {
        for number in 0..count {
            let client = &client;
            scope.spawn(move || {
                let blob = Blob::new(number, 300_000);
                let path = store(client, "/r/", blob);
                assert_eq!(client.get(&path).body, blob.bytes());
            });
        }
    });
}

#[test]
fn without_executable_memory_plugins_are_interpreted() {
    let setup = Setup::restic();
    let check = "the gateway without executable memory";
    let Some(command) = without_executable_memory(check, &setup.command()) else { return };
    let gateway = setup.start_by(command);
    gateway.program.stderr.wait_for(0, &["the system refuses executable memory"]);
    assert_eq!(gateway.status()["execution"]["code"], "interpreted");
    assert_eq!(gateway.metric("keepgate_plugin_interpreted"), 1.0);
    transfer(&gateway, 4);
    gateway.stop();

    // The same folder elsewhere: the code of each kind is kept for itself.
    let code = || fs::read_dir(setup.path("state/code")).unwrap().count();
    assert_eq!(code(), 1);
    let gateway = setup.start();
    assert_eq!(gateway.status()["execution"]["code"], "native");
    assert_eq!(gateway.metric("keepgate_plugin_interpreted"), 0.0);
    transfer(&gateway, 4);
    gateway.stop();
    assert_eq!(code(), 2);
}

#[test]
fn rest_server_starts_without_executable_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut command =
        program::keepgate(&["rest-server", "--no-auth", "--listen", "127.0.0.1:0", "--path"]);
    command.arg(folder.path());
    let check = "rest-server without executable memory";
    let Some(command) = without_executable_memory(check, &command) else { return };
    let program = Program::start(command);
    program.stderr.wait_for(0, &["start server on "]);
}

#[test]
fn a_gigabyte_of_address_space_is_enough() {
    let _turn = tools::one_at_a_time();
    for (bytes, clients) in [(1 << 30, 4), (2 << 30, 16)] {
        let setup = Setup::restic();
        let gateway = setup.start_by(with_address_space(bytes, &setup.command()));
        assert_eq!(gateway.status()["execution"]["memory"], "modest");
        transfer(&gateway, clients);
        gateway.stop();
    }
}

/// The guest wants more memory than there is address space, though the mount would allow it.
#[test]
fn too_little_address_space_is_not_the_plugins_fault() {
    let limits = "limits = { memory = \"4GiB\", cpu = \"30s\", faults = 3 }";
    let setup = Setup::new().mount("/hostile", "hostile", limits);
    setup.install("hostile", &tools::guest("hostile"));
    // Little, so that the guest soon has all of it.
    let gateway = setup.start_by(with_address_space(320 << 20, &setup.command()));
    let client = gateway.endpoint();
    for _ in 0..6 {
        let refused = client.get("/hostile/flood");
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.header("retry-after").is_some());
    }
    gateway.program.stderr.wait_for(0, &["reason=\"host-memory\"", "ulimit -v"]);
    assert_eq!(client.get("/hostile/hello").text(), "hello ");
    let outcome = |outcome| {
        gateway.metric(&format!(
            "keepgate_plugin_calls_total{{mount=\"/hostile\",outcome=\"{outcome}\",plugin=\"hostile\"}}"
        ))
    };
    assert_eq!((outcome("host-memory"), outcome("trap"), outcome("aside")), (6.0, 0.0, 0.0));
    gateway.stop();
}

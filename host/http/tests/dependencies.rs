//! What this crate must not depend on, directly or indirectly: it knows mounts only as handlers, and has to
//! build and test without the engine that runs them.

use std::process::Command;

const FORBIDDEN: [&str; 8] = [
    "keepgate-runtime",
    "keepgate-jobs",
    "keepgate-connect",
    "wasmtime",
    "cranelift-codegen",
    "etcd-client",
    "tonic",
    "redb",
];

#[test]
fn the_http_server_builds_without_the_runtime() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--prefix", "none", "--package", "keepgate-http"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"hyper"), "{tree}");
    for name in FORBIDDEN {
        assert!(!names.contains(&name), "keepgate-http depends on {name}");
    }
}

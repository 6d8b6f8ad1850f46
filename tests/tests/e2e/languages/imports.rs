//! Imports in Python that happen when something is first used: a running plugin has no files.

use std::fs;

use keepgate_tests::gateway::{Gateway, text};
use keepgate_tests::program::keepgate;
use keepgate_tests::tools;
use serde_json::json;

pub(super) fn work_in_a_running_plugin(gateway: &Gateway) {
    let client = gateway.endpoint();
    let expected = json!({
        "strptime": "2026-01-02T00:00:00",
        "idna": "xn--bcher-kva.example",
        "punycode": "bcher-kva",
        "latin-1": [0xe9],
        "cp1252": [0x80],
        "iso-8859-15": "€",
        "gb18030": "é",
        "digits": 4001,
        "by name": "a",
        "csv": ["a", "b"],
        "xml": "c",
        "missing": null,
    });
    for mount in ["/faults", "/faults-warm", "/faults-warm"] {
        assert_eq!(client.get(&format!("{mount}/imports")).json(), expected, "{mount}");
    }
    // A tool for developers, and one that does not exist. The remedy goes to the operator.
    for module in ["unittest", "no_such_module"] {
        let from = gateway.program.stderr.count();
        let path = format!("/faults/missing?module={module}");
        assert_eq!(client.status("GET", &path), 500);
        let named = format!("No module named '{module}'; import {module} at the top of plugin.py");
        gateway.program.stderr.wait_for(from, &["/faults", "missing", &named]);
    }
}

#[test]
fn an_import_in_a_function_that_cannot_work_fails_the_build() {
    if tools::find_guest("archive-py").is_none() {
        let how = "`cargo xtask test` says what is missing to build them";
        return tools::skip("building plugins in Python", how);
    }
    let folder = tempfile::tempdir().unwrap();
    let late = folder.path().join("late");
    tools::run(keepgate(&["plugin", "new", text(&late), "--lang", "python"])).success();
    let main = late.join("plugin.py");
    let mut source = fs::read_to_string(&main).unwrap();
    source = source.replace(
        "def at_top(",
        "def late(self) -> None:\n        import helper\n\n    def at_top(",
    );
    fs::write(&main, source).unwrap();
    // Found by way of a module that only a function names.
    fs::write(late.join("helper.py"), "def parse():\n    from no_such_module import name\n")
        .unwrap();
    let said = tools::run(keepgate(&["plugin", "build", text(&late)])).fails_with(1);
    let expected =
        "helper.py:2: cannot import \"no_such_module\": No module named 'no_such_module'";
    assert!(said.contains(expected), "{said}");
    assert!(!late.join("late.wasm").exists(), "{said}");
}

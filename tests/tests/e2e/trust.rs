//! If the operator names digests or keys, nothing else is loaded: neither at startup nor later, nor from
//! the cache of compiled code; and a refusal says why and what to do.

use std::fs;

use keepgate_tests::component::{half, tagged};
use keepgate_tests::data::sha256;
use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::program::keepgate;
use keepgate_tests::signing::{Signer, signature_of};
use keepgate_tests::tools;
use serde_json::{Value, json};

/// restic at the root, and the hostile guest beside it.
fn setup(plugins: &str) -> Setup {
    let setup =
        Setup::restic().table(&format!("[plugins]\n{plugins}")).mount("/guest", "hostile", "");
    setup.install("hostile", &tools::guest("hostile"));
    setup
}

fn allow(components: &[&[u8]]) -> String {
    let digests = components.iter().map(|bytes| format!("\"sha256:{}\"", sha256(*bytes)));
    format!("allow = [{}]", digests.collect::<Vec<_>>().join(", "))
}

fn keys(signers: &[&Signer]) -> String {
    let keys = signers.iter().map(|signer| format!("\"{}\"", signer.key()));
    format!("keys = [{}]", keys.collect::<Vec<_>>().join(", "))
}

/// Why a plugin was accepted, according to the status.
fn trusted(status: &Value, name: &str) -> Value {
    let plugins = status["plugins"].as_array().unwrap();
    let plugin = plugins.iter().find(|plugin| plugin["name"] == name);
    plugin.map_or(Value::Null, |plugin| plugin["trusted"].clone())
}

/// Why a file is refused, according to the status.
fn refused(gateway: &Gateway, name: &str) -> Value {
    let status = gateway.status();
    let refused = status["refused"].as_array().unwrap();
    let ends = |entry: &&Value| entry["what"].as_str().unwrap().ends_with(name);
    refused.iter().find(ends).cloned().unwrap_or_default()
}

#[test]
fn without_rules_every_component_is_accepted() {
    let gateway = Setup::restic().start();
    let status = gateway.status();
    assert_eq!(status["trust"], Value::Null);
    assert_eq!(trusted(&status, "restic"), Value::Null);
    gateway.stop();
}

#[test]
fn only_allowed_digests_serve_even_if_the_cache_has_other_code() {
    let restic = tools::plugin("restic");
    let open = Setup::restic().mount("/guest", "hostile", "");
    open.install("hostile", &tools::guest("hostile"));
    let gateway = open.start();
    assert_eq!(gateway.endpoint().status("GET", "/guest/hello"), 200);
    gateway.stop();

    // The same folders, including the compiled code.
    let rules = format!("[plugins]\n{}\n\n[store.main]", allow(&[&restic]));
    open.edit(|text| text.replace("[store.main]", &rules));
    let gateway = open.start();
    let client = gateway.endpoint();
    assert_eq!(client.status("GET", "/config"), 404);
    assert_eq!(client.status("GET", "/guest/hello"), 503);
    let status = gateway.status();
    assert_eq!(trusted(&status, "restic"), json!({"by": "digest"}));
    assert_eq!(status["trust"], json!({"digests": [sha256(restic.as_slice())], "keys": []}));
    let why = refused(&gateway, "hostile.wasm")["why"].as_str().unwrap().to_owned();
    let digest = sha256(tools::guest("hostile").as_slice());
    assert!(why.contains("its digest is not allowed"), "{why}");
    assert!(why.contains(&format!("add \"sha256:{digest}\" to `allow`")), "{why}");
    // The file, and the mount that uses it.
    assert!((gateway.metric("keepgate_plugin_refused") - 2.0).abs() < f64::EPSILON);

    // A plugin replaced by an unknown one keeps serving.
    let from = gateway.program.stderr.count();
    open.install("restic", &tagged(&restic, 1));
    gateway.program.stderr.wait_for(from, &["plugin refused", "older_serves=true", "restic.wasm"]);
    assert_eq!(client.status("GET", "/config"), 404);
    gateway.eventually("the status says so", |gateway| {
        refused(gateway, "restic.wasm")["older_serves"] == true
    });
    gateway.stop();
    // After a restart there is no previous plugin.
    let said = tools::run(keepgate(&["check", "--config", text(&open.config())]));
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(said.stdout.contains("restic.wasm: the plugin is not trusted"), "{said:?}");
}

#[test]
fn untrusted_components_are_neither_parsed_nor_compiled() {
    let restic = tools::plugin("restic");
    let setup = setup(&allow(&[&restic]));
    fs::write(setup.plugin("text"), "no component at all").unwrap();
    let gateway = setup.start();
    let why = refused(&gateway, "text.wasm")["why"].as_str().unwrap().to_owned();
    assert!(why.contains("not trusted") && !why.contains("asm`"), "{why}");
    let code = fs::read_dir(setup.path("state/code")).unwrap();
    let code: Vec<_> =
        code.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(code.len(), 1, "{code:?}");
    assert!(code[0].starts_with(&sha256(restic.as_slice())), "{code:?}");
    gateway.stop();
}

#[test]
fn a_signature_is_accepted_whenever_it_arrives() {
    let signer = Signer::new();
    let setup = setup(&keys(&[&signer]));
    signer.sign_file(&setup.plugin("restic"), "restic of today");
    let gateway = setup.start();
    let (client, log) = (gateway.endpoint(), &gateway.program.stderr);
    assert_eq!(client.status("GET", "/config"), 404);
    assert_eq!(client.status("GET", "/guest/hello"), 503);
    let by_signature =
        |comment: &str| json!({"by": "signature", "key": signer.key(), "comment": comment});
    assert_eq!(trusted(&gateway.status(), "restic"), by_signature("restic of today"));
    let why = refused(&gateway, "hostile.wasm")["why"].as_str().unwrap().to_owned();
    assert!(
        why.contains("it is not signed") && why.contains("minisign -S -m hostile.wasm"),
        "{why}"
    );

    let from = log.count();
    signer.sign_file(&setup.plugin("hostile"), "late, but there");
    let (_, line) = log.wait_for(from, &["plugin loaded", "hostile.wasm"]);
    assert!(line.contains("late, but there"), "{line}");
    log.wait_for(from, &["serving", "refused=0"]);
    assert_eq!(client.get("/guest/hello").text(), "hello ");

    // Signed again: the status shows the new comment, and the component is not loaded again.
    let from = log.count();
    signer.sign_file(&setup.plugin("hostile"), "once more");
    log.wait_for(from, &["serving", "refused=0"]);
    assert_eq!(trusted(&gateway.status(), "hostile"), by_signature("once more"));

    // A new pair: the signature first, half of it at first, then half of the component.
    let new = tagged(&tools::plugin("restic"), 2);
    let signature = signer.sign(&new, "the next one");
    let from = log.count();
    fs::write(signature_of(&setup.plugin("restic")), &signature[..100]).unwrap();
    fs::write(setup.plugin("restic"), half(&new)).unwrap();
    fs::write(signature_of(&setup.plugin("restic")), &signature).unwrap();
    fs::write(setup.plugin("restic"), &new).unwrap();
    log.wait_for(from, &["plugin loaded", &sha256(new.as_slice())[..12]]);
    log.wait_for(from, &["serving", "refused=0"]);
    assert!(!log.since(from).contains("plugin refused"), "{}", log.since(from));
    assert_eq!(trusted(&gateway.status(), "restic"), by_signature("the next one"));

    // A component without a signature, or signed by an unknown key, does not replace it.
    let stranger = Signer::new();
    let from = log.count();
    setup.install("restic", &tagged(&new, 3));
    log.wait_for(from, &["plugin refused", "not of these bytes"]);
    let from = log.count();
    stranger.sign_file(&setup.plugin("restic"), "trust me");
    log.wait_for(from, &["plugin refused", "a key that the configuration does not name"]);
    assert_eq!(client.status("GET", "/config"), 404);
    assert_eq!(trusted(&gateway.status(), "restic"), by_signature("the next one"));
    gateway.stop();
}

/// With the program that the messages name, in both of its formats.
#[test]
fn signatures_by_minisign_itself_are_accepted() {
    let Some(minisign) = tools::find_for("minisign", "plugins signed by minisign itself") else {
        return;
    };
    let run = |setup: &Setup, arguments: &[&str]| {
        let mut command = std::process::Command::new(&minisign);
        command.current_dir(setup.path("plugins")).args(arguments);
        tools::run(command).success();
    };
    let setup = setup("keys_file = \"plugins/plugins.pub\"");
    run(&setup, &["-G", "-W", "-p", "plugins.pub", "-s", "../secret.key"]);
    run(&setup, &["-S", "-s", "../secret.key", "-m", "restic.wasm"]);
    run(&setup, &["-S", "-l", "-s", "../secret.key", "-m", "hostile.wasm"]);
    let gateway = setup.start();
    assert_eq!(gateway.endpoint().status("GET", "/config"), 404);
    assert_eq!(gateway.endpoint().get("/guest/hello").text(), "hello ");
    let comment = trusted(&gateway.status(), "restic")["comment"].clone();
    assert!(comment.as_str().unwrap().contains("restic.wasm"), "{comment}");
    gateway.stop();
}

#[test]
fn a_reload_removes_what_its_rules_do_not_allow() {
    let (one, two) = (Signer::new(), Signer::new());
    let setup = setup(&keys(&[&one, &two]));
    one.sign_file(&setup.plugin("restic"), "one");
    two.sign_file(&setup.plugin("hostile"), "two");
    let gateway = setup.start();
    let client = gateway.endpoint();
    let statuses = || (client.status("GET", "/config"), client.status("GET", "/guest/hello"));
    assert_eq!(statuses(), (404, 200));

    // A key is revoked: what it signed no longer serves, and that is logged.
    setup.edit(|text| text.replace(&keys(&[&one, &two]), &keys(&[&one])));
    let said = gateway.reload();
    assert!(said.contains("the new rules do not trust it") && said.contains("hostile"), "{said}");
    assert_eq!(statuses(), (404, 503));
    assert_eq!(refused(&gateway, "hostile.wasm")["older_serves"], false);

    // With these rules nothing would serve, so they are rejected and everything stays as it was.
    let nobody = Signer::new();
    setup.edit(|text| text.replace(&keys(&[&one]), &keys(&[&nobody])));
    let said = gateway.reload();
    assert!(said.contains("configuration rejected, the current one stays active error="), "{said}");
    assert!(said.contains(": mount /: "), "{said}");
    assert!(said.contains("a key that the configuration does not name"), "{said}");
    assert_eq!(statuses(), (404, 503));
    assert_eq!(trusted(&gateway.status(), "restic")["key"], one.key());

    // A digest instead of a key; then both again; then no rules at all.
    let digest = allow(&[&tools::guest("hostile")]);
    setup.edit(|text| text.replace(&keys(&[&nobody]), &format!("{digest}\n{}", keys(&[&one]))));
    gateway.reload();
    assert_eq!(statuses(), (404, 200));
    assert_eq!(trusted(&gateway.status(), "hostile"), json!({"by": "digest"}));
    setup.edit(|text| text.replace(&format!("[plugins]\n{digest}\n{}", keys(&[&one])), ""));
    let said = gateway.reload();
    assert!(!said.contains("ERROR"), "{said}");
    assert_eq!(statuses(), (404, 200));
    assert_eq!(gateway.status()["trust"], Value::Null);
    gateway.stop();
}

#[test]
fn an_unusable_file_of_keys_leaves_the_rules_as_they_were() {
    let signer = Signer::new();
    let setup = setup("keys_file = \"trusted.pub\"");
    fs::write(setup.path("trusted.pub"), format!("untrusted comment: x\n{}\n", signer.key()))
        .unwrap();
    signer.sign_file(&setup.plugin("restic"), "signed");
    let gateway = setup.start();
    fs::write(setup.path("trusted.pub"), "nonsense\n").unwrap();
    let said = gateway.reload();
    assert!(said.contains("configuration rejected") && said.contains("trusted.pub"), "{said}");
    assert_eq!(gateway.endpoint().status("GET", "/config"), 404);
    gateway.stop();
    let error = tools::run(keepgate(&["serve", "--config", text(&setup.config())])).fails_with(1);
    assert!(error.contains("trusted.pub") && error.contains("\"nonsense\""), "{error}");
}

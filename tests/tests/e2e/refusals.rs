//! What the gateway refuses at a mount has the form of the mount's surface: JSON for etcd's, text for restic's, and
//! whatever another plugin declares. `Retry-After` is there only if trying again can help.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;

use keepgate_tests::client::Reply;
use keepgate_tests::component::{of_another_version, with_section};
use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::program::keepgate;
use keepgate_tests::tools;
use serde_json::json;

const LIST: &str = "/etcd/api/v1/backup";
/// A cluster that nobody has to reach.
const NOWHERE: &str = "[etcd.main]\nendpoints = [\"http://127.0.0.1:1\"]\n";

/// Mounts of etcd's and restic's surfaces; `etcd` and `restic` are added to their tables.
fn mounts(setup: Setup, etcd: &str, restic: &str) -> Setup {
    setup.install("etcd", &tools::plugin("etcd"));
    let etcd = format!("etcd = {{ main = \"main\" }}\n{etcd}");
    setup.mount("/etcd", "etcd", &etcd).mount("/restic", "restic", restic)
}

/// Checks that a response is a refusal in etcd's form, with this message, and returns its `error`.
#[track_caller]
fn in_json(reply: &Reply, status: u16, message: &str) -> String {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
    let said = reply.json();
    let error = said["error"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned();
    assert_eq!(said, json!({"message": message, "error": error}));
    error
}

/// Checks that a response is a refusal as text, and returns it.
#[track_caller]
fn in_text(reply: &Reply, status: u16) -> String {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"), "{reply:?}");
    reply.text()
}

#[test]
fn who_is_not_admitted_is_told_so_in_the_form_of_the_surface() {
    let setup = Setup::new().user("ann", "secret").table(NOWHERE);
    let gateway = mounts(setup, "", "").start();
    for client in [gateway.endpoint(), gateway.as_user("ann", "wrong")] {
        let anonymous = client.get(LIST);
        let error = in_json(&anonymous, 401, "unauthorized");
        assert_eq!(error, "credentials are missing or wrong");
        assert!(anonymous.header("www-authenticate").unwrap().starts_with("Basic "));
        let head = client.send("HEAD", LIST, &[], b"");
        assert_eq!((head.status, head.body.len()), (401, 0));
        assert_eq!(head.header("content-type"), Some("application/json"));
        assert_eq!(in_text(&client.get("/restic/config"), 401), "Unauthorized\n");
    }
    let client = gateway.as_user("ann", "secret");
    let large = client.post(LIST, &[b'x'; 64 * 1024 + 1]);
    in_json(&large, 413, "request body too large");
    // A path that cannot be read still shows which mount it means.
    let error = in_json(&client.get("/etcd/%zz"), 400, "bad request");
    assert!(error.contains("percent sign"), "{error}");
    assert!(in_text(&client.get("/restic/%zz"), 400).starts_with("Bad Request: "));
    assert_eq!(in_text(&client.get("/nowhere"), 404), "Not Found\n");
    gateway.stop();
}

/// What `/status` says is wrong with a mount.
fn problem(gateway: &Gateway, path: &str) -> String {
    let status = gateway.status();
    let mounts = status["mounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["path"] == path).unwrap();
    mount["problem"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn settings_that_are_refused_are_named_to_the_operator_and_not_to_the_client() {
    let setup = mounts(
        Setup::new().table(NOWHERE),
        "settings = { rotate = 0 }",
        "settings = { private_repo = true }",
    );
    setup.write();
    let place = format!("{}:", text(&setup.config()));
    let mut check = keepgate(&["check", "--config"]);
    check.arg(setup.config());
    let said = tools::run(check);
    assert_eq!(said.status.code(), Some(1), "{}", said.stdout);
    for (path, setting) in [("/etcd", "rotate: cannot keep 0"), ("/restic", "`private_repo`")] {
        let mut lines = said.stdout.lines();
        let told = lines.any(|line| {
            line.contains(&place)
                && line.contains(&format!("mount {path}: "))
                && line.contains(setting)
        });
        assert!(told, "{path}: {}", said.stdout);
    }

    let gateway = setup.start();
    let log = &gateway.program.stderr;
    log.wait_for(0, &["mount refused", "mount=\"/etcd\"", "rotate: cannot keep 0", &place]);
    log.wait_for(0, &["mount refused", "mount=\"/restic\"", "private_repo", &place]);
    assert!(problem(&gateway, "/etcd").contains("rotate: cannot keep 0"));
    assert!(problem(&gateway, "/restic").contains("private_repo"));
    let client = gateway.endpoint();
    let refused = client.get(LIST);
    let error = in_json(&refused, 503, "service unavailable");
    assert!(error.starts_with("misconfigured: ") && !error.contains("rotate"), "{error}");
    assert_eq!(refused.header("retry-after"), None);
    let refused = client.get("/restic/config");
    let said = in_text(&refused, 503);
    assert!(said.starts_with("Service Unavailable: misconfigured: "), "{said}");
    assert!(!said.contains("private_repo"), "{said}");
    assert_eq!(refused.header("retry-after"), None);

    setup.edit(|text| {
        text.replace("rotate = 0", "rotate = 1").replace("private_repo", "private_repos")
    });
    gateway.reload();
    assert_eq!(client.get(LIST).json(), json!([]));
    assert_eq!(problem(&gateway, "/restic"), "");
    gateway.stop();
}

#[test]
fn a_plugin_that_has_gone_is_answered_in_the_form_that_it_had() {
    let setup = mounts(Setup::new().table(NOWHERE), "", "");
    let gateway = setup.start();
    let (client, log) = (gateway.endpoint(), &gateway.program.stderr);
    assert_eq!(client.get(LIST).status, 200);
    let from = log.count();
    for name in ["etcd", "restic"] {
        fs::remove_file(setup.plugin(name)).unwrap();
    }
    for name in ["etcd.wasm", "restic.wasm"] {
        let (line, _) = log.wait_for(from, &["plugin file removed", name]);
        log.wait_for(line, &["serving", "generation="]);
    }
    gateway.eventually("both are gone", |gateway| {
        [LIST, "/restic/config"].iter().all(|path| gateway.endpoint().get(path).status == 503)
    });
    let gone = client.get(LIST);
    let error = in_json(&gone, 503, "service unavailable");
    assert_eq!(error, "nothing serves this path at the moment");
    assert_eq!(gone.header("retry-after"), Some("5"));
    let gone = client.get("/restic/config");
    assert_eq!(
        in_text(&gone, 503),
        "Service Unavailable: nothing serves this path at the moment\n"
    );

    // A file that cannot be used, ever: whoever waits for it waits in vain.
    let from = log.count();
    setup.install("etcd", &of_another_version(&tools::plugin("etcd")));
    let (line, _) = log.wait_for(from, &["plugin refused", "etcd.wasm"]);
    log.wait_for(line, &["serving", "generation="]);
    let refused = client.get(LIST);
    let error = in_json(&refused, 503, "service unavailable");
    assert!(error.starts_with("misconfigured: "), "{error}");
    assert_eq!(refused.header("retry-after"), None);

    let from = log.count();
    setup.install("etcd", &tools::plugin("etcd"));
    log.wait_for(from, &["serving", "generation="]);
    assert_eq!(client.get(LIST).status, 200);
    gateway.stop();
}

#[test]
fn a_store_that_is_away_is_told_in_the_form_of_the_surface() {
    let setup = mounts(Setup::new().table(NOWHERE), "", "");
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(client.get(LIST).status, 200);
    fs::rename(setup.store(), setup.path("elsewhere")).unwrap();
    let error = in_json(&client.get(LIST), 503, "service unavailable");
    let said = in_text(&client.get("/restic/config"), 503);
    for said in [&error, &said] {
        assert!(!said.contains(text(&setup.store())), "{said}");
    }
    fs::rename(setup.path("elsewhere"), setup.store()).unwrap();
    assert_eq!(client.get(LIST).status, 200);
    gateway.stop();
}

#[test]
fn a_call_that_takes_too_long_is_told_in_the_form_of_the_surface() {
    // It accepts connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let cluster = format!("[etcd.main]\nendpoints = [\"{endpoint}\"]\ntimeout = \"60s\"\n");
    let limits = "limits = { time = \"1s\" }\n";
    let setup = mounts(Setup::new().table(&cluster), limits, limits);
    let gateway = setup.start();
    let late = gateway.endpoint().post(LIST, b"");
    let error = in_json(&late, 504, "request timed out");
    assert_eq!(error, "the request took too long");
    assert_eq!(late.header("retry-after"), None);

    assert_eq!(gateway.endpoint().post("/restic/?create=true", b"").status, 200);
    let mut connection = gateway.endpoint().connect();
    connection.write_head("POST", "/restic/config", &[("content-length", "10")]).unwrap();
    connection.write(b"half").unwrap();
    let late = connection.reply("POST").unwrap();
    assert_eq!(in_text(&late, 504), "Gateway Timeout: the request took too long\n");
    // Jobs and uploads that are going on must not keep it.
    gateway.stop();
}

#[test]
fn a_plugin_declares_whatever_form_its_surface_has() {
    let form = json!({
        "content_type": "application/xml",
        "body": "<Error><Code>{reason}</Code><Message>{message}</Message><Id>{request}</Id></Error>\n",
        "reasons": {"503": "SlowDown"},
    });
    let hostile = tools::guest("hostile");
    let declared = |form: &str| with_section(&hostile, "keepgate:refusals", form.as_bytes());
    let limits = "limits = { faults = 4, pause = \"10s\", cpu = \"100ms\" }\n";
    let setup = Setup::new().mount("/hostile", "hostile", limits);
    setup.install("hostile", &declared(&form.to_string()));
    let gateway = setup.start();
    let (client, log) = (gateway.endpoint(), &gateway.program.stderr);
    let ask = |path: &str| {
        let reply = client.get(path);
        assert_eq!(reply.header("content-type"), Some("application/xml"), "{}", reply.text());
        let (body, id) = (reply.text(), reply.text());
        let id = id.split_once("<Id>").unwrap().1.split_once("</Id>").unwrap().0.to_owned();
        (reply, body.replace(&id, "ID"), id)
    };
    let from = log.count();
    let (trap, body, id) = ask("/hostile/trap");
    assert_eq!(trap.status, 500);
    let message = "internal error; the gateway&#39;s log says why";
    let code = "Internal Server Error";
    assert_eq!(
        body,
        format!("<Error><Code>{code}</Code><Message>{message}</Message><Id>ID</Id></Error>\n")
    );
    log.wait_for(from, &["request failed", &id, "broke down"]);
    let (looping, body, _) = ask("/hostile/loop");
    assert_eq!((looping.status, looping.header("retry-after")), (503, None), "{body}");
    assert!(body.contains("<Code>SlowDown</Code>"), "{body}");
    for _ in 0..2 {
        ask("/hostile/trap");
    }
    let (suspended, body, _) = ask("/hostile/hello");
    assert_eq!(suspended.status, 503, "{body}");
    assert!(suspended.header("retry-after").is_some());

    // A mistake in the form is refused with the file, what is wrong, and what would be right.
    let wrong = declared(&form.to_string().replace("{message}", "{mesage}"));
    let from = log.count();
    setup.install("hostile", &wrong);
    let told = &["`refusals.json`", "unknown placeholder {mesage}", "{message}"];
    let (line, _) = log.wait_for(from, &[&["plugin refused", "hostile.wasm"][..], told].concat());
    log.wait_for(line, &["serving", "generation="]);
    for command in [&["plugin", "check"][..], &["plugin", "check", "--json"]] {
        let mut command = keepgate(command);
        command.arg(setup.plugin("hostile"));
        let said = tools::run(command);
        assert_eq!(said.status.code(), Some(1), "{}", said.stdout);
        for part in told {
            assert!(said.stdout.contains(part), "{}", said.stdout);
        }
    }
    gateway.stop();
}

#[test]
fn plugin_check_shows_the_form() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("etcd.wasm");
    fs::File::create(&file).unwrap().write_all(&tools::plugin("etcd")).unwrap();
    let said = tools::run(keepgate(&["plugin", "check", text(&file)])).success();
    let line = said.lines().find(|line| line.trim_start().starts_with("refusals ")).unwrap();
    assert!(line.contains("application/json"), "{line}");
    let said = tools::run(keepgate(&["plugin", "inspect", text(&file)])).success();
    assert!(said.contains("keepgate:refusals"), "{said}");
}
